// What a request of onekv/openai asks for, in this package's words. What would change the answer
// and is not supported is refused by the caller's name for it.
import type { PromptOptions, ResponseConstraint } from '../api/session.js';
import type { ChatMessage } from '../api/messages.js';
import { plainObject } from '../api/json.js';
import { checkKind, unknownName } from '../api/options.js';
import type { Kind } from '../api/options.js';
import type { SamplingOptions } from '../api/sampling.js';
import type { Tool, ToolCall, ToolChoice } from '../api/tools.js';
import { OneKVError, checkInteger, checkOneOf, checkTexts, invalidArgument, reasonOf } from
  '../api/errors.js';
import type { ChatRequest, RequestTool, RequestToolCall, SamplingFields } from
  './openai-types.js';

/** Of each field of a request what its value has to be, null aside. */
type Fields = Readonly<Record<string, Kind>>;

/** They change nothing here. */
export const ignored: Fields = { model: 'string', user: 'string', metadata: 'object',
  store: 'boolean', service_tier: 'string', prompt_cache_key: 'string',
  safety_identifier: 'string', prompt_cache_retention: 'string', prompt_cache_options: 'object',
  verbosity: 'string', prediction: 'object' };
/** Of all requests that have an answer of text. */
export const sampled: Fields = { stream: 'boolean', temperature: 'number', top_p: 'number',
  frequency_penalty: 'number', presence_penalty: 'number', seed: 'number', top_k: 'number',
  min_p: 'number', repetition_penalty: 'number' };
/** Of the requests of chats and of texts. */
export const common: Fields = { ...sampled, stream_options: 'object', max_tokens: 'number',
  logit_bias: 'object', stop: true, n: 'number' };
const honoured: Fields = { ...common, messages: 'list', max_completion_tokens: 'number',
  logprobs: 'boolean', top_logprobs: 'number', response_format: 'object', tools: 'list',
  tool_choice: true, parallel_tool_calls: 'boolean', modalities: 'list',
  reasoning_effort: 'string', chat_template_kwargs: 'object' };
export const isNothing = (value: unknown): boolean => value === undefined || value === null ||
  (Array.isArray(value) && value.length === 0);

/** A text, or its token ids. */
type TextOrIds = string | readonly number[];

/** The texts of a request's field: one or many, at most `most`, each as text or as token ids. */
export function textsOf(field: string, found: unknown, most: number): readonly TextOrIds[] {
  if (typeof found === 'string') return [found];
  const isIds = (list: unknown): list is readonly number[] => Array.isArray(list) &&
    list.length > 0 && list.every((id) => Number.isInteger(id));
  if (isIds(found)) return [found];
  const isList = Array.isArray(found) && found.length > 0 &&
    found.every((one: unknown) => typeof one === 'string' || isIds(one));
  if (!isList) throw invalidArgument(field, found, 'texts or lists of token ids');
  checkInteger(`${field}.length`, found.length, 1, most);
  return found as readonly TextOrIds[];
}

/** A part of a field, which may be left out or null. Error: INVALID_ARGUMENT. */
export function checkPart(name: string, value: unknown, kind: Kind): void {
  if (value !== undefined && value !== null) checkKind(name, value, kind);
}

/** Refuses what no field is called and what is not of its kind; `other` may know more. */
export function checkBody(body: object, known: Fields, idle: Fields,
  other: (field: string, value: unknown) => boolean = () => false): void {
  if (typeof body !== 'object' || body === null) throw invalidArgument('body', body, 'an object');
  for (const [field, value] of Object.entries(body)) {
    const fields = Object.hasOwn(known, field) ? known : idle;
    if (isNothing(value)) continue;
    if (Object.hasOwn(fields, field)) checkKind(field, value, fields[field] as Kind);
    else if (!other(field, value)) throw unknownName('create', field, Object.keys(known));
  }
}

