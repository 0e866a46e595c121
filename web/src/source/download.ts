// A file from the network, from any offset on, through interruptions: what breaks off is asked for
// again by range, as long as the server says that it is still the same file.
import { OneKVError, reasonOf } from '../api/errors.js';
import { readStream } from '../util/streams.js';

export interface Download {
  /** undefined when the server does not say. */
  totalBytes: number | undefined;
  /** Tells versions of the file apart; undefined when the server gives nothing fit for it. */
  validator: string | undefined;
  /** Where `chunks` begins: what was asked for, or 0 when the server starts over. */
  start: number;
  chunks: AsyncIterable<Uint8Array>;
}

export interface DownloadOptions {
  signal?: AbortSignal | undefined;
  /** Begin here, if the file is still the one of the validator. 'any': the caller checks. */
  from?: { offset: number; totalBytes: number | undefined; validator: string | 'any' };
  /** 'no-store' keeps the browser from caching what is stored anyway. */
  cache?: RequestCache;
  /** Milliseconds before the first retry, doubled for each further one; default 500. */
  retryDelay?: number;
}

/** The bytes given so far belong to a file that is gone: they must be thrown away, and reading
 * may start again. */
export class StartAgain extends OneKVError {}

/** Attempts without a single byte before a download is given up. */
const fruitlessMost = 4;

const shortName = (url: URL) => url.href.slice(0, 200);

/** A weak ETag promises no equal bytes; a date does, if only to the second. */
function validatorOf(headers: Headers): string | undefined {
  const tag = headers.get('etag');
  if (tag?.startsWith('"') === true) return tag;
  return headers.get('last-modified') ?? undefined;
}

/** Bytes from `start` to the end of the file, if the answer is that and says so. */
function rangeOf(response: Response, start: number): { totalBytes: number } | undefined {
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  if (range !== null && Number(range[1]) !== start) return undefined;
  if (range !== null) return { totalBytes: Number(range[2]) };
  // Other origins show Content-Range only if they say so; the length they always show.
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  return Number.isSafeInteger(length) ? { totalBytes: start + length } : undefined;
}

function wholeLength({ headers }: Response): number | undefined {
  // A compressed body's length is not the file's.
  const length = headers.has('content-encoding') ? null : headers.get('content-length');
  const total = Number(length ?? Number.NaN);
  return Number.isSafeInteger(total) && total > 0 ? total : undefined;
}

async function request(url: URL, options: DownloadOptions, range?: string): Promise<Response> {
  try {
    return await fetch(url, {
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.cache === undefined ? {} : { cache: options.cache }),
      ...(range === undefined ? {} : { headers: { range } }),
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new OneKVError('SOURCE_FAILED', `${shortName(url)}: ${reasonOf(error)}`,
      { cause: error });
  }
}

/** The rest of the file from an offset, or undefined when it cannot be had as the same file. */
async function requestRest(url: URL, options: DownloadOptions,
  from: NonNullable<DownloadOptions['from']>): Promise<Response | undefined> {
  const response = await request(url, options, `bytes=${from.offset}-`);
  const found = response.status === 206 && !response.headers.has('content-encoding')
    ? rangeOf(response, from.offset) : undefined;
  const same = found !== undefined &&
    (from.totalBytes === undefined || from.totalBytes === found.totalBytes) &&
    (from.validator === 'any' || from.validator === validatorOf(response.headers));
  if (same) return response;
  await response.body?.cancel().catch(() => {});
  if (response.status >= 500) throw badStatus(url, response.status);
  return undefined;
}

function badStatus(url: URL, found: number): OneKVError {
  return new OneKVError('SOURCE_FAILED',
    `${shortName(url)}: found HTTP status ${found}, expected 200`);
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      if (signal?.aborted === true) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', done);
  });
}

/**
 * The body of the rest after an interruption; waits longer after each attempt that brought nothing.
 * Errors: SOURCE_FAILED when that were too many or the server cannot go on, StartAgain.
 */
