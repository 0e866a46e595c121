// responses.create of onekv/openai, after the Open Responses specification: items of text, thoughts
// and calls, and the events of a stream. The whole answer is what the last event says.
//
// Nothing is stored: a request brings all items, and previous_response_id is refused.
import type { GeneratedPart, GenerationResult } from '../api/session.js';
import type { SignalOptions } from '../api/options.js';
import { isNothing, inCallersWords } from './openai-request.js';
import { LogprobWriter, chatQuestion, finishOf, newId, seconds, start } from './openai-run.js';
import type { Place, Question } from './openai-run.js';
import { chatRequestOf, responseNames } from './openai-responses-request.js';
import type { ChatRequest, LogprobEntry, Usage } from './openai-types.js';
import type { FunctionCallItem, ItemStatus, MessageItem, OutputItem, OutputText, ReasoningItem,
  ReasoningText, ResponseObject, ResponseRequest, ResponseStreamEvent, ResponseUsage } from
  './openai-responses-types.js';

type Unnumbered<E> = E extends unknown ? Omit<E, 'sequence_number'> : never;
type Event = Unnumbered<ResponseStreamEvent>;

/** Fields that the specification asks for, as the request said them or at their defaults. */
function responseOf(model: Place['model'], body: ResponseRequest): ResponseObject {
  const given = <T>(value: T, other: Exclude<T, undefined | null>) =>
    (isNothing(value) ? other : value);
  return {
    id: newId('resp_'), object: 'response', created_at: seconds(), completed_at: null,
    status: 'in_progress', incomplete_details: null, error: null,
    model: body.model ?? model.name ?? 'onekv', output: [], usage: null,
    instructions: body.instructions ?? null, previous_response_id: null,
    tools: (body.tools ?? []).map(({ type, name, description, parameters, strict }) =>
      ({ type, name, description: description ?? null, parameters: parameters ?? null,
        strict: strict ?? true })),
    tool_choice: given(body.tool_choice, 'auto'),
    parallel_tool_calls: given(body.parallel_tool_calls, true),
    truncation: 'disabled', text: { format: body.text?.format ?? { type: 'text' } },
    temperature: given(body.temperature, 1), top_p: given(body.top_p, 1),
    presence_penalty: given(body.presence_penalty, 0),
    frequency_penalty: given(body.frequency_penalty, 0), top_logprobs: given(body.top_logprobs, 0),
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    max_output_tokens: body.max_output_tokens ?? null, max_tool_calls: null, store: false,
    background: false, service_tier: 'default', metadata: body.metadata ?? {},
    safety_identifier: null, prompt_cache_key: null,
  };
}

/** The items of an answer as its parts come. */
class Output {
  readonly items: OutputItem[] = [];
  /** The last item, while more of it may come. */
  #open: MessageItem | ReasoningItem | undefined;

