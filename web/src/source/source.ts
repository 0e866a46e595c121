// Where a model's bytes come from, as one kind of thing: an async iterable of pieces with a name
// and, when it is known, the number of bytes. Nothing here collects a whole file.
import type { ModelSource, OpenedSource } from '../api/source.js';
import { invalidArgument } from '../api/errors.js';
import { parseIntegrity, verified } from '../store/integrity.js';
import type { StoreChoice } from '../api/store.js';
import { pieces, readStream } from '../util/streams.js';
import { openUrl, openUrlHeader } from './url.js';

export interface SourceOptions {
  signal?: AbortSignal;
  /** The file's SHA-256: 64 hexadecimal digits, or 'sha256-' and base64 as in HTML. */
  integrity?: string;
  /** Keeps what comes from URLs; default 'none'. */
  store?: StoreChoice;
  /** Hears why a model was not stored, in a line. */
  onNote?: (note: string) => void;
}

function isOpened(source: object): source is OpenedSource {
  return 'chunks' in source;
}

/** The URL of a source that is one; undefined for other sources. Error: INVALID_ARGUMENT. */
export function urlOf(source: ModelSource): URL | undefined {
  if (typeof source !== 'string' && !(source instanceof URL)) return undefined;
  try {
    return new URL(source, globalThis.location?.href);
  } catch {
    throw invalidArgument('source', source, 'a URL');
  }
}

function openBytes(source: Exclude<ModelSource, string | URL>): OpenedSource {
  if (source instanceof Blob) {
    const name = 'name' in source ? String(source.name) : 'a blob';
    return { name, chunks: readStream(source.stream()), totalBytes: source.size };
  }
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) {
    const bytes = source instanceof ArrayBuffer ? new Uint8Array(source) : source;
    return { name: 'a buffer', chunks: pieces(bytes), totalBytes: bytes.length };
  }
  if (source instanceof ReadableStream) {
    return { name: 'a stream', chunks: readStream(source), totalBytes: undefined };
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

/**
 * Opens a source. Errors: INVALID_ARGUMENT, SOURCE_FAILED; while reading, INTEGRITY_FAILED at the
 * end, what the source throws, and StartAgain, after which it has to be opened anew.
 */
export async function openSource(source: ModelSource,
  options: SourceOptions = {}): Promise<OpenedSource> {
  const url = urlOf(source);
  if (url !== undefined) return openUrl(url, options);
  const opened = openBytes(source as Exclude<ModelSource, string | URL>);
  if (options.integrity === undefined) return opened;
  const expected = parseIntegrity(options.integrity);
  return { ...opened, chunks: verified(opened.chunks, opened.name, expected) };
}

/** Opens a source for someone who stops reading after the beginning. Errors as openSource, but
 * INTEGRITY_FAILED. */
export async function openHeader(source: ModelSource,
  options: SourceOptions = {}): Promise<OpenedSource> {
  const url = urlOf(source);
  return url === undefined ? openBytes(source as Exclude<ModelSource, string | URL>)
    : openUrlHeader(url, options);
}