async function reconnect(url: URL, offset: number, opened: Omit<Download, 'chunks'>,
  options: DownloadOptions, attempts: { fruitless: number },
  failure: unknown): Promise<ReadableStream<Uint8Array>> {
  const { totalBytes, validator } = opened;
  for (;;) {
    options.signal?.throwIfAborted();
    if (attempts.fruitless === fruitlessMost || totalBytes === undefined ||
      validator === undefined || offset > totalBytes) {
      throw new OneKVError('SOURCE_FAILED',
        `${shortName(url)}: broke off after ${offset} bytes: ${reasonOf(failure)}`,
        { cause: failure });
    }
    await pause((options.retryDelay ?? 500) * 2 ** attempts.fruitless, options.signal);
    attempts.fruitless += 1;
    try {
      const rest = await requestRest(url, options, { offset, totalBytes, validator });
      if (rest?.body) return rest.body;
      throw new StartAgain('SOURCE_FAILED',
        `${shortName(url)}: the file was replaced while it was being downloaded`);
    } catch (error) {
      if (error instanceof StartAgain) throw error;
      failure = error;
    }
  }
}

/** The pieces of a body and, when it breaks off, of those that go on from there. */
async function* persistent(url: URL, first: ReadableStream<Uint8Array>,
  opened: Omit<Download, 'chunks'>, options: DownloadOptions): AsyncGenerator<Uint8Array> {
  const { totalBytes } = opened;
  const attempts = { fruitless: 0 };
  let offset = opened.start;
  for (let body = first; ;) {
    let failure: unknown;
    try {
      for await (const chunk of readStream(body)) {
        offset += chunk.length;
        attempts.fruitless = 0;
        yield chunk;
      }
      if (totalBytes === undefined || offset === totalBytes) return;
      failure = new Error(`found ${offset} bytes, expected ${totalBytes}`);
    } catch (error) {
      failure = error;
    }
    body = await reconnect(url, offset, opened, options, attempts, failure);
  }
}

/**
 * Opens a download. Errors: SOURCE_FAILED, the signal's reason; while reading, also StartAgain.
 */
export async function openDownload(url: URL, options: DownloadOptions = {}): Promise<Download> {
  const { from } = options;
  let start = from?.offset ?? 0;
  let response = from === undefined ? undefined : await requestRest(url, options, from);
  if (response === undefined) {
    start = 0;
    response = await request(url, options);
  }
  if (!response.ok || response.body === null) throw badStatus(url, response.status);
  const opened = {
    totalBytes: start > 0 ? rangeOf(response, start)?.totalBytes : wholeLength(response),
    validator: response.headers.has('content-encoding') ? undefined
      : validatorOf(response.headers),
    start,
  };
  return { ...opened, chunks: persistent(url, response.body, opened, options) };
}

/** The first piece of a header, in bytes, and how many times as large each further one is. */
const headBytes = 1 << 20;
const headGrowth = 4;

/**
 * The beginning of a file for whoever stops reading soon: in ranges of growing size, so that
 * little is sent that nobody reads. A server without ranges sends it as one stream.
 */
export async function openBeginning(url: URL, options: DownloadOptions = {}): Promise<Download> {
  const ask = (at: number, count: number) =>
    request(url, options, `bytes=${at}-${at + count - 1}`);
  const first = await ask(0, headBytes);
  if (!first.ok || first.body === null) throw badStatus(url, first.status);
  const validator = validatorOf(first.headers);
  if (first.status !== 206) {
    const opened = { totalBytes: wholeLength(first), validator, start: 0 };
    return { ...opened, chunks: readStream(first.body) };
  }
  const total = /\/(\d+)$/.exec(first.headers.get('content-range') ?? '')?.[1];
  const totalBytes = total === undefined ? undefined : Number(total);
  const chunks = async function* pieces(): AsyncGenerator<Uint8Array> {
    let response = first;
    for (let at = 0, count = headBytes; ; count *= headGrowth) {
      const bytes = new Uint8Array(await response.arrayBuffer());
      yield bytes;
      at += bytes.length;
      if (bytes.length < count || at === totalBytes) return;
      response = await ask(at, count * headGrowth);
      if (response.status === 416) return;
      if (response.status !== 206) throw badStatus(url, response.status);
      if (validatorOf(response.headers) !== validator) {
        throw new StartAgain('SOURCE_FAILED',
          `${shortName(url)}: the file was replaced while it was being read`);
      }
    }
  };
  return { totalBytes, validator, start: 0, chunks: chunks() };
}
