// What a request of onekv/openai asks for, in this package's words. What would change the answer
// and is not supported is refused by the caller's name for it.
import type { PromptOptions, ResponseConstraint } from '../api/session.js';
import type { ChatMessage } from '../api/messages.js';
import { unknownName } from '../api/options.js';
import type { SamplingOptions } from '../api/sampling.js';
import type { Tool, ToolCall, ToolChoice } from '../api/tools.js';
import { OneKVError, checkInteger, checkOneOf, checkTexts, invalidArgument, reasonOf } from
  '../api/errors.js';
import type { ChatRequest, RequestMessage, RequestTool, RequestToolCall, SamplingFields } from
  './openai-types.js';

/** Fields of a request that change nothing here. */
export const ignored = ['model', 'user', 'metadata', 'store', 'service_tier', 'prompt_cache_key',
  'safety_identifier', 'prompt_cache_retention', 'prompt_cache_options', 'verbosity', 'prediction'];
/** Of the requests of chats and of texts. */
export const common = ['stream', 'stream_options', 'max_tokens', 'temperature', 'top_p',
  'frequency_penalty', 'presence_penalty', 'logit_bias', 'seed', 'stop', 'n', 'top_k', 'min_p',
  'repetition_penalty'];
const honoured = [...common, 'messages', 'max_completion_tokens', 'logprobs', 'top_logprobs',
  'response_format', 'tools', 'tool_choice', 'parallel_tool_calls', 'modalities',
  'reasoning_effort', 'chat_template_kwargs'];
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

/** Refuses what cannot be honoured, by its name. */
export function checkFields(body: ChatRequest): void {
  if (typeof body !== 'object' || body === null) {
    throw invalidArgument('messages', undefined, 'a list of messages');
  }
  for (const [field, value] of Object.entries(body)) {
    if (isNothing(value) || honoured.includes(field) || ignored.includes(field)) continue;
    if (field === 'function_call' && value === 'none') continue;
    if (/^functions?(_call)?$/.test(field)) {
      throw new OneKVError('INVALID_ARGUMENT', `${field}: is not supported; tools are`);
    }
    throw unknownName('create', field, honoured);
  }
  if (!Array.isArray(body.messages)) {
    throw invalidArgument('messages', body.messages, 'a list of messages');
  }
  for (const modality of body.modalities ?? []) checkOneOf('modalities', modality, ['text']);
  checkCommon(body);
}

export function checkCommon({ n, stop }: SamplingFields): void {
  if (!isNothing(n) && n !== 1) throw invalidArgument('n', n, '1: a request has one answer');
  if (!isNothing(stop)) checkTexts('stop', stop);
}

function textOf(content: RequestMessage['content'], name: string): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw invalidArgument(name, content, 'text or a list of parts');
  return content.map((part: { type?: unknown; text?: unknown } | null) => {
    checkOneOf(`type of a part of ${name}`, part?.type as string, ['text']);
    return String(part?.text);
  }).join('');
}

function callOf(call: RequestToolCall, name: string): ToolCall {
  const { id, function: called } = call ?? {};
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
      : { reasoning: textOf(thoughts, `${where}.reasoning_content`) };
    const role = checkOneOf(`${where}.role`, message.role,
      ['system', 'developer', 'user', 'assistant', 'tool']);
    if (role === 'tool') {
      const name = names.get(id ?? '');
      return { role, content: textOf(content, `${where}.content`), toolCallId: id, name };
    }
    if (isNothing(calls)) {
      const text = role === 'assistant' && isNothing(content) ? ''
        : textOf(content, `${where}.content`);
      return { role: role === 'developer' ? 'system' : role, content: text, ...reasoning };
    }
    if (role !== 'assistant' || !Array.isArray(calls)) {
      throw invalidArgument(`${where}.tool_calls`, calls, 'a list, of the role assistant');
    }
    const toolCalls = calls.map((call, at) => callOf(call, `${where}.tool_calls[${at}]`));
    for (const call of toolCalls) names.set(call.id, call.name);
    return { role, toolCalls, ...reasoning,
      content: isNothing(content) ? '' : textOf(content, `${where}.content`) };
  });
}

export function toolsOf({ tools }: ChatRequest): Tool[] {
  if (isNothing(tools)) return [];
  if (!Array.isArray(tools)) throw invalidArgument('tools', tools, 'a list of tools');
  return (tools as readonly RequestTool[]).map((tool, i) => {
    checkOneOf(`tools[${i}].type`, tool?.type, ['function']);
    const { name, description, parameters } = tool.function ?? {};
    return { name, description: description ?? undefined, inputSchema: parameters ?? undefined };
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
  if (!isNothing(given) && (typeof given !== 'object' || Array.isArray(given))) {
    throw invalidArgument('chat_template_kwargs', given, 'an object');
  }
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
    logitBias: Object.fromEntries(Object.entries(body.logit_bias ?? {})
      .map(([token, bias]) => [Number(token), bias])),
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
  constraint: 'response_format', logprobs: 'top_logprobs',
};

/** An error in the caller's words; `more`: other names than these. */
export function inCallersWords(error: unknown, more: Readonly<Record<string, string>> = {}):
unknown {
  if (!(error instanceof OneKVError)) return error;
  const said = reasonOf(error);
  const own = /^\w+/.exec(said)?.[0] ?? '';
  const theirs = { ...names, ...more }[own];
  return theirs === undefined ? error
    : new OneKVError(error.code, theirs + said.slice(own.length), { cause: error });
}