/** Refuses what cannot be honoured, by its name. */
export function checkFields(body: ChatRequest): void {
  if (!Array.isArray(body?.messages)) {
    throw invalidArgument('messages', body?.messages, 'a list of messages');
  }
  checkBody(body, honoured, ignored, (field, value) => {
    if (field === 'function_call' && value === 'none') return true;
    if (!/^functions?(_call)?$/.test(field)) return false;
    throw new OneKVError('INVALID_ARGUMENT', `${field}: is not supported; tools are`);
  });
  for (const modality of body.modalities ?? []) checkOneOf('modalities', modality, ['text']);
  checkCommon(body);
}

export function checkCommon({ n, stop, stream_options: stream }: SamplingFields): void {
  checkPart('stream_options.include_usage', stream?.include_usage, 'boolean');
  if (!isNothing(n) && n !== 1) throw invalidArgument('n', n, '1: a request has one answer');
  if (!isNothing(stop)) checkTexts('stop', stop);
}

/** The text of a message, whose parts are of these types. */
export function textOf(content: unknown, name: string, types: readonly string[]): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw invalidArgument(name, content, 'text or a list of parts');
  return content.map((part: { type?: unknown; text?: unknown } | null, i) => {
    checkOneOf(`${name}[${i}].type`, part?.type, types);
    checkKind(`${name}[${i}].text`, part?.text, 'string');
    return part?.text;
  }).join('');
}

const textTypes = ['text'];

function callOf(call: RequestToolCall, name: string): ToolCall {
  const { id, function: called } = call ?? {};
  checkKind(`${name}.id`, id, 'string');
  checkKind(`${name}.function.name`, called?.name, 'string');
  try {
    const given: unknown = JSON.parse(called.arguments || '{}');
    if (typeof given === 'object' && given !== null && !Array.isArray(given)) {
      return { id, name: called.name, arguments: given as Record<string, unknown> };
    }
  } catch {
    // The same error as for other JSON.
  }
  throw invalidArgument(`${name}.function.arguments`, called?.arguments, 'JSON of an object');
}

export function messagesOf({ messages }: ChatRequest): ChatMessage[] {
  if (messages.length === 0) {
    throw new OneKVError('INVALID_ARGUMENT', 'messages: found none, expected one at least');
  }
  const names = new Map<string, string>();
  return messages.map((message, i): ChatMessage => {
    const where = `messages[${i}]`;
    if (typeof message !== 'object' || message === null) {
      throw invalidArgument(where, message, 'a message');
    }
    const { content, tool_calls: calls, tool_call_id: id, reasoning_content: thoughts } = message;
    const reasoning = isNothing(thoughts) ? {}
      : { reasoning: textOf(thoughts, `${where}.reasoning_content`, textTypes) };
    const role = checkOneOf(`${where}.role`, message.role,
      ['system', 'developer', 'user', 'assistant', 'tool']);
    checkPart(`${where}.tool_call_id`, id, 'string');
    const text = role === 'assistant' && isNothing(content) ? ''
      : textOf(content, `${where}.content`, textTypes);
    if (role === 'tool') {
      return { role, content: text, toolCallId: id ?? undefined, name: names.get(id ?? '') };
    }
    if (isNothing(calls)) {
      return { role: role === 'developer' ? 'system' : role, content: text, ...reasoning };
    }
    if (role !== 'assistant' || !Array.isArray(calls)) {
      throw invalidArgument(`${where}.tool_calls`, calls, 'a list, of the role assistant');
    }
    const toolCalls = calls.map((call, at) => callOf(call, `${where}.tool_calls[${at}]`));
    for (const call of toolCalls) names.set(call.id, call.name);
    return { role, toolCalls, ...reasoning, content: text };
  });
}

export function toolsOf({ tools }: ChatRequest): Tool[] {
  return (tools ?? []).map((tool: RequestTool, i) => {
    checkOneOf(`tools[${i}].type`, tool?.type, ['function']);
    const { name, description, parameters } = tool.function ?? {};
    const inputSchema = isNothing(parameters) ? undefined
      : plainObject(`tools[${i}].function.parameters`, parameters);
    return { name, description: description ?? undefined, inputSchema };
  });
}

