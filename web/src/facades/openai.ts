// The subpath onekv/openai: chat.completions.create over a model that is here. The API has no
// state; sessions behind it have, so that a conversation that goes on is not computed again.
import type { Model } from '../api/model.js';
import type { GeneratedPart, Generation, GenerationResult, PromptOptions, ResponseConstraint } from
  '../api/session.js';
import type { ChatMessage } from '../api/messages.js';
import { checkOptions, checkSignal, unknownName } from '../api/options.js';
import type { NamesOf, SignalOptions } from '../api/options.js';
import type { SamplingOptions } from '../api/sampling.js';
import { OneKVError, checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';
import type { ChatCompletion, ChatCompletionChunk, ChatRequest, ChoiceLogprobs, FinishReason,
  LogprobEntry, RequestMessage, TokenLogprobEntry, Usage } from
  './openai-types.js';
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

/** Fields of a request that change nothing here. */
const ignored = ['model', 'user', 'metadata', 'store', 'service_tier', 'prompt_cache_key',
  'safety_identifier', 'parallel_tool_calls'];
const honoured = ['messages', 'stream', 'stream_options', 'max_completion_tokens', 'max_tokens',
  'temperature', 'top_p', 'frequency_penalty', 'presence_penalty', 'logit_bias', 'seed', 'stop',
  'logprobs', 'top_logprobs', 'response_format', 'n', 'top_k', 'min_p', 'repetition_penalty'];
const isNothing = (value: unknown) => value === undefined || value === null ||
  (Array.isArray(value) && value.length === 0);

/** Refuses what cannot be honoured, by its name. */
function checkFields(body: ChatRequest): void {
  if (typeof body !== 'object' || body === null || !Array.isArray(body.messages)) {
    throw invalidArgument('messages', body?.messages, 'a list of messages');
  }
  for (const [field, value] of Object.entries(body)) {
    if (isNothing(value) || honoured.includes(field) || ignored.includes(field)) continue;
    if (/^(tools|tool_choice|functions|function_call)$/.test(field)) {
      if (value === 'none') continue;
      throw new OneKVError('INVALID_ARGUMENT', `${field}: tools are not supported; describe ` +
        'them in a message and ask for JSON with response_format');
    }
    throw unknownName('create', field, honoured);
  }
  if (!isNothing(body.n)) checkInteger('n', body.n, 1, 1);
}

function textOf(content: RequestMessage['content'], name: string): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw invalidArgument(name, content, 'text or a list of parts');
  return content.map((part) => {
    checkOneOf(`type of a part of ${name}`, part?.type, ['text']);
    return String(part.text);
  }).join('');
}

function messagesOf({ messages }: ChatRequest): ChatMessage[] {
  return messages.map(({ role, content }, i) => ({
    role: role === 'developer' ? 'system'
      : checkOneOf(`messages[${i}].role`, role, ['system', 'user', 'assistant']),
    content: textOf(content, `messages[${i}].content`),
  }));
}

function samplingOf(body: ChatRequest): SamplingOptions {
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

function constraintOf({ response_format: format }: ChatRequest): ResponseConstraint | undefined {
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

const finishReasons: Record<GenerationResult['reason'], FinishReason> = {
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
  generation: Generation;
  head: Pick<ChatCompletion, 'id' | 'created' | 'model' | 'system_fingerprint'>;
  usage(result: GenerationResult): Usage;
  logprobs: LogprobWriter | undefined;
  end(): Promise<void>;
}

async function start(model: Model, pool: SessionPool, body: ChatRequest,
  { signal }: RequestOptions): Promise<Run> {
  checkFields(body);
  const top = isNothing(body.top_logprobs) ? 0 : checkInteger('top_logprobs', body.top_logprobs,
    0, 20);
  const constraint = constraintOf(body);
  const prompt = await model.tokenize(messagesOf(body), { signal });
  const most = body.max_completion_tokens ?? body.max_tokens;
  const options: PromptOptions = {
    signal,
    maxTokens: most ?? undefined,
    stop: body.stop ?? undefined,
    logprobs: body.logprobs === true ? top : undefined,
    constraint,
  };
  const { session, cached } = await pool.take(prompt, signal);
  try {
    await session.setSampling(samplingOf(body), { signal });
    return {
      generation: session.generate({ tokens: prompt.slice(cached) }, options),
      head: {
        id: `chatcmpl-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`,
        created: Math.floor(Date.now() / 1000),
        model: body.model ?? model.name ?? 'onekv',
        system_fingerprint: model.hash,
      },
      usage: ({ tokens }) => ({
        prompt_tokens: prompt.length,
        completion_tokens: tokens.length,
        total_tokens: prompt.length + tokens.length,
        prompt_tokens_details: { cached_tokens: cached },
      }),
      logprobs: body.logprobs === true ? new LogprobWriter(model) : undefined,
      end: () => pool.giveBack(session),
    };
  } catch (error) {
    await pool.giveBack(session);
    throw error;
  }
}

async function whole(run: Run): Promise<ChatCompletion> {
  const content: LogprobEntry[] = [];
  try {
    for await (const part of run.generation) {
      for (const entry of (await run.logprobs?.write(part))?.content ?? []) content.push(entry);
    }
    const result = await run.generation.result;
    return {
      ...run.head,
      object: 'chat.completion',
      choices: [{
        index: 0,
        message: { role: 'assistant', content: result.text, refusal: null },
        logprobs: run.logprobs === undefined ? null : { content, refusal: null },
        finish_reason: finishReasons[result.reason],
      }],
      usage: run.usage(result),
      seed: Number(result.seed),
    };
  } finally {
    await run.end();
  }
}

async function* streamed(run: Run, withUsage: boolean): AsyncGenerator<ChatCompletionChunk> {
  const chunk = (delta: ChatCompletionChunk['choices'][0]['delta'],
    logprobs: ChoiceLogprobs | null = null,
    reason: FinishReason | null = null): ChatCompletionChunk => ({
    ...run.head,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs, finish_reason: reason }],
    ...(withUsage ? { usage: null } : {}),
  });
  try {
    yield chunk({ role: 'assistant', content: '' });
    for await (const part of run.generation) {
      const logprobs = await run.logprobs?.write(part) ?? null;
      if (part.text !== '' || logprobs !== null) yield chunk({ content: part.text }, logprobs);
    }
    const result = await run.generation.result;
    yield chunk({}, null, finishReasons[result.reason]);
    if (withUsage) yield { ...chunk({}), choices: [], usage: run.usage(result) };
  } finally {
    await run.end();
  }
}

/**
 * A client of OpenAI's shape for a loaded model that chats. Requests at the same time run at the
 * same time. Errors: INVALID_ARGUMENT names the field that cannot be honoured (tools among them),
 * CONTEXT_FULL, NO_CHAT_TEMPLATE, and those of the session.
 */
export function openai(model: Model, options: OpenAIOptions = {}): OpenAIClient {
  const { sessions = 4 } = checkOptions('openai', options, clientNames);
  const most = checkInteger('sessions', sessions, 1, 1024);
  const pool = new SessionPool(model, most);
  const create = async (body: ChatRequest, request: RequestOptions = {}) => {
    checkSignal('create', request);
    const run = await start(model, pool, body, request);
    return body.stream === true ? streamed(run, body.stream_options?.include_usage === true)
      : whole(run);
  };
  return {
    chat: { completions: { create: create as ChatCompletions['create'] } },
    destroy: () => pool.destroy(),
  };
}
