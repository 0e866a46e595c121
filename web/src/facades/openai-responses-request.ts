// A request of responses.create as one of chat.completions: items become messages. What would
// change the answer and is not supported is refused by its name.
import { checkKind } from '../api/options.js';
import { OneKVError, checkOneOf, invalidArgument } from '../api/errors.js';
import { checkBody, checkPart, ignored, isNothing, sampled, textOf } from './openai-request.js';
import type { ChatRequest, RequestMessage, RequestTool, ResponseFormat } from './openai-types.js';
import type { FunctionTool, InputItem, ResponseRequest } from './openai-responses-types.js';

const honoured = { ...sampled, input: true, instructions: 'string', tools: 'list',
  tool_choice: true, parallel_tool_calls: 'boolean', max_output_tokens: 'number', text: 'object',
  reasoning: 'object', include: 'list', top_logprobs: 'number',
  chat_template_kwargs: 'object' } as const;
/** Change nothing here beyond those of a chat: nothing is stored, a limit on built-in tools. */
const idle = { ...ignored, stream_options: 'object', max_tool_calls: 'number' } as const;
/** The one value of these fields that asks for nothing. */
const plain: Readonly<Record<string, unknown>> = { background: false, truncation: 'disabled' };
const statefulAdvice = ': is not supported, nothing is stored here; send the items as input';
const included = ['message.output_text.logprobs', 'reasoning.encrypted_content',
  'file_search_call.results', 'web_search_call.results', 'web_search_call.action.sources',
  'code_interpreter_call.outputs', 'computer_call_output.output.image_url',
  'message.input_image.image_url'];

function checkFields(body: ResponseRequest): void {
  checkBody(body, honoured, idle, (field, value) => {
    if (Object.hasOwn(plain, field)) {
      if (value === plain[field]) return true;
      throw invalidArgument(field, value, `${plain[field]}`);
    }
    if (field !== 'previous_response_id' && field !== 'conversation' && field !== 'prompt') {
      return false;
    }
    throw new OneKVError('INVALID_ARGUMENT', field + statefulAdvice);
  });
  checkPart('text.format', body.text?.format, 'object');
  checkPart('reasoning.effort', body.reasoning?.effort, 'string');
  for (const one of body.include ?? []) checkOneOf('include', one, included);
}

const textTypes = ['input_text', 'output_text', 'text', 'reasoning_text', 'summary_text'];

/** Thoughts and calls become parts of one message with the text beside them, as the model wrote
 * them. */
class Messages {
  readonly list: RequestMessage[] = [];
  /** Of the answer that the items are of, until an item of somebody else comes. */
  #answer: RequestMessage | undefined;

  add(item: InputItem, where: string): void {
    if (typeof item !== 'object' || item === null) throw invalidArgument(where, item, 'an item');
    const type = checkOneOf(`${where}.type`, item.type ?? 'message',
      ['message', 'function_call', 'function_call_output', 'reasoning']);
    if (type.startsWith('function_call')) checkKind(`${where}.call_id`, item.call_id, 'string');
    if (type === 'reasoning') this.#think(item, where);
    else if (type === 'function_call') this.#call(item, where);
    else if (type === 'function_call_output') {
      this.#say({ role: 'tool', tool_call_id: item.call_id,
        content: textOf(item.output, `${where}.output`, textTypes) });
    } else this.#message(item, where);
  }

  #say(message: RequestMessage): void {
    this.#answer = undefined;
    this.list.push(message);
  }

  #message({ role, content }: InputItem, where: string): void {
    const known = checkOneOf(`${where}.role`, role, ['system', 'developer', 'user', 'assistant']);
    const text = textOf(content, `${where}.content`, textTypes);
    if (known !== 'assistant') {
      this.#say({ role: known, content: text });
      return;
    }
    const { content: before, tool_calls: calls } = this.#answer ?? {};
    if (!isNothing(before) || !isNothing(calls)) this.#answer = undefined;
    this.#add({ content: text });
  }

  #think({ content, summary }: InputItem, where: string): void {
    const text = isNothing(content) ? textOf(summary ?? [], `${where}.summary`, textTypes)
      : textOf(content, `${where}.content`, textTypes);
    // Thoughts come first: these are of another answer.
    this.#answer = undefined;
    if (text !== '') this.#add({ reasoning_content: text });
  }

  #call({ call_id: id, name, arguments: given }: InputItem, where: string): void {
    checkKind(`${where}.name`, name, 'string');
    checkKind(`${where}.arguments`, given, 'string');
    this.#add({ tool_calls: [...this.#answer?.tool_calls ?? [],
      { id: id as string, type: 'function',
        function: { name: name as string, arguments: given as string } }] });
  }

  #add(more: Partial<RequestMessage>): void {
    const grown: RequestMessage = { ...this.#answer ?? { role: 'assistant', content: null },
      ...more };
    if (this.#answer === undefined) this.list.push(grown);
    else this.list[this.list.length - 1] = grown;
    this.#answer = grown;
  }
}