function toolChoiceOf({ tool_choice: choice, tools }: ChatRequest): ToolChoice | undefined {
  if (isNothing(choice)) return undefined;
  if (isNothing(tools)) {
    checkOneOf('tool_choice without tools', choice as string, ['none', 'auto']);
    return undefined;
  }
  if (typeof choice === 'object' && choice !== null) {
    checkOneOf('tool_choice.type', choice.type, ['function']);
    return { name: choice.function?.name };
  }
  return checkOneOf('tool_choice', choice as string, ['none', 'auto', 'required']) as
    'none' | 'auto' | 'required';
}

/** For the chat template. */
export function templateArgumentsOf(body: ChatRequest): Record<string, unknown> | undefined {
  const { reasoning_effort: effort, chat_template_kwargs: given } = body;
  if (isNothing(effort) && isNothing(given)) return undefined;
  const thinking = isNothing(effort) ? {}
    : { enable_thinking: effort !== 'none' && effort !== 'minimal', reasoning_effort: effort };
  return { ...thinking, ...given };
}

export function samplingOf(body: SamplingFields): SamplingOptions {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: body.top_k ?? 0,
    minP: body.min_p ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    penaltyWindow: 256,
    logitBias: body.logit_bias ?? {},
    seed: body.seed ?? (random as number),
  };
}

function constraintOf({ response_format: format }: ChatRequest):
ResponseConstraint | undefined {
  if (format === undefined || format === null) return undefined;
  const type = checkOneOf('response_format.type', format.type,
    ['text', 'json_object', 'json_schema', 'regex']);
  if (type === 'text') return undefined;
  if (format.type === 'json_object') return { type: 'json_object' };
  if (format.type === 'regex') return format.regex;
  checkPart('response_format.json_schema', (format as { json_schema?: unknown }).json_schema,
    'object');
  const schema = format.type === 'json_schema' ? format.json_schema?.schema : undefined;
  if (schema !== undefined) return schema;
  throw invalidArgument('response_format.json_schema.schema', schema, 'a JSON schema');
}

export function promptOptionsOf(body: ChatRequest, tools: readonly Tool[]): PromptOptions {
  const top = isNothing(body.top_logprobs) ? 0
    : checkInteger('top_logprobs', body.top_logprobs, 0, 20);
  const most = body.max_completion_tokens ?? body.max_tokens;
  return {
    tools,
    toolChoice: toolChoiceOf(body),
    parallelToolCalls: body.parallel_tool_calls ?? undefined,
    reasoningBudget: body.reasoning_effort === 'none' ? 0 : undefined,
    maxTokens: most ?? undefined,
    stop: isNothing(body.stop) ? undefined : body.stop as string | readonly string[],
    logprobs: body.logprobs === true ? top : undefined,
    constraint: constraintOf(body),
  };
}

/** Names of ours, with which an error begins, to the caller's. */
const names: Readonly<Record<string, string>> = {
  topP: 'top_p', topK: 'top_k', minP: 'min_p', frequencyPenalty: 'frequency_penalty',
  presencePenalty: 'presence_penalty', repetitionPenalty: 'repetition_penalty',
  logitBias: 'logit_bias', maxTokens: 'max_tokens', toolChoice: 'tool_choice',
  constraint: 'response_format', input: 'messages',
  templateArguments: 'chat_template_kwargs', reasoningBudget: 'reasoning_effort',
};

/** An error in the caller's words; `more`: other names than these. */
export function inCallersWords(error: unknown, more: Readonly<Record<string, string>> = {}):
unknown {
  if (!(error instanceof OneKVError)) return error;
  const said = reasonOf(error);
  const own = /^\w+/.exec(said)?.[0] ?? '';
  const name = { ...names, ...more }[own];
  // A name of a chat's request may be the caller's of another one's.
  const theirs = name === undefined ? name : more[name] ?? name;
  return theirs === undefined ? error
    : new OneKVError(error.code, theirs + said.slice(own.length), { cause: error });
}
