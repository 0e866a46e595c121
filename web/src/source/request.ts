// One request to a server: who may see its headers, how long silence is waited for, and what is
// said when no answer comes.
//
// A request that fails becomes one of three errors: Unreachable (no answer, or it broke off, or
// fell silent), BadStatus (an answer that is not a file), or the signal's reason.
import { OneKVError, reasonOf } from '../api/errors.js';
import { onAbort } from '../util/on-abort.js';
import { pause } from '../util/pause.js';
import { readStream } from '../util/streams.js';

/** As much of a Response as is used: a page's own fetch is called through a port (wire/access). */
type AnyResponse = Pick<Response, 'status' | 'type' | 'headers' | 'body'>;

/** Where a file is: a signed address may change while it is downloaded. */
export interface Address {
  url: URL;
  /** Sent to this URL's origin alone. */
  headers: Record<string, string>;
}

/** How to ask. */
export interface Access {
  address: Address;
  signal: AbortSignal | undefined;
  fetch: (input: string, init: RequestInit) => Promise<AnyResponse>;
  /** Without a byte for this long a connection counts as broken. */
  stallSeconds: number;
  /** 'no-store' keeps the browser from caching what is stored anyway. */
  cache: 'no-store' | 'reload' | 'no-cache' | undefined;
  /** Milliseconds before the first retry, doubled for each further one. */
  retryDelay: number;
  /** Gives a new address after a refusal; undefined when there is none. */
  refresh: ((status: number, offset: number) => Promise<Address | undefined>) | undefined;
}

/** Of Node; browsers do not say. */
const resets: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

/** No answer, or one that broke off. */
export class Unreachable extends OneKVError {
  /** For programs that want to know whether it is worth another try. */
  readonly explain: () => Promise<string>;

  constructor(cause: unknown, explain: () => Promise<string>) {
    super('SOURCE_FAILED', causeOf(cause), { cause });
    this.explain = explain;
  }

  /** The server took the connection, and broke it: it may be there again in a while. */
  get isReset(): boolean {
    for (let at: unknown = this.cause; at instanceof Error; at = at.cause) {
      if (resets.has((at as { code?: unknown }).code)) return true;
    }
    return false;
  }
}

/** An answer with a status that gives no file. */
export class BadStatus extends OneKVError {
  readonly status: number;
  /** What the server asks to wait; undefined when it does not say. */
  readonly waitMs: number | undefined;

  constructor(answer: Answer, text: string) {
    super('SOURCE_FAILED', text);
    this.status = answer.status;
    this.waitMs = waitOf(answer.headers);
  }

  /** The server may answer otherwise in a while. */
  get isPassing(): boolean {
    return this.status === 408 || this.status === 429 || this.status >= 500;
  }

  /** Who asks may not have it, or not any more. */
  get isRefusal(): boolean {
    return [401, 403, 404, 410].includes(this.status);
  }
}

/** Retry-After is in seconds or a date. */
function waitOf(headers: Headers): number | undefined {
  const text = headers.get('retry-after');
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** Node says "fetch failed", and why in the cause; of several attempts, the cause has a code. */
function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (!(cause instanceof Error)) return reasonOf(error);
  const { code } = cause as { code?: unknown };
  return `${reasonOf(error)}: ${cause.message || String(code ?? cause.name)}`;
}

/** Of Node: nobody was reached, or the name means nobody. */
const silences = /^(ENOTFOUND|EAI_\w+|E(NET|HOST)(UNREACH|DOWN)|ECONNREFUSED|.*TIME(D)?OUT)$/;

/** Who was not reached, if that is why; browsers do not say. */
function unreached({ host }: URL, error: unknown): string | undefined {
  const { code, hostname = host } = ((error as Error | undefined)?.cause ?? {}) as
    { code?: unknown; hostname?: string };
  return silences.test(String(code)) ? hostname : undefined;
}

/** Rejects when nothing has happened for a while; without a limit it never does. */
class Watch {
  readonly #seconds: number;
  readonly #onStall: () => void;

  constructor(seconds: number, onStall: () => void) {
    this.#seconds = seconds;
    this.#onStall = onStall;
  }

