// A session with its past as messages or text: turns inputs into the tokens to append.
//
// In a chat each input is rendered with all messages before it. What the session holds is the
// beginning of that rendering, so only the rest is new; where a template or a tokenizer sees the
// past differently now (a stop string that was cut, thoughts that a template drops), the session
// is cut back to what they have in common.
import type { ChatMessage } from '../api/messages.js';
import { encodeChat } from '../text/chat-template.js';
import { invalidArgument } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { checkTextRoom } from '../engine/room.js';
import type { WireInput } from '../wire/protocol.js';
import type { Settings } from './saved-session.js';
import type { Session } from '../engine/session.js';

/** An input as tokens: keep the first `keep`, append `ids`; then these are past and text. */
export interface Plan {
  keep: number;
  ids: Int32Array;
  messages: ChatMessage[];
  text: string;
  /** Beginning of the answer that will follow; text ends with it. */
  prefix?: string | undefined;
}

/** What a conversation is beside its session, as plain data. */
export interface Past {
  chat: boolean;
  messages: ChatMessage[];
  /** What the session's tokens stand for, special tokens included; used in a chat only. */
  text: string;
  /** Tokens after each message; empty once the window has slid. */
  ends: number[];
}

/** Error: INVALID_ARGUMENT. */
export function checkMessages(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages)) throw invalidArgument('messages', messages, 'an array');
  return messages.map((message: unknown, i) => {
    const { role, content, prefix } = (message ?? {}) as Partial<ChatMessage>;
    if (typeof role !== 'string' || typeof content !== 'string') {
      throw invalidArgument(`message ${i}`, message, '{ role, content }, both strings');
    }
    if (prefix === undefined || prefix === false) return { role, content };
    if (prefix === true && role === 'assistant' && i === messages.length - 1) {
      return { role, content, prefix };
    }
    throw invalidArgument(`message ${i}: prefix`, prefix,
      'true on the last message only, of the role assistant');
  });
}

/** Checked messages without the prefix of an answer, and that; '' when there is none. */
export function splitPrefix(messages: ChatMessage[]): { whole: ChatMessage[]; prefix: string } {
  const last = messages.at(-1);
  return last?.prefix === true ? { whole: messages.slice(0, -1), prefix: last.content }
    : { whole: messages, prefix: '' };
}

function commonStart(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let n = 0;
  while (n < most && a[n] === b[n]) n += 1;
  return n;
}

export class Conversation {
  readonly id: number;
  readonly settings: Settings;
  #session: Session;
  #past: Past;
  #slides = 0;
  /** Tokens after the last change. */
  #length: number;
  #answer: { text: string; tokens: number[] } | undefined;

  /** Owns the session. */
  constructor(id: number, session: Session, past: Past, settings: Settings) {
    this.id = id;
    this.settings = settings;
    this.#session = session;
    this.#past = past;
    this.#length = session.length;
  }

  /** Nothing said yet. */
  static empty(chat: boolean): Past {
    return { chat, messages: [], text: '', ends: [] };
  }

  get session(): Session {
    return this.#session;
  }

  get model(): Model {
    return this.session.model;
  }

  /** With the answer that is on its way, as far as it is. */
  get past(): Past {
    const { chat, messages, text, ends } = this.#past;
    const past = { chat, messages: [...messages], text, ends: [...ends] };
    if (this.#answer !== undefined) this.#addTo(past, this.#answer);
    return past;
  }

  /** An answer is on its way: between turns the session is whole. */
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

  /** That many tokens were appended: if there are fewer now, the window slid, and positions of
   * messages are not known any more. */
  hasGrown(added: number): void {
    const { length } = this.session;
    if (length !== this.#length + added) {
      this.#slides += 1;
      this.#past.ends = [];
    }
    this.#length = length;
  }

  /** The tokens of an input; `answers`: an answer will follow. Errors: INVALID_ARGUMENT,
   * TOKEN_OUT_OF_RANGE, UNSUPPORTED_TOKENIZER, NO_CHAT_TEMPLATE, BAD_CHAT_TEMPLATE, and
   * CONTEXT_FULL for a text so long that it need not be encoded to know that it does not fit. */
  plan(input: WireInput, answers: boolean): Plan {
    return this.#plan(input, answers, (text) => checkTextRoom(this.session, text));
  }

  /** How many tokens an input, with the opening of the answer, would add. Errors as plan, but
   * CONTEXT_FULL. */
  measure(input: WireInput): number {
    const { keep, ids } = this.#plan(input, true, () => {});
    return keep + ids.length - this.session.length;
  }

  #plan(input: WireInput, answers: boolean, check: (text: string) => void): Plan {
    const { session, model } = this;
    const { messages, text } = this.#past;
    if (typeof input !== 'object' || input === null) {
      throw invalidArgument('input', input, 'text, messages or tokens');
    }
    if ('tokens' in input) {
      const ids = model.checkTokens(input.tokens);
      const more = this.chat ? model.tokenizer.decode(ids, { special: true }) : '';
      return { keep: session.length, ids, messages: [...messages], text: text + more };
    }
    if (this.chat) return this.#planChat(input, answers, check);
    if (!('text' in input) || typeof input.text !== 'string') {
      throw invalidArgument('input', 'text' in input ? input.text : 'messages',
        'text or tokens: the session is no chat');
    }
    check(input.text);
    const ids = model.tokenizer.encode(input.text, { begin: session.length === 0 });
    return { keep: session.length, ids: Int32Array.from(ids), messages: [], text: '' };
  }

