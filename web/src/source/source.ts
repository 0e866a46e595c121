// Where a model's bytes come from, as one kind of thing: an async iterable of chunks with a name
// and, when it is known, the number of bytes. Nothing here collects a whole file.
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { accessNames } from '../api/source.js';
import type { AccessOptions, ModelPart, ModelSource, OpenedSource } from '../api/source.js';
import { OneKVError, invalidArgument } from '../api/errors.js';
import type { SharedFiles, StoreChoice } from '../api/store.js';
import { parseIntegrity, verified } from '../store/integrity.js';
import { bareAddress } from '../store/names.js';
import { blobReader } from '../util/read-at.js';
import { chunksOf, readStream } from '../util/streams.js';
import { accessOf, sharing } from './access.js';
import type { Access } from './request.js';
import { HubSource } from './hub-source.js';
import { isHubName } from './hub.js';
import { SplitSource, partNames } from './split.js';
import { UrlSource } from './url.js';

/** A source that has been opened and can be read. */
export interface Reading extends OpenedSource {
  /** Core took the file: what was stored of it is whole. Nothing else follows. With `hasRows` it
   * will call readAt; error: NotReadable. */
  accept(hasRows?: boolean): Promise<void>;
  /** Reading is over, by this error if there is one. Gives whether opening the source again may
   * give other bytes. */
  leave(error: unknown): Promise<boolean>;
}

/** Errors of both: INVALID_ARGUMENT, SOURCE_FAILED, the signal's reason; while reading,
 * INTEGRITY_FAILED at the end, and what the source throws. */
export interface Source {
  /** For messages. */
  readonly name: string;
  /** What open() gives will have readAt, as far as that is known before. */
  mayRead(): boolean;
  open(): Promise<Reading>;
  /** For callers that need only the header; the integrity is not checked. */
  openHeader(): Promise<Reading>;
}

export interface SourceOptions extends Omit<AccessOptions, 'fetch'> {
  signal?: AbortSignal | undefined;
  /** The file's SHA-256: 64 hexadecimal digits, or 'sha256-' and base64 as in HTML. */
  integrity?: string | undefined;
  /** Keeps what comes from URLs; default 'none'. */
  store?: StoreChoice | undefined;
  /** Name of the stored copy, instead of what the address or the digest makes of it. */
  key?: string | undefined;
  /** Used instead of the platform's. */
  fetch?: Access['fetch'] | undefined;
  /** Files that all sites share; default: Cross-Origin Storage, where it is. */
  shared?: SharedFiles | undefined;
  /** Hears why a model was not stored, in a line. */
  onNote?: ((note: string) => void) | undefined;
}

/** With what only storeModel asks for. */
export interface OwnSourceOptions extends SourceOptions {
  /** It is an error when what comes from a URL is not stored. */
  mustKeep?: boolean | undefined;
}

export const sourceNames: NamesOf<SourceOptions> = {
  ...accessNames, signal: 'AbortSignal', integrity: 'string', store: true, key: 'string',
  shared: 'object', onNote: 'function',
};

/** The URL of a source that is one; undefined for other sources. Error: INVALID_ARGUMENT. */
function urlOf(source: ModelPart): URL | undefined {
  if (source instanceof URL) return source;
  if (typeof source !== 'string') return undefined;
  try {
    if (source.trim() === '') throw new TypeError('it is empty');
    return new URL(source, globalThis.location?.href);
  } catch {
    throw invalidArgument('source', source, 'a URL');
  }
}

/** An answer that a page has fetched itself. Error: SOURCE_FAILED. */
function openResponse(response: Response): OpenedSource {
  const { body, headers, ok, status, url, bodyUsed } = response;
  const name = url === '' ? 'a response' : bareAddress(new URL(url));
  if (!ok) {
    throw new OneKVError('SOURCE_FAILED', `${name}: found HTTP status ${status}, expected 200`);
  }
  if (bodyUsed || body === null) {
    throw new OneKVError('SOURCE_FAILED', `${name}: it has no body, or that has been read`);
  }
  const length = headers.has('content-encoding') ? 0 : Number(headers.get('content-length'));
  return { name, chunks: readStream(body), totalBytes: length > 0 ? length : undefined };
}

