// The subpath onekv/openai: chat.completions, completions, responses and embeddings over a model
// that is here.
// The API has no state; sessions behind it have, so that a conversation that goes on is not
// computed again.
import type { Model } from '../api/model.js';
import { checkOptions, checkSignal } from '../api/options.js';
import type { NamesOf, SignalOptions } from '../api/options.js';
import { checkInteger } from '../api/errors.js';
import { createEmbeddings } from './openai-embeddings.js';
import { createChat } from './openai-chat.js';
import { createText } from './openai-text.js';
import { createResponse } from './openai-responses.js';
import type { ChatCompletion, ChatCompletionChunk, ChatRequest, EmbeddingRequest,
  EmbeddingResponse, TextCompletion, TextRequest } from './openai-types.js';
import type { ResponseObject, ResponseRequest, ResponseStreamEvent } from
  './openai-responses-types.js';
import { SessionPool } from './session-pool.js';

export type * from './openai-types.js';
export type * from './openai-responses-types.js';

export interface OpenAIOptions {
  /** Idle sessions that are kept for requests that go on from them; default 4. */
  sessions?: number | undefined;
}

const clientNames: NamesOf<OpenAIOptions> = { sessions: true };

export type RequestOptions = SignalOptions;

/** A call that gives the whole of an answer or, with stream: true, what it is made of. */
export interface Create<Body, Whole, Chunk> {
  (body: Body & { stream: true }, options?: RequestOptions): Promise<AsyncIterable<Chunk>>;
  (body: Body & { stream?: false | null }, options?: RequestOptions): Promise<Whole>;
  (body: Body, options?: RequestOptions): Promise<Whole | AsyncIterable<Chunk>>;
}

export interface ChatCompletions {
  readonly create: Create<ChatRequest, ChatCompletion, ChatCompletionChunk>;
}

/** A call that gives vectors as lists of numbers, or as text where that was asked for. */
export interface CreateEmbeddings {
  (body: EmbeddingRequest & { encoding_format: 'base64' },
    options?: RequestOptions): Promise<EmbeddingResponse<string>>;
  (body: EmbeddingRequest & { encoding_format?: 'float' | null },
    options?: RequestOptions): Promise<EmbeddingResponse>;
  (body: EmbeddingRequest, options?: RequestOptions): Promise<EmbeddingResponse<number[] | string>>;
}

export interface OpenAIClient {
  readonly chat: { readonly completions: ChatCompletions };
  /** Text that goes on; no chat template. */
  readonly completions: { readonly create: Create<TextRequest, TextCompletion, TextCompletion> };
  readonly responses: {
    readonly create: Create<ResponseRequest, ResponseObject, ResponseStreamEvent>;
  };
  /** Text embeddings. */
  readonly embeddings: { readonly create: CreateEmbeddings };
  /** Destroys the sessions; the model stays. */
  destroy(): Promise<void>;
}

/**
 * A client of OpenAI's shape for a loaded model. Requests at the same time run at the same time.
 * Errors: INVALID_ARGUMENT names the field that cannot be honoured, CONTEXT_FULL,
 * NO_CHAT_TEMPLATE, and those of the session.
 */
export function openai(model: Model, options: OpenAIOptions = {}): OpenAIClient {
  const { sessions = 4 } = checkOptions('openai', options, clientNames);
  const pool = new SessionPool(model, checkInteger('sessions', sessions, 1, 1024));
  const place = { model, pool };
  const door = <Body, Whole, Chunk>(create: (at: typeof place, body: Body,
    request: RequestOptions) => Promise<Whole | AsyncIterable<Chunk>>) =>
    (async (body: Body, request: RequestOptions = {}) => {
      checkSignal('create', request);
      return create(place, body, request);
    }) as Create<Body, Whole, Chunk>;
  return {
    chat: { completions: { create: door(createChat) } },
    completions: { create: door(createText) },
    responses: { create: door(createResponse) },
    embeddings: { create: door(createEmbeddings) as CreateEmbeddings },
    destroy: () => pool.destroy(),
  };
}
