// OneKV.load and its siblings: each starts a worker of its own, and what goes wrong ends it.
import type { Availability, Estimate, EstimateOptions, LoadOptions, OneKVStatic,
  WorkerOptions } from '../api/load.js';
import { estimateNames, loadNames, storeNames, workerNames } from '../api/load.js';
import { checkOptions } from '../api/options.js';
import type { ModelPart, ModelSource } from '../api/source.js';
import { OneKVError, checkNumber, invalidArgument, reasonOf } from '../api/errors.js';
import { GuardedTarget } from '../api/events.js';
import { progressEvent } from './events.js';
import { onAbort, unlessAborted } from '../util/on-abort.js';
import { deleteModel, listModels, persistStorage } from '../store/models.js';
import { wireAccess } from '../wire/access.js';
import { serveStore, serveStream } from '../wire/ports.js';
import { serveShared } from '../wire/shared.js';
import type { Args, Result, WireModelOptions, WirePart, WireSource, WireStore }
  from '../wire/protocol.js';
import { RemoteModel } from './model.js';
import { pageTools } from './page-tools.js';
import { chooseStore } from '../store/choose.js';
import { crossOriginFiles } from '../store/cross-origin.js';
import type { StoreChoice } from '../api/store.js';
import { readStream } from '../util/streams.js';
import { WorkerClient } from './client.js';
import { IdleClient } from './idle-client.js';
import { shareName, whyNotShare } from './share-name.js';
import { SharedClient } from './shared-client.js';
import type { SharedModel } from './share-host.js';
import type { Client, StartWorker } from './client.js';

/** What differs between a page and Node. */
interface Platform {
  startWorker: StartWorker;
  /** What has to be waited for before a worker may be started; undefined if nothing. */
  workerComing?: () => Promise<void> | undefined;
  /** A string source as the worker takes it. Error: INVALID_ARGUMENT. */
  resolve(source: string): string;
  /** Default of LoadOptions.store. */
  store: StoreChoice;
  /** The end of a worker is only seen by a lock that it holds. */
  watchesLock: boolean;
}

type Opened = Result<'open'>;

let hasWarned = false;

/** Once per page: without threads everything is several times slower, and nobody would know why. */
function warnOfOneThread({ threads, notes }: Opened, asked: WorkerOptions['threads']): void {
  if (threads > 1 || asked === 1 || hasWarned) return;
  const reason = notes.find((note) => /^1 (of \d+ )?threads?:/.test(note));
  if (reason === undefined) return;
  hasWarned = true;
  console.warn(`OneKV: ${reason}`);
}

function wireStore(store: StoreChoice, transfer: Transferable[]): WireStore {
  if (typeof store === 'string') return store;
  chooseStore(store); // Checks that it is one.
  const port = serveStore(store);
  transfer.push(port);
  return { port, hasPaths: store.pathOf !== undefined };
}

/** Of the page: workers may have none of their own. */
function wireShared(transfer: Transferable[]): MessagePort | undefined {
  const files = crossOriginFiles();
  const port = files && serveShared(files);
  if (port !== undefined) transfer.push(port);
  return port;
}

/** A message keeps the platform's own blobs whole; of a subclass whose bytes come by its stream(),
 * as clients of hubs give, it would keep nothing. */
function isPlainBlob(source: unknown): source is Blob {
  const kind: unknown = source instanceof Blob ? Object.getPrototypeOf(source) : undefined;
  return kind !== undefined && (kind === Blob.prototype ||
    (typeof File === 'function' && kind === File.prototype));
}

