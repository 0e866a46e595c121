// The subpath onekv/handler: OpenAI's HTTP interface as a function from Request to Response, for
// the fetch option of client libraries, for service workers and for servers.
//
//   const handle = createHandler({ tiny: model });
//   new OpenAI({ apiKey: 'none', baseURL: 'http://localhost/v1', fetch: (...a) =>
//     handle(new Request(...a)) });
//
//   GET  /v1/models             POST /v1/chat/completions     JSON, or with stream: true events
//   GET  /v1/models/NAME        POST /v1/completions          the same
//                               POST /v1/responses            the same (Open Responses)
//                               POST /v1/embeddings           JSON: text embeddings
//
// What is asked of another path is 404, by another method 405; an error is { error: { message,
// type, code, param } } with status 400 (the request), 404 (the model) or 500 (here).
import type { Model } from '../api/model.js';
import { OneKVError, checkInteger, invalidArgument, reasonOf } from '../api/errors.js';
import { checkKind, checkOptions, isSignal } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { openai } from './openai.js';
import type { ChatRequest, Create, EmbeddingRequest, OpenAIClient, ResponseRequest, TextRequest }
  from './openai.js';

export interface HandlerOptions {
  /** Idle sessions that are kept for each model; default 4. */
  sessions?: number | undefined;
  /** Bytes of a request; default 16 MiB. More is status 413. */
  maxBytes?: number | undefined;
}

const handlerNames: NamesOf<HandlerOptions> = { sessions: true, maxBytes: true };

export interface Handler {
  (request: Request): Promise<Response>;
  /** Destroys the sessions; the models stay. */
  destroy(): Promise<void>;
}

/** An answer with a status, as an error. */
class HttpError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const json = (body: unknown, status = 200): Response => new Response(JSON.stringify(body),
  { status, headers: { 'content-type': 'application/json' } });

/** Errors of the request, not of this machine. */
const requestCodes = ['INVALID_ARGUMENT', 'CONSTRAINT_REFUSED', 'CONSTRAINT_TOO_COMPLEX',
  'CONTEXT_FULL', 'BAD_CHAT_TEMPLATE', 'NO_CHAT_TEMPLATE', 'TOKEN_OUT_OF_RANGE', 'WRONG_STATE'];

/** What is wrong with a request begins with the name of its field. */
const unknownField = /^create: found the unknown option "(\w+)"/;
const field = /^([a-z]\w*(?:\.\w+|\[\d+\])*)(?:[:,]| of | without )/;

function errorOf(error: unknown): { status: number; body: object } {
  const code = error instanceof OneKVError || error instanceof HttpError ? error.code : 'INTERNAL';
  const status = error instanceof HttpError ? error.status : requestCodes.includes(code) ? 400
    : 500;
  const type = status < 500 ? 'invalid_request_error' : 'server_error';
  const message = reasonOf(error);
  const [, param = null] = (status < 500 && (unknownField.exec(message) ?? field.exec(message))) ||
    [];
  return { status, body: { error: { message, type, code, param } } };
}

/** The request of a body that streams. In Node 20 an abort reaches a request's signal only as long
 * as somebody holds the request. */
const requestOf = new WeakMap<ReadableStream, Request>();

/** Server-sent events, named where the chunks have a type. Leaving the response ends the answer. */
function eventsOf(chunks: AsyncIterable<{ type?: string }>, request: Request): Response {
  const encoder = new TextEncoder();
  const iterator = chunks[Symbol.asyncIterator]();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: async (controller) => {
      const say = (text: string, type?: string) => controller.enqueue(encoder.encode(
        `${type === undefined ? '' : `event: ${type}\n`}data: ${text}\n\n`));
      try {
        const { done, value } = await iterator.next();
        if (done !== true) {
          say(JSON.stringify(value), value.type);
          return;
        }
        say('[DONE]');
      } catch (error) {
        // The status has been sent: what is wrong is an event.
        say(JSON.stringify({ type: 'error', ...errorOf(error).body }), 'error');
      }
      controller.close();
    },
    cancel: async () => {
      await iterator.return?.(undefined);
    },
  });
  requestOf.set(body, request);
  return new Response(body, { headers: { 'content-type': 'text/event-stream',
    'cache-control': 'no-cache' } });
}

