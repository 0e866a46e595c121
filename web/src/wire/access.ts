// How a source is asked for, from the page to the worker: what can be cloned as it is, and a port
// for the page's functions.
import { invalidArgument } from '../api/errors.js';
import type { AccessOptions, FreshAddress, Refused } from '../api/source.js';
import { onAbort } from '../util/on-abort.js';
import { readStream } from '../util/streams.js';
import { callsOf, serveCalls, serveStream, streamOf } from './ports.js';
import type { WireAccess } from './protocol.js';

/** Of RequestInit, what requests for models use and what can be cloned. */
interface WireInit {
  id: number;
  headers: Record<string, string>;
  redirect?: RequestRedirect;
  cache?: RequestCache;
}

interface WireResponse {
  status: number;
  type: ResponseType;
  headers: [string, string][];
  body: MessagePort | undefined;
}

function serveFetch(fetch: NonNullable<AccessOptions['fetch']>) {
  const running = new Map<number, AbortController>();
  return {
    fetch: async (input: string, { id, ...init }: WireInit): Promise<WireResponse> => {
      const controller = new AbortController();
      running.set(id, controller);
      try {
        const response = await fetch(input, { ...init, signal: controller.signal });
        if (typeof response?.status !== 'number' || response.headers === undefined) {
          throw invalidArgument('fetch', response, 'a function that gives a Response');
        }
        const { status, type, headers, body } = response;
        return { status, type, headers: [...headers],
          body: body === null ? undefined : serveStream(readStream(body)) };
      } finally {
        running.delete(id);
      }
    },
    abort: async (id: number) => running.get(id)?.abort(),
  };
}

const serveRefresh = (refresh: NonNullable<AccessOptions['refresh']>) => ({
  refresh: async (refused: Refused): Promise<FreshAddress | undefined> => {
    const fresh = await refresh(refused);
    if (typeof fresh === 'string') return { url: fresh };
    if (fresh instanceof URL) return { url: fresh.href };
    return fresh && { ...fresh, url: String(fresh.url) };
  },
});

/** What of the options the worker needs. Error: INVALID_ARGUMENT. */
export function wireAccess(options: AccessOptions, transfer: Transferable[]): WireAccess {
  const { headers, token, stallSeconds, hub, fetch, refresh } = options;
  const base = globalThis.location?.href;
  const plain: WireAccess = { headers, token, stallSeconds,
    hub: hub === undefined ? hub : new URL(hub, base).href };
  if (fetch === undefined && refresh === undefined) return plain;
  const port = serveCalls({
    ...(fetch === undefined ? {} : serveFetch(fetch)),
    ...(refresh === undefined ? {} : serveRefresh(refresh)),
  });
  transfer.push(port);
  const functions = (['fetch', 'refresh'] as const).filter((name) => options[name] !== undefined);
  return { ...plain, functions, port };
}

type Call = ReturnType<typeof callsOf>;

function fetchBy(call: Call) {
  let next = 0;
  return async (input: string, init: RequestInit) => {
    const { headers, redirect, cache, signal } = init;
    const id = next++;
    const wired = { id, headers, ...(redirect && { redirect }), ...(cache && { cache }) };
    const release = onAbort(signal ?? undefined, () => void call('abort', id));
    try {
      const found = await call('fetch', input, wired) as WireResponse;
      // Fails as a connection of the platform's fetch does: another one goes on.
      const body = found.body && streamOf(found.body, (text) => new TypeError(text));
      return { status: found.status, type: found.type, headers: new Headers(found.headers),
        body: (body ?? null) as ReadableStream<Uint8Array<ArrayBuffer>> | null };
    } finally {
      release();
    }
  };
}

/** The options of what wireAccess made. Their values are checked where they are used. */
export function accessOfWire(wired: WireAccess) {
  const { headers, token, stallSeconds, hub, functions = [], port } = wired;
  const plain = { headers, token, stallSeconds, hub };
  if (port === undefined) return plain;
  if (!(port instanceof MessagePort)) throw invalidArgument('access.port', port, 'a port');
  const call = callsOf(port);
  return {
    ...plain,
    ...(functions.includes('fetch') ? { fetch: fetchBy(call) } : {}),
    ...(functions.includes('refresh') ? { refresh: (refused: Refused) =>
      call('refresh', refused) as Promise<FreshAddress | undefined> } : {}),
  };
}
