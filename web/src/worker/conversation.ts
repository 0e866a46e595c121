// A session with its past as messages or text. An input becomes a plan (plan.ts), which is carried
// out and then committed, or undone; an answer grows part by part until it is past too.
import type { ChatMessage } from '../api/messages.js';
import type { ToolCall } from '../api/tools.js';
import type { AnswerPiece, AnswerReader } from '../text/answer-reader.js';
import type { Model } from '../engine/model.js';
import { checkTextRoom } from '../engine/room.js';
import { planInput } from './plan.js';
import type { Asking, Past, Plan, Start } from './plan.js';
import type { WireInput } from '../wire/protocol.js';
import type { Settings } from './saved-session.js';
import { cutBetween, shifted } from './turns.js';
import type { Session } from '../engine/session.js';

/** An answer on its way. */
interface Answer {
  text: string;
  reasoning: string;
  calls: ToolCall[];
  tokens: number[];
  reader: AnswerReader;
}

function grow(answer: Answer, pieces: readonly AnswerPiece[]): void {
  for (const piece of pieces) {
    if (piece.type === 'text') answer.text += piece.text;
    else if (piece.type === 'reasoning') answer.reasoning += piece.text;
    else answer.calls.push(piece.call);
  }
}

export class Conversation {
  readonly settings: Settings;
  #session: Session;
  #past: Past;
  #slides = 0;
  /** Tokens after the last change. */
  #length: number;
  #answer: Answer | undefined;

  /** Owns the session. */
  constructor(session: Session, past: Past, settings: Settings) {
    this.settings = settings;
    this.#session = session;
    this.#past = past;
    this.#length = session.length;
  }

  get session(): Session {
    return this.#session;
  }

  get model(): Model {
    return this.session.model;
  }

  /** With the answer that is on its way, as far as it is. */
  get past(): Past {
    const { messages, ends, turns, ...rest } = this.#past;
    const past = { ...rest, messages: [...messages], ends: [...ends], turns: [...turns] };
    if (this.#answer !== undefined) this.#addTo(past, this.#answer);
    return past;
  }

  /** An answer is on its way: between steps the session is whole. */
  get isAnswering(): boolean {
    return this.#answer !== undefined;
  }

  get messages(): readonly ChatMessage[] {
    return this.#past.messages;
  }

  get chat(): boolean {
    return this.#past.chat;
  }

  /** How often the window has slid. */
  get slides(): number {
    return this.#slides;
  }

  /** That many tokens were appended: if there are fewer now, the window slid. */
  hasGrown(added: number): void {
    const { length } = this.session;
    const forgotten = this.#length + added - length;
    this.#length = length;
    if (forgotten === 0) return;
    this.#forget(forgotten);
    this.#cutBetween();
  }

  #forget(count: number): void {
    const { keep } = this.settings;
    this.#slides += 1;
    this.#past.forgotten += count;
    this.#past.ends = shifted(this.#past.ends, keep, count);
    this.#past.turns = shifted(this.#past.turns, keep, count).filter((at) => at > keep);
  }

  get #cut(): number {
    return cutBetween(this.#past.turns, this.settings.keep, this.session.contextWindow);
  }

  /** A window that slides forgets whole turns. */
  #cutBetween(): void {
    if (this.chat && this.session.slides) this.session.cutAt(this.#cut);
  }

  /** Before a plan runs: the session is cut to what it keeps. Gives the plan that is to run: where
   * only all turns before this one can make room, they go now. */
  begin(plan: Plan): Plan {
    const { keep, ids, turn } = plan;
    const end = keep + ids.length;
    this.#past.ends = this.#past.ends.map((at) => (at <= keep ? at : turn ?? end));
    this.#past.turns = this.#past.turns.filter((at) => at <= keep);
    if (turn !== undefined && turn > this.settings.keep) this.#past.turns.push(turn);
    const forgetsAll = turn !== undefined && turn >= keep && end > this.session.contextWindow &&
      this.#cut === turn;
    const kept = forgetsAll ? Math.min(keep, this.settings.keep) : keep;
    this.cut(kept);
    if (forgetsAll) this.#forget(turn - kept);
    this.#cutBetween();
    return forgetsAll ? { ...plan, keep: kept, ids: ids.subarray(turn - keep) } : plan;
  }

