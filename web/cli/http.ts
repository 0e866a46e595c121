// A function from Request to Response behind Node's http server, with the rules of one that is
// meant for this machine alone.
//
// A page anywhere in the web can send requests to this machine. So one that says which page it
// comes from (Origin) is refused, unless that page is allowed; and on a loopback address one that
// is not sent to it by a loopback name (a name that somebody points at 127.0.0.1).
import { timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as NodeStream } from 'node:stream/web';

interface Rules {
  /** Origins of pages that may ask, '*' for all. */
  origins: readonly string[];
  /** What `authorization: Bearer` must have; undefined: nothing. */
  key: string | undefined;
  /** Only loopback names as Host. */
  isLocal: boolean;
  /** Answers at the same time; more are status 503. */
  most: number;
  /** Of a request. */
  maxBytes: number;
  /** What somebody reads who opens the address in a browser. */
  about: string;
}

/** A request that was answered, or left. */
export interface Served {
  method: string;
  path: string;
  status: number;
  ms: number;
}

export interface Door {
  server: Server;
  /** Ends when no answer is on its way any more. */
  idle(): Promise<void>;
  /** Ends all answers. */
  abort(): void;
}

const loopback = /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export const isLoopback = (host: string): boolean =>
  loopback.test(host.includes(':') ? `[${host}]` : host);

function same(found: string, expected: string): boolean {
  const [a, b] = [found, expected].map((text) => new TextEncoder().encode(text)) as
    [Uint8Array, Uint8Array];
  return a.length === b.length && timingSafeEqual(a, b);
}

const refusal = (status: number, code: string, message: string, headers = {}): Response =>
  Response.json({ error: { message, type: 'invalid_request_error', code, param: null } },
    { status, headers });

/** Why a request is not answered; undefined: it is. */
function refused({ headers }: IncomingMessage, { origins, key, isLocal }: Rules):
Response | undefined {
  const { host = '', origin, authorization = '' } = headers;
  if (isLocal && !loopback.test(host)) {
    return refusal(403, 'host_refused', `Host: found ${host.slice(0, 80)}, expected localhost`);
  }
  if (origin !== undefined && !origins.includes('*') && !origins.includes(origin)) {
    return refusal(403, 'origin_refused',
      `requests from pages of ${origin.slice(0, 80)} are refused; onekv serve --cors allows them`);
  }
  if (key !== undefined && !same(authorization, `Bearer ${key}`)) {
    return refusal(401, 'invalid_api_key', 'the API key is missing or wrong',
      { 'www-authenticate': 'Bearer' });
  }
  return undefined;
}

function corsHeaders({ headers }: IncomingMessage, { origins }: Rules): Record<string, string> {
  const { origin } = headers;
  if (origin === undefined || !(origins.includes('*') || origins.includes(origin))) return {};
  return { 'access-control-allow-origin': origin, vary: 'Origin' };
}

/** What a browser asks before it sends a request of a page. It has no API key. */
function preflight(request: IncomingMessage, rules: Rules): Response {
  const why = refused(request, { ...rules, key: undefined });
  if (why !== undefined) return why;
  return new Response(null, { status: 204, headers: {
    'access-control-allow-methods': 'GET, POST',
    'access-control-allow-headers':
      String(request.headers['access-control-request-headers'] ?? 'authorization, content-type'),
    'access-control-max-age': '600',
  } });
}

/** The body as far as it is wanted: more than `most` bytes say that it is too long. Rejects when
 * the client leaves. */
function collect(request: IncomingMessage, most: number): Promise<Buffer<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let length = 0;
    const end = () => resolve(Buffer.concat(pieces));
    request.on('end', end).on('error', reject)
      .on('close', () => reject(new Error('the client has left')));
    if (Number(request.headers['content-length'] ?? 0) > most) {
      end();
      return;
    }
    request.on('data', (piece: Buffer) => {
      length += piece.length;
      // What is not kept has to be read, or the client does not hear why.
      if (length - piece.length <= most) pieces.push(piece);
      if (length > most) end();
    });
  });
}

