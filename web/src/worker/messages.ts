// Messages as they come from a page or out of a snapshot: checked, and copied without other fields.
import type { ChatMessage } from '../api/messages.js';
import { invalidArgument } from '../api/errors.js';
import { plainObject } from '../api/json.js';
import type { ToolCall } from '../api/tools.js';

const isText = (value: unknown): value is string => typeof value === 'string';

function checkCall(call: unknown, name: string): ToolCall {
  const { id, name: tool, arguments: given } = (call ?? {}) as Partial<ToolCall>;
  if (isText(id) && isText(tool)) {
    return { id, name: tool, arguments: plainObject(`${name}.arguments`, given) };
  }
  throw invalidArgument(name, call, '{ id, name, arguments }');
}

function checkMessage(message: unknown, i: number, isLast: boolean): ChatMessage {
  const { role, content, prefix, toolCalls, toolCallId, name, reasoning } =
    (message ?? {}) as Partial<ChatMessage>;
  if (!isText(role) || !isText(content)) {
    throw invalidArgument(`message ${i}`, message, '{ role, content }, both strings');
  }
  const checked: ChatMessage = { role, content };
  for (const [field, value] of Object.entries({ toolCallId, name, reasoning })) {
    if (value === undefined) continue;
    if (!isText(value)) throw invalidArgument(`message ${i}: ${field}`, value, 'text');
    Object.assign(checked, { [field]: value });
  }
  if (toolCalls !== undefined) {
    if (!Array.isArray(toolCalls) || role !== 'assistant') {
      throw invalidArgument(`message ${i}: toolCalls`, toolCalls, 'a list, of the role assistant');
    }
    checked.toolCalls = toolCalls.map((call, at) =>
      checkCall(call, `message ${i}: toolCalls[${at}]`));
  }
  if (prefix === undefined || prefix === false) return checked;
  if (prefix === true && role === 'assistant' && isLast) return { ...checked, prefix };
  throw invalidArgument(`message ${i}: prefix`, prefix,
    'true on the last message only, of the role assistant');
}

/** Error: INVALID_ARGUMENT. */
export function checkMessages(messages: unknown): ChatMessage[] {
  if (!Array.isArray(messages)) throw invalidArgument('messages', messages, 'an array');
  return messages.map((message, i) => checkMessage(message, i, i === messages.length - 1));
}

/** Checked messages without the prefix of an answer, and that; '' when there is none. */
export function splitPrefix(messages: ChatMessage[]): { whole: ChatMessage[]; prefix: string } {
  const last = messages.at(-1);
  return last?.prefix === true ? { whole: messages.slice(0, -1), prefix: last.content }
    : { whole: messages, prefix: '' };
}