function messagesOf({ input, instructions }: ResponseRequest): RequestMessage[] {
  const messages = new Messages();
  if (!isNothing(instructions)) {
    messages.add({ role: 'system', content: instructions }, 'instructions');
  }
  if (typeof input === 'string') messages.add({ role: 'user', content: input }, 'input');
  else if (Array.isArray(input)) {
    input.forEach((item: InputItem, i) => messages.add(item, `input[${i}]`));
  } else throw invalidArgument('input', input, 'text or a list of items');
  return messages.list;
}

function toolOf(tool: FunctionTool, i: number): RequestTool {
  checkOneOf(`tools[${i}].type`, tool?.type, ['function']);
  const { name, description, parameters } = tool;
  return { type: 'function', function: { name, description, parameters } };
}

function toolChoiceOf({ tool_choice: choice }: ResponseRequest): ChatRequest['tool_choice'] {
  if (typeof choice !== 'object' || choice === null) return choice;
  checkOneOf('tool_choice.type', choice.type, ['function']);
  return { type: 'function', function: { name: choice.name } };
}

function formatOf({ text }: ResponseRequest): ResponseFormat | undefined {
  const format = text?.format;
  if (isNothing(format)) return undefined;
  const type = checkOneOf('text.format.type', format?.type, ['text', 'json_object', 'json_schema']);
  if (type !== 'json_schema') return { type };
  const { schema } = format as { schema?: unknown };
  if (typeof schema === 'object' && schema !== null) {
    return { type: 'json_schema', json_schema: { schema } };
  }
  throw invalidArgument('text.format.schema', schema, 'a JSON schema');
}

/** Errors: INVALID_ARGUMENT, by the caller's names. */
export function chatRequestOf(body: ResponseRequest): ChatRequest {
  checkFields(body);
  const { include, top_logprobs: top } = body;
  return {
    messages: messagesOf(body),
    tools: body.tools?.map(toolOf),
    tool_choice: toolChoiceOf(body),
    parallel_tool_calls: body.parallel_tool_calls,
    max_completion_tokens: body.max_output_tokens,
    temperature: body.temperature,
    top_p: body.top_p,
    presence_penalty: body.presence_penalty,
    frequency_penalty: body.frequency_penalty,
    response_format: formatOf(body),
    reasoning_effort: body.reasoning?.effort,
    logprobs: include?.includes('message.output_text.logprobs') === true || Number(top) > 0,
    top_logprobs: top,
    seed: body.seed,
    top_k: body.top_k,
    min_p: body.min_p,
    repetition_penalty: body.repetition_penalty,
    chat_template_kwargs: body.chat_template_kwargs,
  };
}

/** Names of a chat's request with which an error may begin, and of ours, to those of this one. */
export const responseNames: Readonly<Record<string, string>> = {
  maxTokens: 'max_output_tokens', constraint: 'text.format', messages: 'input', input: 'input',
};
