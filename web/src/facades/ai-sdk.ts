// The subpath onekv/ai-sdk: models for the functions of the npm package `ai` (its provider
// specification 4), without a server and without a dependency.
//
//   const onekv = createOneKV({ tiny: () => OneKV.load(url) });
//   streamText({ model: onekv('tiny'), prompt: 'Once' });
//   embedMany({ model: onekv.embeddingModel('tiny'), values: ['Once', 'Twice'] });
//
// A model that is given as a function is loaded by its first use. Conversations that go on are not
// computed again: usage says how many tokens were read from a cache.
import type { Model } from '../api/model.js';
import type { GeneratedPart, GenerationResult } from '../api/session.js';
import { checkKind, checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import { embeddingModelOf } from './ai-sdk-embedding.js';
import { aiNames, chatOf } from './ai-sdk-request.js';
import type { CallOptions, Content, EmbeddingModel, Finish, GenerateResult, LanguageModel,
  ResponseMetadata, StreamPart, Usage, Warning } from './ai-sdk-types.js';
import { inCallersWords } from './openai-request.js';
import { chatQuestion, newId, start } from './openai-run.js';
import type { Place, Question, Started } from './openai-run.js';
import { SessionPool } from './session-pool.js';

export type * from './ai-sdk-types.js';

export interface OneKVProviderOptions {
  /** Idle sessions that are kept for each model; default 4. */
  sessions?: number | undefined;
}

const providerNames: NamesOf<OneKVProviderOptions> = { sessions: true };

/** A model, or what loads it: called by the first use, and by the next one if it fails. */
export type ModelOrLoad = Model | (() => Promise<Model>);

export interface OneKVProvider {
  (modelId: string): LanguageModel;
  readonly specificationVersion: 'v4';
  /** Error: INVALID_ARGUMENT, of a name that is not there. */
  languageModel(modelId: string): LanguageModel;
  /** Text embeddings. Error: INVALID_ARGUMENT, of a name that is not there. */
  embeddingModel(modelId: string): EmbeddingModel;
  /** Destroys the sessions; the models stay. */
  destroy(): Promise<void>;
}

/** Turns parts into the specification's, which begin and end each stretch of one kind. */
class Parts {
  #open: { type: 'text' | 'reasoning'; id: string } | undefined;
  #count = 0;
  /** Tokens of thoughts. */
  thought = 0;

  *take(part: GeneratedPart): Generator<StreamPart> {
    const { type, text, toolCall, token } = part;
    if (type === 'reasoning' && token !== undefined) this.thought += 1;
    if (toolCall !== undefined) {
      yield* this.end();
      const { id, name } = toolCall;
      const input = JSON.stringify(toolCall.arguments);
      yield { type: 'tool-input-start', id, toolName: name };
      yield { type: 'tool-input-delta', id, delta: input };
      yield { type: 'tool-input-end', id };
      yield { type: 'tool-call', toolCallId: id, toolName: name, input };
    } else if (text !== '' && (type === 'text' || type === 'reasoning')) {
      if (this.#open?.type !== type) {
        yield* this.end();
        this.#open = { type, id: String(this.#count++) };
        yield { type: `${type}-start`, id: this.#open.id };
      }
      yield { type: `${type}-delta`, id: this.#open.id, delta: text };
    }
  }

  *end(): Generator<StreamPart> {
    if (this.#open !== undefined) yield { type: `${this.#open.type}-end`, id: this.#open.id };
    this.#open = undefined;
  }
}

const finishes = { end: 'stop', stop: 'stop', length: 'length', context: 'length' } as const;

const finishOf = ({ reason, toolCalls }: GenerationResult): Finish =>
  ({ unified: toolCalls.length > 0 ? 'tool-calls' : finishes[reason], raw: reason });

function usageOf({ usage }: Started, result: GenerationResult, thought: number): Usage {
  const { prompt_tokens: total, completion_tokens: made,
    prompt_tokens_details: { cached_tokens: cached } } = usage(result);
  return {
    inputTokens: { total, noCache: total - cached, cacheRead: cached, cacheWrite: undefined },
    outputTokens: { total: made, text: made - thought, reasoning: thought },
  };
}

/** The parts of one answer. */
async function* answer(place: Place, question: Question, warnings: Warning[],
  metadata: ResponseMetadata): AsyncGenerator<StreamPart> {
  // Before the session is taken: a stream of which no more is read holds nothing.
  yield { type: 'stream-start', warnings };
  yield { type: 'response-metadata', ...metadata };
  const started = await start(place, question);
  const parts = new Parts();
  for await (const part of started.generation) {
    // What has come and was not read yet is of no use any more.
    question.options.signal?.throwIfAborted();
    yield* parts.take(part);
  }
  const result = await started.generation.result;
  await started.isBack;
  yield* parts.end();
  yield { type: 'finish', finishReason: finishOf(result),
    usage: usageOf(started, result, parts.thought) };
}

/** Leaving the stream ends the answer. */
function streamOf(parts: AsyncGenerator<StreamPart>,
  signal: AbortSignal | undefined): ReadableStream<StreamPart> {
  return new ReadableStream<StreamPart>({
    pull: async (controller) => {
      try {
        const { done, value } = await parts.next();
        if (done === true) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        if (signal?.aborted === true) controller.error(error);
        else {
          controller.enqueue({ type: 'error', error: inCallersWords(error, aiNames) });
          controller.close();
        }
      }
    },
    cancel: async () => {
      await parts.return(undefined);
    },
  });
}

async function whole(parts: AsyncIterable<StreamPart>, warnings: Warning[],
  response: ResponseMetadata): Promise<GenerateResult> {
  const content: Content[] = [];
  let last: { usage: Usage; finishReason: Finish } | undefined;
  for await (const part of parts) {
    if (part.type === 'text-start') content.push({ type: 'text', text: '' });
    else if (part.type === 'reasoning-start') content.push({ type: 'reasoning', text: '' });
    else if (part.type === 'text-delta' || part.type === 'reasoning-delta') {
      (content.at(-1) as { text: string }).text += part.delta;
    } else if (part.type === 'tool-call') content.push(part);
    else if (part.type === 'finish') last = part;
  }
  const { usage, finishReason } = last as NonNullable<typeof last>;
  return { content, usage, finishReason, response, warnings };
}

function modelOf(modelId: string, placeOf: () => Promise<Place>): LanguageModel {
  const begin = async (options: CallOptions) => {
    try {
      const { chat, warnings } = chatOf(options);
      const signal = options.abortSignal;
      signal?.throwIfAborted();
      const place = await placeOf();
      const question = await chatQuestion(place.model, chat, { signal });
      const metadata = { id: newId('onekv-'), timestamp: new Date(), modelId };
      return { metadata, warnings, parts: answer(place, question, warnings, metadata) };
    } catch (error) {
      throw inCallersWords(error, aiNames);
    }
  };
  return {
    specificationVersion: 'v4', provider: 'onekv', modelId, supportedUrls: {},
    doStream: async (options) =>
      ({ stream: streamOf((await begin(options)).parts, options.abortSignal) }),
    doGenerate: async (options) => {
      const { parts, warnings, metadata } = await begin(options);
      try {
        return await whole(parts, warnings, metadata);
      } catch (error) {
        throw inCallersWords(error, aiNames);
      }
    },
  };
}

/** Models by the names that the app has for them. */
export function createOneKV(models: Readonly<Record<string, ModelOrLoad>>,
  options: OneKVProviderOptions = {}): OneKVProvider {
  const { sessions = 4 } = checkOptions('createOneKV', options, providerNames);
  const most = checkInteger('sessions', sessions, 1, 1024);
  checkKind('models', models, 'object');
  const names = Object.keys(models);
  if (names.length === 0) {
    throw new OneKVError('INVALID_ARGUMENT', 'models: found none, expected one at least');
  }
  const places = new Map<string, Promise<Place>>();

  const placeOf = (name: string): Promise<Place> => {
    const known = places.get(name);
    if (known !== undefined) return known;
    const made = (async () => {
      const given = models[name] as ModelOrLoad;
      const model = typeof given === 'function' ? await given() : given;
      return { model, pool: new SessionPool(model, most) };
    })();
    places.set(name, made);
    made.catch(() => places.delete(name));
    return made;
  };

  const checked = (modelId: string): string => {
    if (Object.hasOwn(models, modelId)) return modelId;
    throw invalidArgument('modelId', modelId, names.join(', '));
  };
  const languageModel = (modelId: string): LanguageModel =>
    modelOf(checked(modelId), () => placeOf(modelId));
  return Object.assign((modelId: string) => languageModel(modelId), {
    specificationVersion: 'v4' as const,
    languageModel,
    embeddingModel: (modelId: string) =>
      embeddingModelOf(checked(modelId), async () => (await placeOf(modelId)).model),
    destroy: async () => {
      const made = await Promise.allSettled(places.values());
      places.clear();
      await Promise.all(made.map((one) =>
        (one.status === 'fulfilled' ? one.value.pool.destroy() : undefined)));
    },
  });
}