/** Of what is asked for its chunks, for messages. */
function streamName(source: unknown): string {
  if (source instanceof Response) return source.url.split(/[?#]/)[0] || 'a response';
  const { name } = source as { name?: unknown };
  return typeof name === 'string' && name !== '' ? name : 'a stream';
}

function wireSource(platform: Platform, source: ModelSource,
  transfer: Transferable[]): WireSource {
  if (!Array.isArray(source)) return wirePart(platform, source as ModelPart, transfer);
  return (source as readonly ModelPart[]).map((part, i) => {
    const isRepeatable = typeof part === 'string' || part instanceof URL || isPlainBlob(part) ||
      part instanceof ArrayBuffer || part instanceof Uint8Array;
    if (isRepeatable) return wirePart(platform, part, transfer);
    throw invalidArgument(`source[${i}]`, part, 'a URL, File, Blob, ArrayBuffer or Uint8Array');
  });
}

/** A file as it is sent. Streams stay here, and are asked for their chunks. */
function wirePart(platform: Platform, source: ModelPart, transfer: Transferable[]): WirePart {
  if (typeof source === 'string') {
    return /^hf:/i.test(source) ? source : platform.resolve(source);
  }
  if (source instanceof URL) return source.href;
  if (source instanceof Uint8Array || isPlainBlob(source)) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Response && (!source.ok || source.bodyUsed || source.body === null)) {
    const reason = source.ok ? 'it has no body, or that has been read'
      : `found HTTP status ${source.status}, expected 200`;
    throw new OneKVError('SOURCE_FAILED', `the response: ${reason}`);
  }
  const stream = source instanceof Response ? source.body
    : source instanceof Blob ? source.stream() : source;
  const chunks = stream instanceof ReadableStream ? readStream(stream)
    : typeof source === 'object' && source !== null && 'chunks' in source ? source.chunks : source;
  if (typeof chunks !== 'object' || chunks === null || !(Symbol.asyncIterator in chunks)) {
    throw invalidArgument('source', source, 'a URL, Response, File, Blob, ArrayBuffer, ' +
      'Uint8Array, ReadableStream or async iterable of Uint8Array');
  }
  const port = serveStream(chunks);
  transfer.push(port);
  return { port, name: streamName(source) };
}

/** How long an aborted worker may take to put away what it has downloaded, in milliseconds. */
const graceMs = 3000;

/** Opens a worker and uses it, from the beginning on. Failing or aborted, it is ended; else it is
 * owned by the object that `use` gave it to. */
async function withWorker<T>(platform: Platform, options: WorkerOptions,
  use: (client: WorkerClient, opening: Promise<Opened>) => Promise<T>): Promise<T> {
  const { signal, simd, threads, wasmUrl, workerUrl } = options;
  signal?.throwIfAborted();
  // Looked at anew after every wait: of several that waited, one goes on.
  for (let coming; (coming = platform.workerComing?.()) !== undefined;) {
    await unlessAborted(coming, signal);
  }
  const client = new WorkerClient(platform.startWorker, workerUrl);
  let grace = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const release = onAbort(signal, () => {
    const end = () => void client.end(new OneKVError('WORKER_LOST', 'the call was aborted'));
    timer = setTimeout(end, grace);
  });
  const lock = platform.watchesLock && globalThis.navigator?.locks !== undefined
    ? `onekv-${crypto.randomUUID()}` : undefined;
  try {
    const base = wasmUrl === undefined ? undefined
      : new URL(wasmUrl, globalThis.location?.href).href;
    const opening = client.call('open', { simd, threads, wasmUrl: base, lock }).then((opened) => {
      if (lock !== undefined) client.watch(lock);
      grace = graceMs;
      return opened;
    });
    return await use(client, opening);
  } catch (error) {
    await client.end(new OneKVError('WORKER_LOST', reasonOf(error)));
    signal?.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    release();
  }
}

const firstSession = () => 1 + (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) % 2 ** 30;

type Loaded = { client: WorkerClient; loaded: Result<'load'>; opened: Opened };

/** A worker with the model. */
async function openModel(platform: Platform, source: ModelSource, options: LoadOptions,
  target: EventTarget): Promise<Loaded> {
  const { integrity, key, store = platform.store, cacheType, arithmetic, contextWindow, batch,
    draft } = options;
  const transfer: Transferable[] = [];
  const args: Args<'load'> = {
    source: wireSource(platform, source, transfer),
    draft: draft && wireSource(platform, draft, transfer),
    options: { cacheType, arithmetic, contextWindow, batch, integrity, key,
      store: wireStore(store, transfer), access: wireAccess(options, transfer),
      shared: wireShared(transfer),
      // Sessions of several tabs and workers never have the same.
      firstSession: options.share === true ? firstSession() : undefined },
  };
  return withWorker(platform, options, async (client, opening) => {
    const loading = client.call('load', args, {
      transfer,
      signal: options.signal,
      onNotice: (notice) => {
        if (notice.type !== 'progress') return;
        target.dispatchEvent(progressEvent(notice.loaded, notice.total, notice.source));
      },
    });
    loading.catch(() => {});
    // An engine that does not start ends both calls: what it says of itself comes first.
    const opened = await opening;
    return { client, opened, loaded: await loading };
  });
}

/** Whether the source gives its bytes more than once. */
function isRepeatable(source: ModelSource): boolean {
  if (Array.isArray(source)) return true; // Others are refused anyway.
  return typeof source === 'string' || source instanceof URL || source instanceof Blob ||
    source instanceof ArrayBuffer || source instanceof Uint8Array;
}

/** A worker with the model, which is unloaded and loaded anew if that is asked for. */
async function openLasting(platform: Platform, source: ModelSource, options: LoadOptions,
  target: EventTarget): Promise<SharedModel & { client: Client }> {
  const { unloadAfter, signal: _, ...rest } = options;
  const { client, opened, loaded } = await openModel(platform, source, options, target);
  warnOfOneThread(opened, options.threads);
  const { memoryBytesMax: __, ...engine } = opened;
  if (unloadAfter === undefined) return { client, loaded, engine };
  const reopen = async () => {
    const again = await openModel(platform, source, rest, target);
    if (again.loaded.hash === loaded.hash) return again.client;
    const changed = new OneKVError('SOURCE_FAILED', 'the source gives another model by now');
    await again.client.end(changed);
    throw changed;
  };
  return { client: new IdleClient(client, reopen, unloadAfter), loaded, engine };
}

/** One that other tabs may have loaded already. */
async function loadShared(platform: Platform, source: ModelSource, options: LoadOptions,
  target: EventTarget): Promise<RemoteModel> {
  const { signal, ...rest } = options;
  const name = shareName(source, options, platform.resolve);
  signal?.throwIfAborted();
  const client = new SharedClient(name, (own) =>
    openLasting(platform, source, { ...rest, signal: own }, target), target);
  const release = onAbort(signal, () =>
    void client.end(new OneKVError('WORKER_LOST', 'the call was aborted')));
  try {
    const { loaded, engine } = await client.ready;
    return new RemoteModel(client, loaded, engine);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    release();
  }
}

async function load(platform: Platform, source: ModelSource,
  options: LoadOptions): Promise<RemoteModel> {
  const { monitor, persist, unloadAfter, share = false } = options;
  const target = new GuardedTarget();
  monitor?.(target as Parameters<typeof monitor>[0]);
  if (unloadAfter !== undefined) {
    checkNumber('unloadAfter', unloadAfter, 0, Number.POSITIVE_INFINITY);
    for (const [name, each] of Object.entries({ source, draft: options.draft ?? '' })) {
      if (isRepeatable(each)) continue;
      throw invalidArgument(name, each, 'one that can be read twice, for unloadAfter');
    }
  }
  // Not waited for: the browser may ask the user, who may take long.
  if (persist === true) void persistStorage().catch(() => {});
  const alone = share ? whyNotShare(platform.watchesLock) : undefined;
  if (share && alone === undefined) return loadShared(platform, source, options, target);
  const { client, loaded, engine } = await openLasting(platform, source, options, target);
  const notes = [...engine.notes, ...(alone === undefined ? [] : [alone])];
  return new RemoteModel(client, loaded, { ...engine, notes });
}

/** Uses a worker for one thing. */
function briefly<T>(platform: Platform, options: WorkerOptions,
  use: (client: WorkerClient, opened: Opened) => Promise<T>): Promise<T> {
  return withWorker(platform, options, async (client, opening) => {
    const result = await use(client, await opening);
    await client.end(new OneKVError('DESTROYED', 'the worker was for one call'));
    return result;
  });
}

async function estimate(platform: Platform, source: ModelSource,
  options: EstimateOptions): Promise<Estimate> {
  const transfer: Transferable[] = [];
  const args = { source: wireSource(platform, source, transfer),
    options: { cacheType: options.cacheType, store: platform.store,
      access: wireAccess(options, transfer) } as WireModelOptions };
  return briefly(platform, { threads: 1, ...options }, async (client) => {
    const { perToken, sizes, ...found } = await client.call('estimate', args, { transfer });
    const { weightBytes, scratchBytes } = found;
    return {
      ...found, bytesPerToken: perToken.used, standardBytesPerToken: perToken.standard,
      contextFor: (budgetBytes: number) => sizes.findLast(({ used }) =>
        used <= budgetBytes - weightBytes - scratchBytes)?.tokens ?? 0,
    };
  });
}

async function availability(platform: Platform,
  options: WorkerOptions): Promise<Availability> {
  const isolated = globalThis.crossOriginIsolated ?? true;
  const chosen = chooseStore(platform.store);
  const common = {
    isolated: { value: isolated, reason: isolated ? undefined
      : 'the page lacks the headers Cross-Origin-Opener-Policy and -Embedder-Policy' },
    store: { value: chosen.kind === 'custom' ? 'none' as const : chosen.kind,
      reason: chosen.reason },
  };
  try {
    return await briefly(platform, options, async (_, { simd, threads, notes, memoryBytesMax }) => {
      const reason = (pattern: RegExp) => notes.find((note) => pattern.test(note));
      return {
        ...common,
        available: { value: true, reason: undefined },
        simd: { value: simd, reason: reason(/^simd128:/) },
        threads: { value: threads, reason: reason(/threads?:/) },
        memoryBytes: { value: memoryBytesMax, reason: reason(/^memory:/) },
      };
    });
  } catch (error) {
    if (options.signal?.aborted === true) throw error;
    const reason = reasonOf(error);
    return {
      ...common,
      available: { value: false, reason },
      simd: { value: 'none', reason },
      threads: { value: 0, reason },
      memoryBytes: { value: 0, reason },
    };
  }
}

export function makeOneKV(platform: Platform): OneKVStatic {
  return {
    load: async (source, options = {}) =>
      load(platform, source, checkOptions('load', options, loadNames)),
    estimate: async (source, options = {}) =>
      estimate(platform, source, checkOptions('estimate', options, estimateNames)),
    availability: async (options = {}) =>
      availability(platform, checkOptions('availability', options, workerNames)),
    pageTools,
    models: {
      list: async (options = {}) => listModels(checkOptions('list', options, storeNames)),
      delete: async (key, options = {}) =>
        deleteModel(key, checkOptions('delete', options, storeNames)),
    },
  };
}
