// Where a model's bytes come from, as one kind of thing: an async iterable of pieces with a name
// and, when it is known, the number of bytes. Nothing here collects a whole file.
import { OneKVError, invalidArgument, reasonOf } from './errors.js';

export interface OpenedSource {
  chunks: AsyncIterable<Uint8Array>;
  /** undefined when it is not known before the end. */
  totalBytes: number | undefined;
  /** For messages. */
  name: string;
}

/** A string is a URL, relative to the page; in Node ('onekv' resolves to it there) a path too. */
export type ModelSource = string | URL | Blob | ArrayBuffer | Uint8Array |
  ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | OpenedSource;

/** Bytes in memory are fed in pieces, so that the event loop gets its turns. */
const pieceBytes = 1 << 20;

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** A stream's pieces. Not all engines iterate streams by themselves. */
async function* read(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      yield value;
    }
  } finally {
    // Leaving early ends a download; a stream that failed needs no cancelling.
    if (!ended) await reader.cancel().catch(() => {});
  }
}

async function openUrl(url: URL, signal: AbortSignal | undefined): Promise<OpenedSource> {
  const name = url.href.slice(0, 200);
  let response: Response;
  try {
    response = await fetch(url, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw new OneKVError('SOURCE_FAILED', `${name}: ${reasonOf(error)}`, { cause: error });
  }
  if (!response.ok || response.body === null) {
    throw new OneKVError('SOURCE_FAILED', `${name}: found HTTP status ${response.status}, ` +
      'expected 200');
  }
  // A compressed body's length is not the file's.
  const length = response.headers.has('content-encoding') ? null
    : response.headers.get('content-length');
  const total = Number(length ?? Number.NaN);
  return {
    name,
    chunks: read(response.body),
    totalBytes: Number.isSafeInteger(total) ? total : undefined,
  };
}

function isOpened(source: object): source is OpenedSource {
  return 'chunks' in source;
}

/** Errors: INVALID_ARGUMENT, SOURCE_FAILED; while reading, what the source throws. */
export async function openSource(source: ModelSource, signal?: AbortSignal): Promise<OpenedSource> {
  if (typeof source === 'string' || source instanceof URL) {
    let url: URL;
    try {
      url = new URL(source, globalThis.location?.href);
    } catch {
      throw invalidArgument('source', source, 'a URL');
    }
    return openUrl(url, signal);
  }
  if (source instanceof Blob) {
    const name = 'name' in source ? String(source.name) : 'a blob';
    return { name, chunks: read(source.stream()), totalBytes: source.size };
  }
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) {
    const bytes = source instanceof ArrayBuffer ? new Uint8Array(source) : source;
    return { name: 'a buffer', chunks: pieces(bytes), totalBytes: bytes.length };
  }
  if (source instanceof ReadableStream) {
    return { name: 'a stream', chunks: read(source), totalBytes: undefined };
  }
  if (typeof source === 'object' && source !== null) {
    if (isOpened(source)) return source;
    if (Symbol.asyncIterator in source) {
      return { name: 'a stream', chunks: source, totalBytes: undefined };
    }
  }
  throw invalidArgument('source', source,
    'a URL, Blob, ArrayBuffer, Uint8Array, ReadableStream or async iterable of Uint8Array');
}