/** Error: what the platform has no request for. */
function requestOf(request: IncomingMessage, signal: AbortSignal,
  body?: Buffer<ArrayBuffer>): Request {
  const { method = 'GET', url = '/' } = request;
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && !name.startsWith(':')) headers.set(name, String(value));
  }
  return new Request(new URL(url, 'http://localhost'),
    { method, headers, signal, ...(body === undefined ? {} : { body }) });
}

async function send(response: ServerResponse, answer: Response,
  more: Record<string, string>): Promise<void> {
  response.writeHead(answer.status, { ...Object.fromEntries(answer.headers), ...more });
  if (answer.body === null) response.end();
  else await pipeline(Readable.fromWeb(answer.body as NodeStream<Uint8Array>), response);
}

/** `onServed` hears of each request after its end. */
export function doorOf(handle: (request: Request) => Promise<Response>, rules: Rules,
  onServed: (served: Served) => void): Door {
  const running = new Set<AbortController>();
  let [places, onIdle] = [0, () => {}];

  /** A request that computes has one of the places, from when it is here on: one that comes slowly
   * keeps nobody from asking. */
  const compute = async (request: IncomingMessage, controller: AbortController) => {
    const busy = () => refusal(503, 'busy', `${rules.most} requests are being answered already`,
      { 'retry-after': '1' });
    if (places >= rules.most) return busy();
    const body = await collect(request, rules.maxBytes);
    if (places >= rules.most) return busy();
    const asked = requestOf(request, controller.signal, body);
    places += 1;
    running.add(controller);
    return handle(asked);
  };

  const answerTo = async (request: IncomingMessage, controller: AbortController) => {
    if (request.method === 'OPTIONS') return preflight(request, rules);
    const why = refused(request, rules);
    if (why !== undefined) return why;
    if (request.method === 'GET' && /^\/(v1\/?)?$/.test(request.url ?? '')) {
      return new Response(rules.about,
        { headers: { 'content-type': 'text/plain; charset=utf-8' } });
    }
    try {
      if (request.method === 'POST') return await compute(request, controller);
      return await handle(requestOf(request, controller.signal));
    } catch (error) {
      if (controller.signal.aborted) throw error;
      return /^(TRACE|TRACK|CONNECT)$/.test(request.method ?? '')
        ? refusal(405, 'method_not_allowed', `${request.method} is not supported`,
          { allow: 'GET, POST' })
        : refusal(400, 'bad_request', 'the address of the request cannot be read');
    }
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const controller = new AbortController();
    const { method = '', url = '' } = request;
    const started = performance.now();
    response.on('close', () => controller.abort(new Error('the client has left')));
    try {
      await send(response, await answerTo(request, controller),
        corsHeaders(request, rules));
    } catch {
      // The client has left, or the server ends: there is nobody to tell.
      response.destroy();
    } finally {
      if (running.delete(controller)) places -= 1;
      onServed({ method, path: url, status: response.statusCode,
        ms: performance.now() - started });
      if (running.size === 0) onIdle();
    }
  };

  // Somebody who sends nothing more is not waited for.
  const server = createServer({ requestTimeout: 60_000, headersTimeout: 20_000,
    connectionsCheckingInterval: 5_000 }, (request, response) => void serve(request, response));
  // Without a listener the connection is closed without a word.
  server.on('connect', (_, socket) => socket.end('HTTP/1.1 405 Method Not Allowed\r\n' +
    'allow: GET, POST\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'));
  return {
    server,
    idle: () => new Promise((resolve) => {
      onIdle = resolve;
      if (running.size === 0) resolve();
    }),
    abort: () => {
      for (const controller of running) controller.abort(new Error('the server ends'));
    },
  };
}
