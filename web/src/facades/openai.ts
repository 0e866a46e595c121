// The subpath onekv/openai: chat.completions.create over a model that is here. The API has no
// state; sessions behind it have, so that a conversation that goes on is not computed again.
import type { Model } from '../api/model.js';
import type { GeneratedPart, Generation, GenerationResult } from '../api/session.js';
import { checkOptions, checkSignal } from '../api/options.js';
import type { NamesOf, SignalOptions } from '../api/options.js';
import type { ToolCall } from '../api/tools.js';
import { checkInteger } from '../api/errors.js';
import { checkFields, inCallersWords, messagesOf, promptOptionsOf, samplingOf,
  templateArgumentsOf, toolsOf } from './openai-request.js';
import type { ChatCompletion, ChatCompletionChunk, ChatRequest, ChoiceLogprobs,
  CompletionFinishReason, LogprobEntry, RequestToolCall, TokenLogprobEntry, Usage }
  from './openai-types.js';
import { SessionPool } from './session-pool.js';

export type * from './openai-types.js';

export interface OpenAIOptions {
  /** Idle sessions that are kept for requests that go on from them; default 4. */
  sessions?: number | undefined;
}

const clientNames: NamesOf<OpenAIOptions> = { sessions: true };

export type RequestOptions = SignalOptions;

export interface ChatCompletions {
  create(body: ChatRequest & { stream: true }, options?: RequestOptions):
    Promise<AsyncIterable<ChatCompletionChunk>>;
  create(body: ChatRequest & { stream?: false | null }, options?: RequestOptions):
    Promise<ChatCompletion>;
  create(body: ChatRequest, options?: RequestOptions):
    Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
}

export interface OpenAIClient {
  readonly chat: { readonly completions: ChatCompletions };
  /** Destroys the sessions; the model stays. */
  destroy(): Promise<void>;
}

const finishReasons: Record<GenerationResult['reason'], CompletionFinishReason> = {
  end: 'stop', stop: 'stop', length: 'length', context: 'length',
};

/** Log probabilities with the tokens' texts, which are asked for once each. */
class LogprobWriter {
  readonly #model: Model;
  readonly #texts = new Map<number, string>();
  readonly #encoder = new TextEncoder();

  constructor(model: Model) {
    this.#model = model;
  }

  async write(part: GeneratedPart): Promise<ChoiceLogprobs | null> {
    const { token, logprob, top = [] } = part;
    if (token === undefined || logprob === undefined) return null;
    const entry: LogprobEntry = { ...await this.#entry(token, logprob), top_logprobs: [] };
    for (const { token: id, logprob: value } of top) {
      entry.top_logprobs.push(await this.#entry(id, value));
    }
    return { content: [entry], refusal: null };
  }

  async #entry(id: number, logprob: number): Promise<TokenLogprobEntry> {
    const known = this.#texts.get(id);
    const token = known ?? await this.#model.detokenize([id], { special: true });
    this.#texts.set(id, token);
    return {
      token, logprob, bytes: token.includes('\ufffd') ? null : [...this.#encoder.encode(token)],
    };
  }
}

/** One request on its way: what the whole answer and the stream have in common. */
interface Run {
  head: Pick<ChatCompletion, 'id' | 'created' | 'model' | 'system_fingerprint'>;
  /** Takes a session, which is given back when the answer is whole, read or not. */
  begin(): Promise<{ generation: Generation; usage(result: GenerationResult): Usage;
    isBack: Promise<void> }>;
  logprobs: LogprobWriter | undefined;
  body: ChatRequest;
}

/** Checks the request and encodes its prompt: what is wrong with it is known before a stream. */
async function prepare(model: Model, pool: SessionPool, body: ChatRequest,
  { signal }: RequestOptions): Promise<Run> {
  checkFields(body);
  const tools = toolsOf(body);
  const options = { ...promptOptionsOf(body, tools), signal };
  const prompt = await model.tokenize(messagesOf(body), { signal, tools,
    toolChoice: options.toolChoice, templateArguments: templateArgumentsOf(body) });
  const begin = async () => {
    const { session, cached } = await pool.take(prompt, signal);
    try {
      await session.setSampling(samplingOf(body), { signal });
    } catch (error) {
      await pool.giveBack(session);
      throw error;
    }
    const generation = session.generate({ tokens: prompt.slice(cached) }, options);
    const back = () => pool.giveBack(session);
    const isBack = generation.result.then(back, back);
    const usage = ({ tokens }: GenerationResult) => ({
      prompt_tokens: prompt.length,
      completion_tokens: tokens.length,
      total_tokens: prompt.length + tokens.length,
      prompt_tokens_details: { cached_tokens: cached },
    });
    return { generation, usage, isBack };
  };
  return {
    head: {
      id: `chatcmpl-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`,
      created: Math.floor(Date.now() / 1000),
      model: body.model ?? model.name ?? 'onekv',
      system_fingerprint: model.hash,
    },
    begin,
    logprobs: body.logprobs === true ? new LogprobWriter(model) : undefined,
    body,
  };
}

function requestCall({ id, name, arguments: given }: ToolCall): RequestToolCall {
  return { id, type: 'function', function: { name, arguments: JSON.stringify(given) } };
}

const finishOf = ({ reason, toolCalls }: GenerationResult): CompletionFinishReason =>
  (toolCalls.length > 0 ? 'tool_calls' : finishReasons[reason]);

async function whole(run: Run): Promise<ChatCompletion> {
  const content: LogprobEntry[] = [];
  const { generation, usage, isBack } = await run.begin();
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
    const { generation, usage, isBack } = await run.begin();
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
    throw inCallersWords(error, run.body);
  }
}

/**
 * A client of OpenAI's shape for a loaded model that chats. Requests at the same time run at the
 * same time. Errors: INVALID_ARGUMENT names the field that cannot be honoured,
 * CONTEXT_FULL, NO_CHAT_TEMPLATE, and those of the session.
 */
export function openai(model: Model, options: OpenAIOptions = {}): OpenAIClient {
  const { sessions = 4 } = checkOptions('openai', options, clientNames);
  const most = checkInteger('sessions', sessions, 1, 1024);
  const pool = new SessionPool(model, most);
  const create = async (body: ChatRequest, request: RequestOptions = {}) => {
    checkSignal('create', request);
    try {
      const run = await prepare(model, pool, body, request);
      return body.stream === true ? streamed(run, body.stream_options?.include_usage === true)
        : await whole(run);
    } catch (error) {
      throw inCallersWords(error, body);
    }
  };
  return {
    chat: { completions: { create: create as ChatCompletions['create'] } },
    destroy: () => pool.destroy(),
  };
}