async function bodyOf(request: Request, most: number): Promise<unknown> {
  const tooLong = new HttpError(413, 'TOO_LARGE', `the request has more than ${most} bytes`);
  if (Number(request.headers.get('content-length') ?? 0) > most) throw tooLong;
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (const reader = request.body?.getReader(); reader !== undefined;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw tooLong;
    }
    pieces.push(value);
  }
  try {
    return JSON.parse(await new Blob(pieces).text());
  } catch (error) {
    throw new HttpError(400, 'INVALID_ARGUMENT', `the request is not JSON: ${reasonOf(error)}`);
  }
}

/** Models by the names that requests have for them. Another name is status 404, unless there is
 * one model; no name is the first. */
export function createHandler(models: Readonly<Record<string, Model>>,
  options: HandlerOptions = {}): Handler {
  const { sessions, maxBytes = 1 << 24 } = checkOptions('createHandler', options, handlerNames);
  checkKind('models', models, 'object');
  const most = checkInteger('maxBytes', maxBytes, 1, 2 ** 31 - 1);
  const created = Math.floor(Date.now() / 1000);
  const clients = new Map<string, OpenAIClient>(Object.entries(models).map(([name, model]) =>
    [name, openai(model, { sessions })]));
  const [first] = clients.keys();
  if (first === undefined) {
    throw new OneKVError('INVALID_ARGUMENT', 'models: found none, expected one at least');
  }

  const clientOf = (name: unknown): OpenAIClient => {
    const client = clients.get(typeof name === 'string' && clients.size > 1 ? name : first);
    if (client !== undefined) return client;
    throw new HttpError(404, 'model_not_found',
      `model: found ${String(name).slice(0, 80)}, expected ${[...clients.keys()].join(', ')}`);
  };

  type Asked = { model?: string | undefined; stream?: boolean | null | undefined };
  const answer = <Body extends Asked, Whole extends object, Chunk extends object>(
    createOf: (client: OpenAIClient) => Create<Body, Whole, Chunk>) =>
    async (request: Request): Promise<Response> => {
      const body = await bodyOf(request, most) as Body | null;
      const create = createOf(clientOf(body?.model));
      const { signal } = request;
      // Answers name a model as requests do, not as its file does.
      if (body !== null && typeof body === 'object') body.model ??= first;
      // null and the like are refused by create, in its words.
      return body?.stream === true
        ? eventsOf(await create({ ...body, stream: true }, { signal }), request)
        : json(await create(body as Body & { stream?: false }, { signal }));
    };

  const describe = (id: string) => ({ id, object: 'model', created, owned_by: 'onekv' });
  const routes: Record<string, Record<string, (request: Request) => Promise<Response>>> = {
    '/models': { GET: async () => json({ object: 'list',
      data: [...clients.keys()].map(describe) }) },
    ...Object.fromEntries([...clients.keys()].map((name) =>
      [`/models/${encodeURIComponent(name)}`, { GET: async () => json(describe(name)) }])),
    '/chat/completions': { POST: answer<ChatRequest, object, object>(({ chat }) =>
      chat.completions.create) },
    '/completions': { POST: answer<TextRequest, object, object>(({ completions }) =>
      completions.create) },
    '/embeddings': { POST: answer<EmbeddingRequest, object, object>(({ embeddings }) =>
      embeddings.create as Create<EmbeddingRequest, object, object>) },
    '/responses': { POST: answer<ResponseRequest, object, object>(({ responses }) =>
      responses.create) },
  };

  const handle = async (request: Request): Promise<Response> => {
    if (!isSignal(Object(request).signal)) throw invalidArgument('request', request, 'a Request');
    try {
      const path = new URL(request.url).pathname.replace(/^.*\/v1(?=\/)/, '');
      const methods = Object.hasOwn(routes, path) ? routes[path] : undefined;
      if (methods === undefined) {
        throw new HttpError(404, 'not_found', `there is no ${path.slice(0, 80)} here`);
      }
      const route = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined;
      if (route !== undefined) return await route(request);
      throw new HttpError(405, 'method_not_allowed',
        `${path} takes ${Object.keys(methods).join(', ')}`);
    } catch (error) {
      if (request.signal.aborted) throw error;
      const { status, body } = errorOf(error);
      return json(body, status);
    }
  };
  return Object.assign(handle, { destroy: async () => {
    await Promise.all([...clients.values()].map((client) => client.destroy()));
  } });
}
