// What an answer consists of, read as it comes: text, thoughts between their tags, calls of tools.
//
// Text that may be the beginning of a tag is held back until it is known not to be, and white space
// before a call is not text. A call that cannot be read is text: nothing is lost.
import type { ToolCall, ToolDeclaration } from '../api/tools.js';
import { overlap } from './stop-strings.js';
import { formsOf } from './tool-forms.js';
import type { ToolForm } from './tool-forms.js';

export type AnswerPiece = { type: 'text'; text: string } | { type: 'reasoning'; text: string } |
  { type: 'tool-call'; call: ToolCall };

export interface ThinkingForm {
  opener: string;
  closer: string;
  /** How the template writes the end of thoughts. */
  ending: string;
}

/** How thoughts are written, by what is in the chat template. */
const thinkingForms: readonly ThinkingForm[] = [
  { opener: '<think>', closer: '</think>', ending: '\n</think>\n\n' },
  { opener: '[THINK]', closer: '[/THINK]', ending: '[/THINK]' },
  { opener: '<seed:think>', closer: '</seed:think>', ending: '\n</seed:think>\n' },
  { opener: '<|channel>thought\n', closer: '<channel|>', ending: '\n<channel|>' },
];

export function thinkingFormOf(template: string): ThinkingForm | undefined {
  return thinkingForms.find(({ closer }) => template.includes(closer));
}

interface ReaderOptions {
  tools?: { form: ToolForm; declared: readonly ToolDeclaration[] } | undefined;
  thinking?: ThinkingForm | undefined;
  /** Where the answer begins: the prompt ended inside of thoughts, or of a call. */
  state?: 'text' | 'thinking' | 'call';
}

const letters = '0123456789abcdefghijklmnopqrstuvwxyz';

/** Nine letters and digits, as Mistral's templates want them. */
function makeCallId(): string {
  return [...crypto.getRandomValues(new Uint8Array(9))]
    .map((byte) => letters[byte % letters.length]).join('');
}

/** How much of the text's end has to wait for what follows it. */
function heldOf(text: string, marks: readonly string[], holdsBlanks: boolean): number {
  const ofMarks = marks.reduce((most, mark) => Math.max(most, overlap(text, mark)), 0);
  const blanks = holdsBlanks ? text.length - text.slice(0, text.length - ofMarks).trimEnd().length
    : 0;
  return Math.max(ofMarks, blanks);
}

export class AnswerReader {
  readonly #forms: readonly ToolForm[];
  readonly #declared: readonly ToolDeclaration[];
  /** Of the call that is being read. */
  #form: ToolForm | undefined;
  readonly #thinking: ThinkingForm | undefined;
  #state: 'text' | 'thinking' | 'call';
  #held = '';
  /** Nothing but white space came since the beginning, or since thoughts or a call ended. */
  #isBare = true;
  #isFirst = true;
  #dropsBlanks: boolean;

  constructor({ tools, thinking, state = 'text' }: ReaderOptions) {
    this.#forms = tools === undefined ? [] : formsOf(tools.form);
    this.#declared = tools?.declared ?? [];
    this.#form = tools?.form;
    this.#thinking = thinking;
    this.#state = state;
    this.#dropsBlanks = state === 'thinking';
  }

  push(text: string): AnswerPiece[] {
    this.#held += text;
    const pieces: AnswerPiece[] = [];
    for (;;) {
      const before = this.#held.length + this.#state;
      if (this.#state === 'call') this.#readCall(pieces, false);
      else this.#readText(pieces);
      if (this.#held.length + this.#state === before) return pieces;
    }
  }

  /** What was held back, when nothing more comes. */
  end(): AnswerPiece[] {
    const pieces: AnswerPiece[] = [];
    if (this.#state === 'call') this.#readCall(pieces, true);
    this.#say(pieces, this.#held);
    this.#held = '';
    return pieces;
  }

  get #marks(): readonly string[] {
    if (this.#state === 'thinking') return [this.#thinking?.closer ?? ''].filter(Boolean);
    return [...this.#forms.filter(({ isFirst }) => isFirst !== true || this.#isFirst)
      .map(({ opener }) => opener), this.#isBare ? this.#thinking?.opener : undefined]
      .filter((mark) => mark !== undefined);
  }

  #readText(pieces: AnswerPiece[]): void {
    const marks = this.#marks;
    const hits = marks.map((mark) => ({ mark, at: this.#held.indexOf(mark) }))
      .filter(({ at, mark }) => at >= 0 && (this.#formOf(mark)?.isFirst !== true ||
        this.#held.slice(0, at).trim() === ''))
      .sort((a, b) => a.at - b.at);
    const [hit] = hits;
    if (hit === undefined) {
      const held = heldOf(this.#held, marks, this.#forms.length > 0 || this.#state === 'thinking');
      this.#say(pieces, this.#held.slice(0, this.#held.length - held));
      this.#held = this.#held.slice(this.#held.length - held);
      return;
    }
    const text = this.#held.slice(0, hit.at);
    this.#held = this.#held.slice(hit.at + hit.mark.length);
    if (this.#state === 'thinking') {
      this.#say(pieces, text.trimEnd());
      this.#turnTo('text');
    } else {
      this.#say(pieces, text.trimEnd());
      this.#form = this.#formOf(hit.mark);
      this.#turnTo(this.#form === undefined ? 'thinking' : 'call');
    }
  }

  #formOf(mark: string): ToolForm | undefined {
    return this.#forms.find(({ opener }) => opener === mark);
  }

  #turnTo(state: 'text' | 'thinking' | 'call'): void {
    this.#state = state;
    this.#dropsBlanks = true;
    this.#isBare = true;
  }

  #say(pieces: AnswerPiece[], text: string): void {
    const said = this.#dropsBlanks ? text.trimStart() : text;
    if (said === '') return;
    this.#dropsBlanks = false;
    if (this.#state !== 'thinking' && said.trim() !== '') {
      this.#isBare = false;
      this.#isFirst = false;
    }
    pieces.push({ type: this.#state === 'thinking' ? 'reasoning' : 'text', text: said });
  }

  #readCall(pieces: AnswerPiece[], isOver: boolean): void {
    const form = this.#form as ToolForm;
    const next = form.closer === '' ? this.#held.indexOf(form.opener)
      : this.#held.indexOf(form.closer);
    if (next < 0 && !isOver) return;
    const text = next < 0 ? this.#held : this.#held.slice(0, next);
    const rest = next < 0 ? '' : this.#held.slice(next + (form.closer || form.opener).length);
    const calls = form.read(text, this.#declared);
    this.#held = rest;
    this.#isFirst = false;
    if (calls === undefined) {
      const closer = next < 0 ? '' : form.closer;
      this.#turnTo(form.closer === '' && next >= 0 ? 'call' : 'text');
      this.#dropsBlanks = false;
      pieces.push({ type: 'text', text: form.opener + text + closer });
      return;
    }
    for (const call of calls) {
      pieces.push({ type: 'tool-call', call: { id: makeCallId(), ...call } });
    }
    if (form.closer !== '' || next < 0) this.#turnTo('text');
  }
}