  #planChat(input: WireInput, answers: boolean, check: (text: string) => void): Plan {
    const { session, model } = this;
    const { tokenizer } = model;
    const before = this.#past.messages;
    const { whole, prefix } = splitPrefix('text' in input
      ? checkMessages([{ role: 'user', content: input.text }])
      : checkMessages('messages' in input ? input.messages : undefined));
    if (prefix !== '' && !answers) {
      throw invalidArgument('prefix', true, 'none: no answer follows');
    }
    const messages = [...before, ...whole];
    const text = model.chatTemplate.render(messages, { addGenerationPrompt: answers }) + prefix;
    check(text);
    const past = this.#past.text;
    if (session.length > 0 && text.startsWith(past)) {
      const ids = tokenizer.encode(text.slice(past.length), { special: true, begin: false });
      return { keep: session.length, ids: Int32Array.from(ids), messages, text, prefix };
    }
    if (this.#slides > 0) {
      // What slid out cannot be cut back to: only what the new messages add can follow.
      const old = model.chatTemplate.render([...before], { addGenerationPrompt: false });
      const more = text.startsWith(old) ? text.slice(old.length) : text;
      const ids = tokenizer.encode(more, { special: true, begin: false });
      return { keep: session.length, ids: Int32Array.from(ids), messages, text, prefix };
    }
    const ids = Int32Array.from(encodeChat(tokenizer, text));
    const keep = commonStart(session.tokens(), ids);
    return { keep, ids: ids.subarray(keep), messages, text, prefix };
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
    const { session } = this;
    const { length } = session;
    const end = plan.keep + plan.ids.length;
    if (plan.keep === length && end <= session.contextLength) {
      return (undo) => {
        if (undo) this.cut(length);
      };
    }
    // It will be cut, or may slide: a clone keeps what goes.
    const kept = session.clone();
    return (undo) => {
      (undo ? this.#session : kept).destroy();
      if (undo) this.#session = kept;
      this.#length = this.#session.length;
    };
  }

  /** The plan was carried out. Where it cut messages, they end somewhere before its end. */
  commit(plan: Plan): void {
    const { length } = this.session;
    const added = plan.messages.length - this.#past.messages.length;
    const ends = this.#past.ends.map((end) => (end <= plan.keep ? end : length));
    const known = ends.length === this.#past.messages.length;
    this.#past.ends = known ? [...ends, ...Array.from({ length: added }, () => length)] : [];
    this.#past.messages = plan.messages;
    this.#past.text = plan.text;
  }

  /** The message will begin with the plan's prefix. */
  beginAnswer({ prefix = '' }: Plan): void {
    this.#answer = { text: prefix, tokens: [] };
  }

  /** A part of the answer came; its token stands in the session. */
  growAnswer(text: string, token: number | undefined): void {
    if (this.#answer === undefined) return;
    this.#answer.text += text;
    if (token === undefined) return;
    this.#answer.tokens.push(token);
    this.hasGrown(1);
  }

  /** The answer is whole, or it was ended: what came of it is past. */
  endAnswer(): void {
    const answer = this.#answer;
    this.#answer = undefined;
    if (answer !== undefined) this.#addTo(this.#past, answer);
  }

  #addTo(past: Past, { text, tokens }: { text: string; tokens: number[] }): void {
    if (!past.chat) return;
    const raw = this.model.tokenizer.stream({ special: true, continues: true });
    past.text += tokens.map((token) => raw.push(token)).join('') + raw.end();
    const known = past.ends.length === past.messages.length;
    past.messages.push({ role: 'assistant', content: text });
    if (known) past.ends.push(this.session.length);
  }

  /** Keeps the first `count` tokens, and the messages that are whole in them. */
  truncate(count: number): void {
    this.cut(count);
    if (!this.chat) return;
    const { messages, ends } = this.#past;
    if (ends.length === messages.length) {
      const kept = ends.filter((end) => end <= count).length;
      this.#past.messages = messages.slice(0, kept);
      this.#past.ends = ends.slice(0, kept);
    }
    this.#past.text = this.model.tokenizer.decode(this.session.tokens(), { special: true });
  }

  /** The same past on a session of its own. */
  clone(id: number): Conversation {
    const clone = new Conversation(id, this.session.clone(), this.past, { ...this.settings });
    clone.#slides = this.#slides;
    return clone;
  }
}
