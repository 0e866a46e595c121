// Messages of the Prompt API as a session takes them.
import { checkOneOf } from '../api/errors.js';
import type { ChatMessage } from '../api/messages.js';
import type { ResponseConstraint } from '../api/session.js';

interface LanguageModelToolCall {
  callID: string;
  name: string;
  arguments: Record<string, unknown>;
}

interface LanguageModelToolResponse {
  callID: string;
  name: string;
  result: string | readonly { type: 'text'; value: string }[];
}

/** 'tool-call': of the role 'assistant'. 'tool-response': of the role 'user'. */
type LanguageModelContent = { type: 'text'; value: string } |
  { type: 'tool-call'; value: LanguageModelToolCall } |
  { type: 'tool-response'; value: LanguageModelToolResponse };

export interface LanguageModelMessage {
  role: 'system' | 'user' | 'assistant';
  content: string | readonly LanguageModelContent[];
  /** true: the answer goes on from this content. Only on the last message of a prompt, of the role
   * 'assistant' (SyntaxError). */
  prefix?: boolean | undefined;
}

export type LanguageModelPrompt = string | readonly LanguageModelMessage[];

export const unsupported = (what: string) => new DOMException(`${what} is not supported`,
  'NotSupportedError');

const textTypes = ['text', 'tool-call', 'tool-response'];

/** The text of a message; calls and results are taken out. Errors: NotSupportedError, TypeError. */
function textOf(content: LanguageModelMessage['content']): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw new TypeError('content is neither text nor a list of parts');
  return content.map((part: LanguageModelContent | null) => {
    const { type, value } = part ?? {};
    if (!textTypes.includes(String(type))) throw unsupported(`content of type ${String(type)}`);
    const isText = type === 'text';
    if (typeof value !== (isText ? 'string' : 'object') || value === null) {
      throw new TypeError(`content of type ${String(type)} is not ${isText ? 'a string'
        : 'an object'}`);
    }
    return isText ? value : '';
  }).join('');
}

/** Results come before what is said beside them. */
function toMessages(message: LanguageModelMessage, role: string): ChatMessage[] {
  const content = textOf(message.content);
  const parts = typeof message.content === 'string' ? [] : message.content;
  const calls = parts.flatMap(({ type, value }) => (type !== 'tool-call' ? []
    : [{ id: value.callID, name: value.name, arguments: value.arguments }]));
  const results = parts.flatMap(({ type, value }) => (type !== 'tool-response' ? []
    : [{ role: 'tool', content: textOf(value.result), toolCallId: value.callID,
      name: value.name }]));
  if (calls.length > 0 && role !== 'assistant') {
    throw new TypeError('content of type tool-call is of the role assistant');
  }
  if (results.length > 0 && role !== 'user') {
    throw new TypeError('content of type tool-response is of the role user');
  }
  if (results.length > 0 && content === '') return results;
  return [...results, { role, content, ...(calls.length === 0 ? {} : { toolCalls: calls }) }];
}

/** Errors: those of the standard. `isFirst`: nothing was said before. */
export function messagesOf(input: LanguageModelPrompt, isFirst: boolean): ChatMessage[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  if (!Array.isArray(input)) throw new TypeError('input is neither text nor a list of messages');
  if (input.length === 0) return [{ role: 'user', content: '' }];
  return input.flatMap((message: LanguageModelMessage, i) => {
    const role = checkOneOf('role', message?.role, ['system', 'user', 'assistant']);
    if (role === 'system' && !(isFirst && i === 0)) {
      throw new TypeError('only the first message of a session can be of the role system');
    }
    const messages = toMessages(message, role);
    if (message.prefix !== true) return messages;
    if (role === 'assistant' && i === input.length - 1) {
      return messages.map((one) => ({ ...one, prefix: true }));
    }
    throw new DOMException('only the last message can be a prefix, of the role assistant',
      'SyntaxError');
  });
}

/** What a model is told of a constraint. Error: NotSupportedError. */
export function constraintText(constraint: ResponseConstraint): string {
  if (constraint === true) return 'Answer in JSON.';
  if (constraint instanceof RegExp) {
    return `Answer with text that matches this regular expression: ${constraint.source}`;
  }
  try {
    return `Answer in JSON of this schema: ${JSON.stringify(constraint)}`;
  } catch {
    throw unsupported('a responseConstraint that is no JSON');
  }
}

/** The text at the end of what the user says last: templates may not take two messages in a row. */
export function withText(messages: ChatMessage[], text: string): ChatMessage[] {
  const at = messages.findLastIndex(({ role }) => role === 'user');
  const { content = '' } = messages[at] ?? {};
  const user = { role: 'user', content: content === '' ? text : `${content}\n\n${text}` };
  if (at >= 0) return messages.with(at, user);
  const end = messages.at(-1)?.prefix === true ? messages.length - 1 : messages.length;
  return messages.toSpliced(end, 0, user);
}
