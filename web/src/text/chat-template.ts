// Messages to the text that a chat model was trained on, by the file's own Jinja template.
import type { ChatMessage } from '../api/messages.js';
import type { ToolDeclaration } from '../api/tools.js';
import { Template } from '@huggingface/jinja';
import { OneKVError, reasonOf } from '../api/errors.js';
import { thinkingFormOf } from './answer-reader.js';
import type { ThinkingForm } from './answer-reader.js';
import { templateItems } from './chat-tools.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { CONTROL, UNKNOWN, idsOfType } from './keys.js';
import type { TextKeys } from './keys.js';
import { PlainMarks } from './plain-marks.js';
import { strftime } from './strftime.js';
import { rewriteTemplate, templateFunctions } from './template-rewrite.js';
import { runTemplate } from './template-run.js';
import type { Tokenizer } from './tokenizer.js';
import { toolFormOf } from './tool-forms.js';
import type { ToolForm } from './tool-forms.js';

export interface ChatTemplateOptions {
  /** Ends with the opening of the assistant's turn; default true. */
  addGenerationPrompt?: boolean | undefined;
  tools?: readonly ToolDeclaration[] | undefined;
  /** Variables that the template knows: enable_thinking and others. */
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
  /** The day that a template which prints one prints; default: today. */
  date?: Date | undefined;
}

const templateNames: NamesOf<ChatTemplateOptions> = {
  addGenerationPrompt: 'boolean', tools: true, templateArguments: true, date: true,
};

/** Characters of a template's source; models have up to some tens of thousands. */
const lettersMost = 1 << 18;
/** White space on end: the library's time for reading it grows with its square. */
const blanksMost = 1 << 11;

/** Error: BAD_CHAT_TEMPLATE. */
function checkSource(source: string): void {
  const bad = (what: string, found: number, most: number) => new OneKVError('BAD_CHAT_TEMPLATE',
    `tokenizer.chat_template: found ${found} characters of ${what}, expected at most ${most}`);
  if (source.length > lettersMost) throw bad('text', source.length, lettersMost);
  for (const [{ length }] of source.matchAll(/\s+/g)) {
    if (length > blanksMost) throw bad('white space', length, blanksMost);
  }
}

type TemplateKeys = Pick<TextKeys, 'chatTemplate' | 'tokens' | 'bos' | 'eos'> &
  Partial<Pick<TextKeys, 'types'>>;

export class ChatTemplate {
  /** The template's source, Jinja. */
  readonly source: string;
  readonly toolForm: ToolForm;
  /** How it writes thoughts, if it does. */
  readonly thinkingForm: ThinkingForm | undefined;
  readonly #program: Template['parsed'];
  readonly #tokens: Record<string, string>;
  readonly #marks: PlainMarks;
  readonly #assistantMarks: PlainMarks;

  /** Errors: NO_CHAT_TEMPLATE (plain prompts still work), BAD_CHAT_TEMPLATE. */
  constructor(keys: TemplateKeys | undefined) {
    if (keys?.chatTemplate === undefined) {
      throw new OneKVError('NO_CHAT_TEMPLATE', 'the file has no tokenizer.chat_template: it is ' +
        'not a chat model, or its template has to be given; plain prompts work');
    }
    this.source = keys.chatTemplate;
    checkSource(this.source);
    this.toolForm = toolFormOf(this.source).form;
    this.thinkingForm = thinkingFormOf(this.source);
    const text = (id: number | undefined) => (id === undefined ? '' : keys.tokens[id] ?? '');
    this.#tokens = { bos_token: text(keys.bos), eos_token: text(keys.eos) };
    this.#marks = new PlainMarks(idsOfType(keys, CONTROL, UNKNOWN).map(text));
    // What a model thought may be a part of what it said.
    const { opener = '', closer = '' } = this.thinkingForm ?? {};
    this.#assistantMarks = this.#marks.without([opener.trim(), closer]);
    try {
      // Jinja reads every end of a line as \n.
      const { parsed } = new Template(this.source.replace(/\r\n?/g, '\n'));
      this.#program = rewriteTemplate(parsed);
    } catch (error) {
      throw this.#bad(error);
    }
  }

  /**
   * The prompt as text, for encodeChat: what messages and tools say is marked (plain-marks.ts)
   * where it reads as a control token, and is not one. Error: BAD_CHAT_TEMPLATE with the
   * template's own words, where it refuses the messages.
   */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const tools = this.#marks.markAll(checkOptions('render', options, templateNames).tools ?? []);
    const marked = messages.map((message) => ({ ...this.#marks.markAll(message),
      content: this.mark(message.content, message.role) }));
    const items = (hasSystem: boolean) => ({
      ...options.templateArguments,
      ...templateItems(this.source, marked, tools, hasSystem),
      add_generation_prompt: options.addGenerationPrompt ?? true,
    });
    const date = options.date ?? new Date();
    try {
      return this.renderItems(items(true), date);
    } catch (error) {
      // Gemma 2 and others refuse a system's message.
      if (tools.length === 0 || messages.some(({ role }) => role === 'system')) throw error;
      return this.renderItems(items(false), date);
    }
  }

  /** What somebody of that role says, as `render` writes it. */
  mark(content: string, role: string): string {
    return (role === 'assistant' ? this.#assistantMarks : this.#marks).mark(content);
  }

  /** The answer to this prompt begins inside of thoughts. */
  endsInThoughts(text: string): boolean {
    const { opener } = this.thinkingForm ?? {};
    return opener !== undefined && text.trimEnd().endsWith(opener.trim());
  }

  /** The same of the template's own variables, without marks. */
  renderItems(items: object, date = new Date()): string {
    try {
      return runTemplate(this.#program, { ...items, ...this.#tokens, ...templateFunctions,
        strftime_now: (format: string) => strftime(date, format) });
    } catch (error) {
      throw this.#bad(error);
    }
  }

  /** The text that encodeChat takes for these tokens of an answer, without a last character that
   * is not whole, as generate() leaves it out; `continues`: others stand before them. */
  written(tokenizer: Tokenizer, ids: Iterable<number>, continues: boolean): string {
    const stream = tokenizer.stream({ special: true, continues });
    let text = '';
    let plain = '';
    for (const id of ids) {
      const shown = stream.push(id);
      if (tokenizer.isControl(id)) {
        text += this.mark(plain, 'assistant') + shown;
        plain = '';
      } else {
        plain += shown;
      }
    }
    return text + this.mark(plain, 'assistant');
  }

  #bad(error: unknown): OneKVError {
    if (error instanceof OneKVError) return error;
    return new OneKVError('BAD_CHAT_TEMPLATE', `tokenizer.chat_template: ${reasonOf(error)}`,
      { cause: error });
  }
}

/** A rendered chat, or its end (`continues`), as tokens. The beginning-of-text token is added where
 * the file asks for it, unless the template has written it already. */
export function encodeChat(tokenizer: Tokenizer, text: string, continues = false): number[] {
  const bos = tokenizer.bos === undefined ? undefined : tokenizer.textOf(tokenizer.bos);
  const begin = !continues && (bos === undefined || !text.startsWith(bos));
  return tokenizer.encode(text, { special: true, marked: true, begin });
}