  /** The promise's value, if it comes in time. */
  async during<T>(coming: Promise<T>): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stalled = new Promise<never>((_, reject) => {
      // Timers take 31 bits; what is beyond never comes.
      if (!(this.#seconds * 1000 < 2 ** 31)) return;
      timer = setTimeout(() => {
        reject(new Error(`no byte came for ${this.#seconds} seconds`));
        this.#onStall();
      }, this.#seconds * 1000);
    });
    try {
      return await Promise.race([coming, stalled]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** An answer whose body is read once, or cancelled. */
export class Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly #response: AnyResponse;
  readonly #watch: Watch;
  readonly #failed: (error: unknown) => Error;
  readonly #release: () => void;

  constructor(response: AnyResponse, watch: Watch, failed: (error: unknown) => Error,
    release: () => void) {
    this.status = response.status;
    this.headers = response.headers;
    this.#response = response;
    this.#watch = watch;
    this.#failed = failed;
    this.#release = release;
  }

  /** The body's chunks; each is gone when the next one is asked for. Error: Unreachable. */
  async* chunks(): AsyncGenerator<Uint8Array> {
    const { body } = this.#response;
    const chunks = readStream(body ?? new ReadableStream({ start: (c) => c.close() }));
    let isOver = false;
    try {
      for (;;) {
        const { done, value } = await this.#watch.during(chunks.next());
        isOver = done === true;
        if (done === true) return;
        yield value;
      }
    } catch (error) {
      isOver = true;
      throw this.#failed(error);
    } finally {
      this.#release();
      // One that fell silent may never end: it is not waited for.
      if (!isOver) await chunks.return(undefined).catch(() => {});
    }
  }

  async cancel(): Promise<void> {
    this.#release();
    await this.#response.body?.cancel().catch(() => {});
  }
}

const redirectsMost = 20;

/**
 * Sends headers to their origin and no further. fetch itself takes only `authorization` away when
 * a redirect leaves the origin, so with other headers every redirect is followed by hand; a page
 * cannot see where one leads, and has to do without.
 */
async function ask({ address, fetch }: Access, init: RequestInit,
  range: Record<string, string>): Promise<AnyResponse> {
  const { headers, url } = address;
  const isSafe = Object.keys(headers).every((name) => name.toLowerCase() === 'authorization');
  if (isSafe) return fetch(url.href, { ...init, headers: { ...headers, ...range } });
  let at = url;
  for (let hops = 0; at.origin === url.origin; hops++) {
    if (hops > redirectsMost) throw new Error(`more than ${redirectsMost} redirects`);
    const response = await fetch(at.href,
      { ...init, headers: { ...headers, ...range }, redirect: 'manual' });
    if (response.type === 'opaqueredirect') {
      throw new OneKVError('SOURCE_FAILED', 'the server redirects, and a page cannot keep its ' +
        'headers from going along: give the final address, an authorization header, or a fetch');
    }
    const location = response.headers.get('location');
    if (response.status < 300 || response.status > 399 || location === null) return response;
    await response.body?.cancel().catch(() => {});
    at = new URL(location, at);
  }
  return fetch(at.href, { ...init, headers: range });
}

/** Hears whether a policy of the page forbids an address. */
function watchPolicy({ origin }: URL): { isForbidden(): boolean; end(): void } {
  let found = false;
  const hear = (event: Event) => {
    const { blockedURI } = event as SecurityPolicyViolationEvent;
    found ||= blockedURI === origin || String(blockedURI).startsWith(`${origin}/`);
  };
  const target = globalThis as { addEventListener?: typeof addEventListener;
    removeEventListener?: typeof removeEventListener };
  target.addEventListener?.('securitypolicyviolation', hear);
  return {
    isForbidden: () => found,
    end: () => target.removeEventListener?.('securitypolicyviolation', hear),
  };
}

/** The event comes after the failure. */
const policyMs = 50;

/** Why a request failed, as far as a page can find out. */
async function explain(url: URL, cause: unknown, isForbidden: () => boolean): Promise<string> {
  const who = unreached(url, cause);
  const text = causeOf(cause);
  if (who !== undefined) return `no connection to ${who} (${text})`;
  const here = globalThis.location as Location | undefined;
  if (!(cause instanceof TypeError) || here === undefined) return text;
  if (globalThis.navigator?.onLine === false) return `this device is offline (${text})`;
  await pause(policyMs, undefined);
  if (isForbidden()) {
    return 'the page\'s Content-Security-Policy does not allow this address, or one that it ' +
      `redirects to: connect-src must name it (${text})`;
  }
  if (url.origin === here.origin) return `the server does not answer (${text})`;
  try {
    // Without CORS a page may ask, but not read: a server that answers is there.
    await globalThis.fetch(url, { mode: 'no-cors', method: 'HEAD', credentials: 'omit' });
    return 'the server answers, but lets no page of another origin read it: it must send ' +
      `Access-Control-Allow-Origin (${text})`;
  } catch {
    // WebKit tells a worker of no violation of the policy.
    return `the server does not answer${globalThis.crossOriginIsolated
      ? ', lets no page of another origin read it' : ''}, or a Content-Security-Policy of the ` +
      `page does not allow its address: connect-src must name it (${text})`;
  }
}

/**
 * Asks for a file, or for the range of it that the header says. Errors: Unreachable, the signal's
 * reason; SOURCE_FAILED when headers cannot be kept from another origin.
 */
export async function request(access: Access, range?: string): Promise<Answer> {
  const { signal, stallSeconds, cache, address: { url } } = access;
  signal?.throwIfAborted();
  const controller = new AbortController();
  const release = onAbort(signal, () => controller.abort(signal?.reason));
  const watch = new Watch(stallSeconds, () => controller.abort());
  const policy = watchPolicy(url);
  const failed = (error: unknown) => {
    if (signal?.aborted === true) return signal.reason as Error;
    if (error instanceof OneKVError) return error;
    return new Unreachable(error, () => explain(url, error, policy.isForbidden));
  };
  try {
    const init = { signal: controller.signal, ...(cache === undefined ? {} : { cache }) };
    const coming = ask(access, init, range === undefined ? {} : { range });
    return new Answer(await watch.during(coming), watch, failed, release);
  } catch (error) {
    release();
    throw failed(error);
  } finally {
    // Not at once: the violation is told after the failure.
    setTimeout(policy.end, 2 * policyMs);
  }
}