function openBytes(source: Exclude<ModelPart, string | URL>): OpenedSource {
  if (source instanceof Response) return openResponse(source);
  if (source instanceof Blob) {
    const name = 'name' in source ? String(source.name) : 'a blob';
    return { name, chunks: readStream(source.stream()), totalBytes: source.size,
      readAt: blobReader(source) };
  }
  if (source instanceof ArrayBuffer || source instanceof Uint8Array) {
    const bytes = source instanceof ArrayBuffer ? new Uint8Array(source) : source;
    return { name: 'a buffer', chunks: chunksOf(bytes), totalBytes: bytes.length };
  }
  if (source instanceof ReadableStream) {
    return { name: 'a stream', chunks: readStream(source), totalBytes: undefined };
  }
  if (typeof source === 'object' && source !== null) {
    if ('chunks' in source) return source;
    if (Symbol.asyncIterator in source) {
      return { name: 'a stream', chunks: source, totalBytes: undefined };
    }
  }
  throw invalidArgument('source', source, 'a URL, Response, Blob, ArrayBuffer, Uint8Array, ' +
    'ReadableStream or async iterable of Uint8Array');
}

/** What has nothing to keep. */
const plain = (opened: OpenedSource): Reading =>
  ({ accept: async () => {}, leave: async () => false, ...opened });

function byteSource(source: Exclude<ModelPart, string | URL>,
  sha256: string | undefined): Source {
  // A stream gives its bytes once; of other sources it costs nothing.
  let opened: OpenedSource | undefined = openBytes(source);
  const take = () => {
    const taken = opened ?? openBytes(source);
    opened = undefined;
    return taken;
  };
  const { name, readAt } = opened;
  return {
    name,
    mayRead: () => readAt !== undefined,
    open: async () => {
      const taken = take();
      return plain(sha256 === undefined ? taken
        : { ...taken, chunks: verified(taken.chunks, sha256) });
    },
    openHeader: async () => plain(take()),
  };
}

/** What of a part is read twice: its header first, and all of it in its turn. */
function isRepeatable(part: unknown): boolean {
  return typeof part === 'string' || part instanceof URL || part instanceof Blob ||
    part instanceof ArrayBuffer || part instanceof Uint8Array ||
    (typeof part === 'object' && part !== null && 'totalBytes' in part && !('body' in part));
}

/** The key of one part, of a key for all. */
function partOptions(options: OwnSourceOptions, part: number): OwnSourceOptions {
  const { integrity, key, ...rest } = options;
  if (integrity !== undefined) {
    throw invalidArgument('integrity', integrity, 'none for a model in several files');
  }
  return key === undefined ? rest : { ...rest, key: `${key}-${part + 1}` };
}

function splitSource(parts: readonly ModelPart[], options: OwnSourceOptions): Source {
  parts.forEach((part, i) => {
    if (isRepeatable(part)) return;
    throw invalidArgument(`source[${i}]`, part, 'a URL, File, Blob, ArrayBuffer or Uint8Array');
  });
  return new SplitSource(parts.map((part, i) => singleSource(part, partOptions(options, i))));
}

/** The addresses of all parts, if this is one of a part. */
function partUrls(url: URL): URL[] | undefined {
  const names = /^https?:$/.test(url.protocol) ? partNames(url.pathname) : undefined;
  return names?.map((pathname) => Object.assign(new URL(url), { pathname }));
}

function singleSource(source: ModelPart, options: OwnSourceOptions): Source {
  const { integrity, key, mustKeep, onNote = () => {} } = options;
  const sha256 = integrity === undefined ? undefined : parseIntegrity(integrity);
  const url = urlOf(source);
  if (url === undefined) {
    return byteSource(source as Exclude<ModelPart, string | URL>, sha256);
  }
  return new UrlSource({ access: accessOf(url, options), sha256, key, onNote, mustKeep,
    store: options.store ?? 'none', ...sharing(options, url) });
}

/** Error: INVALID_ARGUMENT. */
export function sourceOf(source: ModelSource, options: OwnSourceOptions = {}): Source {
  const { key } = options;
  if (key !== undefined && (typeof key !== 'string' || key === '')) {
    throw invalidArgument('key', key, 'a text that is not empty');
  }
  if (Array.isArray(source)) return splitSource(source as readonly ModelPart[], options);
  const part = source as ModelPart;
  if (typeof part === 'string' && isHubName(part)) return new HubSource(part, options);
  const url = urlOf(part);
  const parts = url && partUrls(url);
  return parts === undefined ? singleSource(part, options) : splitSource(parts, options);
}

/** Opens a source. Of a URL with a store: its lock is held until loadModel has read what this
 * gives. Errors as Source. */
export async function openSource(source: ModelSource,
  options: SourceOptions = {}): Promise<OpenedSource> {
  return sourceOf(source, checkOptions('openSource', options, sourceNames)).open();
}