  get #place() {
    return { output_index: this.items.length - 1, item_id: this.items.at(-1)?.id as string };
  }

  *take(part: GeneratedPart, logprobs: LogprobEntry[]): Generator<Event> {
    if (part.toolCall !== undefined) {
      yield* this.close();
      yield* this.#call(part.toolCall);
      return;
    }
    if (part.text === '' && logprobs.length === 0) return;
    if (part.type === 'reasoning') yield* this.#think(part.text);
    else if (part.text !== '' || this.#open?.type === 'message') {
      yield* this.#write(part.text, logprobs);
    }
  }

  *#begin<T extends MessageItem | ReasoningItem>(item: T, part: T['content'][0]):
  Generator<Event> {
    yield* this.close();
    this.items.push(item);
    this.#open = item;
    const { output_index } = this.#place;
    yield { type: 'response.output_item.added', output_index, item: { ...item, content: [] } };
    yield { type: 'response.content_part.added', ...this.#place, content_index: 0,
      part: { ...part } };
    item.content = [part] as typeof item.content;
  }

  *#think(delta: string): Generator<Event> {
    if (this.#open?.type !== 'reasoning') {
      yield* this.#begin<ReasoningItem>({ type: 'reasoning', id: newId('rs_'),
        status: 'in_progress', summary: [], content: [] }, { type: 'reasoning_text', text: '' });
    }
    (this.#open?.content[0] as ReasoningText).text += delta;
    yield { type: 'response.reasoning_text.delta', ...this.#place, content_index: 0, delta };
  }

  *#write(delta: string, logprobs: LogprobEntry[]): Generator<Event> {
    if (this.#open?.type !== 'message') {
      yield* this.#begin<MessageItem>({ type: 'message', id: newId('msg_'), status: 'in_progress',
        role: 'assistant', content: [] },
      { type: 'output_text', text: '', annotations: [], logprobs: [] });
    }
    const content = this.#open?.content[0] as OutputText;
    content.text += delta;
    for (const entry of logprobs) content.logprobs.push(entry);
    yield { type: 'response.output_text.delta', ...this.#place, content_index: 0, delta, logprobs };
  }

  *#call({ id, name, arguments: given }: NonNullable<GeneratedPart['toolCall']>):
  Generator<Event> {
    const item: FunctionCallItem = { type: 'function_call', id: newId('fc_'), call_id: id, name,
      arguments: JSON.stringify(given), status: 'completed' };
    this.items.push(item);
    const { output_index } = this.#place;
    yield { type: 'response.output_item.added', output_index,
      item: { ...item, arguments: '', status: 'in_progress' } };
    yield { type: 'response.function_call_arguments.delta', ...this.#place, delta: item.arguments };
    yield { type: 'response.function_call_arguments.done', ...this.#place, name,
      arguments: item.arguments };
    yield { type: 'response.output_item.done', output_index, item };
  }

  *close(status: ItemStatus = 'completed'): Generator<Event> {
    const item = this.#open;
    if (item === undefined) return;
    this.#open = undefined;
    item.status = status;
    const at = { ...this.#place, content_index: 0 } as const;
    const part = item.content[0] as OutputText | ReasoningText;
    if (part.type === 'output_text') {
      yield { type: 'response.output_text.done', ...at, text: part.text, logprobs: part.logprobs };
    } else yield { type: 'response.reasoning_text.done', ...at, text: part.text };
    yield { type: 'response.content_part.done', ...at, part };
    yield { type: 'response.output_item.done', output_index: at.output_index, item };
  }
}

const usageOf = (usage: Usage, thought: number): ResponseUsage => ({
  input_tokens: usage.prompt_tokens,
  input_tokens_details: usage.prompt_tokens_details,
  output_tokens: usage.completion_tokens,
  output_tokens_details: { reasoning_tokens: thought },
  total_tokens: usage.total_tokens,
});

function ended(response: ResponseObject, items: OutputItem[], result: GenerationResult,
  usage: ResponseUsage): ResponseObject {
  const isCut = finishOf(result) === 'length';
  return { ...response, output: items, usage, status: isCut ? 'incomplete' : 'completed',
    completed_at: seconds(),
    incomplete_details: isCut ? { reason: 'max_output_tokens' } : null };
}

async function* events(place: Place, question: Question, chat: ChatRequest,
  response: ResponseObject): AsyncGenerator<Event> {
  yield { type: 'response.created', response };
  yield { type: 'response.in_progress', response };
  const { generation, usage, isBack } = await start(place, question);
  const writer = chat.logprobs === true ? new LogprobWriter(place.model) : undefined;
  const output = new Output();
  let thought = 0;
  for await (const part of generation) {
    if (part.type === 'reasoning' && part.token !== undefined) thought += 1;
    yield* output.take(part, (await writer?.write(part))?.content ?? []);
  }
  const result = await generation.result;
  await isBack;
  const whole = ended(response, output.items, result, usageOf(usage(result), thought));
  yield* output.close(whole.status);
  yield { type: `response.${whole.status}` as 'response.completed' | 'response.incomplete',
    response: whole };
}

async function* numbered(list: AsyncIterable<Event>): AsyncGenerator<ResponseStreamEvent> {
  let number = 0;
  try {
    for await (const event of list) {
      yield { ...event, sequence_number: number } as ResponseStreamEvent;
      number += 1;
    }
  } catch (error) {
    throw inCallersWords(error, responseNames);
  }
}

/** Error: in the caller's words. */
export async function createResponse(place: Place, body: ResponseRequest, request: SignalOptions):
Promise<ResponseObject | AsyncIterable<ResponseStreamEvent>> {
  try {
    const chat = chatRequestOf(body);
    const question = await chatQuestion(place.model, chat, request);
    const stream = numbered(events(place, question, chat, responseOf(place.model, body)));
    if (body.stream === true) return stream;
    let last: ResponseStreamEvent | undefined;
    for await (const event of stream) last = event;
    return (last as { response: ResponseObject }).response;
  } catch (error) {
    throw inCallersWords(error, responseNames);
  }
}
