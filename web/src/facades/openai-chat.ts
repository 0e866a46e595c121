// chat.completions.create of onekv/openai: the whole answer, or its chunks.
import type { GeneratedPart } from '../api/session.js';
import type { SignalOptions } from '../api/options.js';
import { inCallersWords, isNothing } from './openai-request.js';
import { LogprobWriter, chatQuestion, finishOf, headOf, requestCall, start } from
  './openai-run.js';
import type { Place, Question } from './openai-run.js';
import type { ChatCompletion, ChatCompletionChunk, ChatRequest, ChoiceLogprobs,
  CompletionFinishReason, LogprobEntry } from './openai-types.js';

/** One request on its way: what the whole answer and the stream have in common. */
interface Run {
  head: Pick<ChatCompletion, 'id' | 'created' | 'model' | 'system_fingerprint'>;
  place: Place;
  question: Question;
  logprobs: LogprobWriter | undefined;
  body: ChatRequest;
}

const namesIn = (body: ChatRequest | null) => ({
  ...(isNothing(body?.max_completion_tokens) ? {} : { maxTokens: 'max_completion_tokens' }),
  // Without a format the schemas are those of tools.
  ...(isNothing(body?.response_format) ? { constraint: 'tools' } : {}),
});

async function whole(run: Run): Promise<ChatCompletion> {
  const content: LogprobEntry[] = [];
  const { generation, usage, isBack } = await start(run.place, run.question);
  for await (const part of generation) {
    for (const entry of (await run.logprobs?.write(part))?.content ?? []) content.push(entry);
  }
  const result = await generation.result;
  await isBack;
  const calls = result.toolCalls.map(requestCall);
  return {
    ...run.head,
    object: 'chat.completion',
    choices: [{
      index: 0,
      message: {
        role: 'assistant',
        content: result.text === '' && calls.length > 0 ? null : result.text,
        refusal: null,
        ...(result.reasoning === '' ? {} : { reasoning_content: result.reasoning }),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
      logprobs: run.logprobs === undefined ? null : { content, refusal: null },
      finish_reason: finishOf(result),
    }],
    usage: usage(result),
    seed: Number(result.seed),
  };
}

type Delta = ChatCompletionChunk['choices'][0]['delta'];

function deltaOf(part: GeneratedPart, calls: number): Delta | undefined {
  if (part.toolCall !== undefined) {
    return { tool_calls: [{ index: calls, ...requestCall(part.toolCall) }] };
  }
  if (part.text === '') return undefined;
  return part.type === 'reasoning' ? { reasoning_content: part.text } : { content: part.text };
}

async function* streamed(run: Run, withUsage: boolean): AsyncGenerator<ChatCompletionChunk> {
  const chunk = (delta: Delta, logprobs: ChoiceLogprobs | null = null,
    reason: CompletionFinishReason | null = null): ChatCompletionChunk => ({
    ...run.head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: reason }],
    ...(withUsage ? { usage: null } : {}),
  });
  try {
    // Before the session is taken: a stream of which no more is read holds nothing.
    yield chunk({ role: 'assistant', content: '' });
    const { generation, usage, isBack } = await start(run.place, run.question);
    let calls = 0;
    for await (const part of generation) {
      const logprobs = await run.logprobs?.write(part) ?? null;
      const delta = deltaOf(part, calls);
      if (part.toolCall !== undefined) calls += 1;
      if (delta !== undefined || logprobs !== null) yield chunk(delta ?? {}, logprobs);
    }
    const result = await generation.result;
    await isBack;
    yield chunk({}, null, finishOf(result));
    if (withUsage) yield { ...chunk({}), choices: [], usage: usage(result) };
  } catch (error) {
    throw inCallersWords(error, namesIn(run.body));
  }
}

/** Error: in the caller's words. */
export async function createChat(place: Place, body: ChatRequest, request: SignalOptions):
Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
  const { model } = place;
  try {
    const question = await chatQuestion(model, body, request);
    const run: Run = { head: headOf(model, 'chatcmpl-', body.model), place, question, body,
      logprobs: body.logprobs === true ? new LogprobWriter(model) : undefined };
    return body.stream === true ? streamed(run, body.stream_options?.include_usage === true)
      : await whole(run);
  } catch (error) {
    throw inCallersWords(error, namesIn(body));
  }
}