  /** The tokens of an input; `answers`: an answer will follow. Errors: INVALID_ARGUMENT,
   * TOKEN_OUT_OF_RANGE, UNSUPPORTED_TOKENIZER, NO_CHAT_TEMPLATE, BAD_CHAT_TEMPLATE, and
   * CONTEXT_FULL for a text so long that it need not be encoded to know that it does not fit. */
  plan(input: WireInput, answers: boolean, asking: Asking = {}): Plan {
    return planInput(this.#start(), input, answers, asking,
      (text) => checkTextRoom(this.session, text));
  }

  /** How many tokens an input, with the opening of the answer, would add. Errors as plan, but
   * CONTEXT_FULL. */
  measure(input: WireInput): number {
    const { keep, ids } = planInput(this.#start(), input, true, {}, () => {});
    return keep + ids.length - this.session.length;
  }

  #start(): Start {
    const { session, model, settings } = this;
    return { model, settings, past: this.#past, length: session.length,
      tokens: () => session.tokens() };
  }

  /** Cuts the session to what a plan keeps. */
  cut(count: number): void {
    this.session.truncate(count);
    this.#length = count;
  }

  /**
   * Gives the function that makes the session what it is now, whatever was done to it, and is to
   * be called with `true` for that and with `false` to forget about it.
   */
  keepForUndo(plan: Plan): (undo: boolean) => void {
    const { session, past } = this;
    const { length } = session;
    const end = plan.keep + plan.ids.length;
    if (plan.keep === length && end <= session.contextWindow) {
      return (undo) => {
        if (!undo) return;
        this.cut(length);
        this.#past = past;
      };
    }
    // It will be cut, or may slide: a clone keeps what goes.
    const kept = session.clone();
    return (undo) => {
      (undo ? this.#session : kept).destroy();
      if (!undo) return;
      this.#session = kept;
      this.#past = past;
      this.#length = kept.length;
    };
  }

  /** The plan was carried out. */
  commit(plan: Plan): void {
    const { length } = this.session;
    const added = plan.messages.length - this.#past.messages.length;
    this.#past.ends = [...this.#past.ends, ...Array.from({ length: added }, () => length)];
    this.#past.messages = plan.messages;
    this.#past.text = plan.text;
  }

  /** The message will begin with the plan's prefix. */
  beginAnswer({ prefix = '' }: Plan, reader: AnswerReader): void {
    this.#answer = { text: prefix, reasoning: '', calls: [], tokens: [], reader };
  }

  /** A part of the answer came; its token stands in the session. Gives what it consists of. */
  growAnswer(text: string, token: number | undefined): AnswerPiece[] {
    const answer = this.#answer;
    if (answer === undefined) return [];
    if (token !== undefined) {
      answer.tokens.push(token);
      this.hasGrown(1);
    }
    const pieces = answer.reader.push(text + this.#markOf(token));
    grow(answer, pieces);
    return pieces;
  }

  /** A control token's text, which no text has: tags may be such. */
  #markOf(token: number | undefined): string {
    const { tokenizer } = this.model;
    if (token === undefined || !tokenizer.isControl(token) || tokenizer.ends.has(token)) return '';
    return tokenizer.textOf(token) ?? '';
  }

  /** The answer is whole, or it was ended: what came of it is past. Gives what had been held
   * back. */
  endAnswer(): AnswerPiece[] {
    const answer = this.#answer;
    if (answer === undefined) return [];
    const pieces = answer.reader.end();
    grow(answer, pieces);
    this.#answer = undefined;
    this.#addTo(this.#past, answer);
    return pieces;
  }

  #written(ids: Iterable<number>, continues: boolean): string {
    return this.model.chatTemplate.written(this.model.tokenizer, ids, continues);
  }

  #addTo(past: Past, { text, reasoning, calls, tokens }: Answer): void {
    if (!past.chat) return;
    past.text += this.#written(tokens, true);
    past.messages.push({ role: 'assistant', content: text,
      ...(reasoning === '' ? {} : { reasoning }),
      ...(calls.length === 0 ? {} : { toolCalls: [...calls] }) });
    past.ends.push(this.session.length);
  }

  /** Keeps the first `count` tokens, and the messages that are whole in them. */
  truncate(count: number): void {
    this.cut(count);
    if (!this.chat) return;
    const { messages, ends, turns } = this.#past;
    const kept = ends.filter((end) => end <= count).length;
    this.#past.messages = messages.slice(0, kept);
    this.#past.ends = ends.slice(0, kept);
    this.#past.turns = turns.filter((at) => at < count);
    this.#past.text = this.#written(this.session.tokens(), false);
  }

  /** The same past on a session of its own. */
  clone(): Conversation {
    const clone = new Conversation(this.session.clone(), this.past, { ...this.settings });
    clone.#slides = this.#slides;
    return clone;
  }
}
