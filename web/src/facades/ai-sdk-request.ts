// A call of the AI SDK as a request of chat.completions. What would change the answer and is not
// supported is refused by its name, but for tools that providers run, which are a warning.
import { OneKVError, checkOneOf, invalidArgument } from '../api/errors.js';
import { checkKind, checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import type { CallOptions, PromptMessage, PromptPart, Warning } from './ai-sdk-types.js';
import { checkPart } from './openai-request.js';
import type { ChatRequest, RequestMessage, RequestTool, ResponseFormat } from './openai-types.js';

/** Of providerOptions.onekv. */
interface OwnOptions {
  minP?: unknown;
  repetitionPenalty?: unknown;
  templateArguments?: unknown;
}

const ownNames: NamesOf<OwnOptions> = { minP: true, repetitionPenalty: true,
  templateArguments: true };

function refuse(part: PromptPart, where: string): never {
  throw new OneKVError('INVALID_ARGUMENT', `${where}: parts of the type ` +
    `${JSON.stringify(String(part.type).slice(0, 80))} are not supported`);
}

/** As the model is told it. */
function resultOf({ output }: PromptPart, where: string): string {
  if (output === undefined) throw invalidArgument(`${where}.output`, output, 'a result');
  const { type, value, reason } = output;
  if (type === 'text' || type === 'error-text') return String(value);
  if (type === 'json' || type === 'error-json') return JSON.stringify(value ?? null);
  if (type === 'execution-denied') return reason ?? 'The call was denied.';
  checkOneOf(`${where}.output.type`, type, ['content']);
  return (value as readonly PromptPart[]).map((part) =>
    (part.type === 'text' ? part.text : refuse(part, where))).join('\n');
}

function assistant(parts: readonly PromptPart[], where: string): RequestMessage {
  let [content, reasoning] = ['', ''];
  const calls = [];
  for (const part of parts) {
    if (part.type === 'text') content += part.text;
    else if (part.type === 'reasoning') reasoning += part.text;
    else if (part.type === 'tool-call') {
      calls.push({ id: String(part.toolCallId), type: 'function' as const, function: {
        name: String(part.toolName), arguments: typeof part.input === 'string' ? part.input
          : JSON.stringify(part.input ?? {}) } });
    } else refuse(part, where);
  }
  return { role: 'assistant', content, tool_calls: calls,
    reasoning_content: reasoning === '' ? undefined : reasoning };
}

/** A message of results is one of this chat's for each of them. */
function messagesOf({ role, content }: PromptMessage, where: string): RequestMessage[] {
  if (role === 'system') return [{ role, content: String(content) }];
  if (typeof content === 'string') return [{ role, content }];
  checkKind(`${where}.content`, content, 'list');
  content.forEach((part, i) => checkKind(`${where}.content[${i}]`, part, 'object'));
  if (role === 'assistant') return [assistant(content, where)];
  if (role === 'tool') {
    return content.filter(({ type }) => type !== 'tool-approval-response').map((part) =>
      (part.type === 'tool-result' ? { role, tool_call_id: String(part.toolCallId),
        content: resultOf(part, where) } : refuse(part, where)));
  }
  return [{ role, content: content.map((part) =>
    (part.type === 'text' ? String(part.text) : refuse(part, where))).join('') }];
}

function toolsOf({ tools = [] }: CallOptions): { tools: RequestTool[]; warnings: Warning[] } {
  const own = tools.filter(({ type }) => type === 'function');
  return {
    tools: own.map(({ name, description, inputSchema }) => ({ type: 'function',
      function: { name, description, parameters: inputSchema } })),
    warnings: tools.filter((tool) => !own.includes(tool)).map(({ name }) =>
      ({ type: 'unsupported', feature: `tool ${name}`, details: 'only functions are' })),
  };
}

function formatOf({ responseFormat: format }: CallOptions): ResponseFormat | undefined {
  if (format?.type !== 'json') return undefined;
  const { schema } = format;
  return typeof schema === 'object' ? { type: 'json_schema', json_schema: { schema } }
    : { type: 'json_object' };
}

/** Error: INVALID_ARGUMENT, by the names of the AI SDK. */
export function chatOf(options: CallOptions): { chat: ChatRequest; warnings: Warning[] } {
  checkKind('options', options, 'object');
  const { toolChoice, reasoning, providerOptions } = options;
  checkPart('abortSignal', options.abortSignal, 'AbortSignal');
  checkKind('prompt', options.prompt, 'list');
  options.prompt.forEach((message, i) => checkKind(`prompt[${i}]`, message, 'object'));
  const { minP, repetitionPenalty, templateArguments } = checkOptions('providerOptions.onekv',
    (providerOptions?.['onekv'] ?? {}) as OwnOptions, ownNames);
  const { tools, warnings } = toolsOf(options);
  const format = formatOf(options);
  if (format !== undefined && tools.length > 0 && toolChoice?.type !== 'none') {
    warnings.push({ type: 'unsupported', feature: 'tools with a responseFormat',
      details: 'the answer has the format, and calls nothing' });
  }
  const chat: ChatRequest = {
    messages: options.prompt.flatMap((message, i) => messagesOf(message, `prompt[${i}]`)),
    tools, response_format: format,
    tool_choice: toolChoice?.type === 'tool'
      ? { type: 'function', function: { name: toolChoice.toolName } } : toolChoice?.type,
    max_tokens: options.maxOutputTokens, stop: options.stopSequences, seed: options.seed,
    temperature: options.temperature, top_p: options.topP, top_k: options.topK,
    presence_penalty: options.presencePenalty, frequency_penalty: options.frequencyPenalty,
    min_p: minP as number | undefined,
    repetition_penalty: repetitionPenalty as number | undefined,
    reasoning_effort: reasoning === 'provider-default' ? undefined : reasoning,
    chat_template_kwargs: templateArguments as Record<string, unknown> | undefined,
  };
  return { chat, warnings };
}

/** Names of ours, with which an error may begin, to the AI SDK's. */
export const aiNames: Readonly<Record<string, string>> = {
  maxTokens: 'maxOutputTokens', stop: 'stopSequences', toolChoice: 'toolChoice',
  constraint: 'responseFormat', messages: 'prompt', input: 'prompt', top_p: 'topP',
  top_k: 'topK', min_p: 'minP', frequency_penalty: 'frequencyPenalty',
  presence_penalty: 'presencePenalty', repetition_penalty: 'repetitionPenalty',
  tool_choice: 'toolChoice', max_tokens: 'maxOutputTokens', reasoning_effort: 'reasoning',
  chat_template_kwargs: 'templateArguments', templateArguments: 'templateArguments',
};
