// Loading a model: options, progress, and what is known before a model is loaded.
import type { Arithmetic, CacheType, ModelDescription, SimdLevel } from './description.js';
import type { CacheCost, StandardBytes } from './memory.js';
import type { Model } from './model.js';
import { signalNames } from './options.js';
import type { ListenerOptions, NamesOf, SignalOptions } from './options.js';
import { accessNames } from './source.js';
import type { AccessOptions, ModelSource } from './source.js';
import type { StoreChoice, StoredModel } from './store.js';
import type { ModelContext, Tool } from './tools.js';

/** What a policy of Trusted Types gives: policy.createScriptURL(…). */
export interface TrustedAddress {
  toString(): string;
  toJSON(): string;
}

export type ScriptAddress = string | URL | TrustedAddress;

/** Where the parts of the package are, for pages whose bundler moves them, and which engine. */
export interface WorkerOptions extends SignalOptions {
  /** Default 'auto': relaxed SIMD where the engine takes it. */
  simd?: 'auto' | SimdLevel | undefined;
  /** Threads that compute, 1 to 32; default 'auto'. Getting fewer is not an error: see
   * Model.engine.notes. */
  threads?: 'auto' | number | undefined;
  /** Folder of onekv-*.mjs and onekv-*.wasm; default: where the package has them. */
  wasmUrl?: string | URL | undefined;
  /** The worker's script; default: worker.js beside the module that asks for it. One of another
   * origin is imported by a small one of the page's own, for which the page's
   * Content-Security-Policy, if it has one, must allow `worker-src blob:`. */
  workerUrl?: ScriptAddress | undefined;
}

/** @internal */
export const workerNames: NamesOf<WorkerOptions> = {
  ...signalNames, simd: true, threads: true, wasmUrl: true, workerUrl: true,
};

export interface LoadOptions extends WorkerOptions, AccessOptions {
  /** Hears `downloadprogress` events of a target, as in the Prompt API, in bytes:
   * `monitor: (m) => m.addEventListener('downloadprogress', (e) => show(e.loaded, e.total))`. */
  monitor?: ((monitor: DownloadMonitor) => void) | undefined;
  /** The file's SHA-256: 64 hexadecimal digits, or 'sha256-' and base64 as in HTML. A file that
   * differs is the error INTEGRITY_FAILED, and is not kept. */
  integrity?: string | undefined;
  /** Default 'auto'. */
  store?: StoreChoice | undefined;
  /** Name of the stored copy, instead of the digest or the URL without its query: loads that name
   * the same key get the same copy. */
  key?: string | undefined;
  /** Seconds without a call after which the memory is given back; default: never. Sessions are kept
   * as snapshots in the page, and the next call loads the model again, for which the source must be
   * one that can be read twice: no stream and no Response. */
  unloadAfter?: number | undefined;
  /** All tabs of the origin that load the same source with the same options have one loaded model,
   * in the tab that came first; when that goes away, another one loads it and the sessions go on
   * (web/docs/memory.md). For sources that are addresses. Default false. */
  share?: boolean | undefined;
  /** Asks the browser not to evict what is stored (navigator.storage.persist); default false. */
  persist?: boolean | undefined;
  /** Element type of the cache; default 'f16'. */
  cacheType?: CacheType | undefined;
  /** How quantised matrices are multiplied; default 'int8'. */
  arithmetic?: Arithmetic | undefined;
  /** Longest session in tokens; default and maximum: the file's. */
  contextWindow?: number | undefined;
  /** A smaller model with the same tokens, loaded into the same worker, that guesses for sessions
   * with `draft: 'model'`. Error: INVALID_ARGUMENT: its tokens are others. */
  draft?: ModelSource | undefined;
  /** Sessions that advance in one step, 1 to 64; default 8. Each costs a row of logits of working
   * memory; more sessions than that take turns. */
  batch?: number | undefined;
}

/** @internal */
export const loadNames: NamesOf<LoadOptions> = {
  ...workerNames, ...accessNames, monitor: 'function', integrity: 'string', store: true,
  key: 'string', persist: 'boolean', unloadAfter: true, share: 'boolean',
  cacheType: true, arithmetic: true, contextWindow: true, batch: true, draft: true,
};

export interface EstimateOptions extends WorkerOptions, AccessOptions {
  /** Element type of the cache; default 'f16'. */
  cacheType?: CacheType | undefined;
}

/** @internal */
export const estimateNames: NamesOf<EstimateOptions> = {
  ...workerNames, ...accessNames, cacheType: true,
};

/** Of the lists of stored models. */
export interface StoreOptions {
  /** Default 'auto'. */
  store?: StoreChoice | undefined;
}

/** @internal */
export const storeNames: NamesOf<StoreOptions> = { store: true };

export interface DownloadProgressEvent extends Event {
  /** Bytes so far: from the network or, faster, from the store. */
  readonly loaded: number;
  /** Bytes of the whole file; 0 while they are not known. */
  readonly total: number;
  /** Of what is read: an address, or, of a name on a hub, the file that it stands for. */
  readonly source: string;
}

export interface DownloadMonitor {
  addEventListener(type: 'downloadprogress', listener: (event: DownloadProgressEvent) => void,
    options?: ListenerOptions): void;
}

/** What a file will take, from its header alone. */
export interface Estimate {
  /** general.name of the file. */
  name: string | undefined;
  description: ModelDescription;
  parameters: number;
  /** Of the file. */
  fileBytes: number;
  weightBytes: number;
  scratchBytes: number;
  /** Cache bytes of one token, in the cache type of the options. */
  bytesPerToken: number;
  /** The same in standard attention. */
  standardBytesPerToken: StandardBytes;
  /** The cache of the model's whole context. */
  fullContext: CacheCost;
  /** Tokens of context that a budget for everything (weights, working memory, cache) buys, at
   * most the model's own; 0 when not even the weights fit. Exact up to a context of 4096 tokens, of
   * longer ones rounded down to a 4096th part. */
  contextFor(budgetBytes: number): number;
}

/** One thing that this browser can do or cannot. */
export interface Ability<T> {
  value: T;
  /** Why a better value is not available; undefined if this is the best one. */
  reason: string | undefined;
}

export interface Availability {
  /** false: nothing runs here (no WebAssembly SIMD, no workers); the reason says what lacks. */
  available: Ability<boolean>;
  simd: Ability<SimdLevel | 'none'>;
  threads: Ability<number>;
  /** The page is cross-origin isolated, as threads need. */
  isolated: Ability<boolean>;
  /** Largest wasm memory, in bytes. */
  memoryBytes: Ability<number>;
  /** What 'auto' stands for. */
  store: Ability<'opfs' | 'cache-api' | 'none'>;
}

/** What the package exports as `OneKV`. */
export interface OneKVStatic {
  /**
   * Loads a GGUF file into a worker of its own. Warns once on the console when threads are off.
   * Errors name the source: SOURCE_FAILED, INTEGRITY_FAILED, those of the format, OUT_OF_MEMORY,
   * UNSUPPORTED_ENGINE, WASM_FAILED, WORKER_LOST, INVALID_ARGUMENT.
   */
  load(source: ModelSource, options?: LoadOptions): Promise<Model>;
  /** Reads the header only: of a URL by a range request. */
  estimate(source: ModelSource,
    options?: EstimateOptions): Promise<Estimate>;
  /** What this browser can do, found out by trying. */
  availability(options?: WorkerOptions): Promise<Availability>;
  /** The tools that the page has registered for agents, for a session: they are executed by the
   * browser, and a session keeps those that there were. Default: `document.modelContext` (WebMCP).
   * Error: INVALID_ARGUMENT, where there is none. */
  pageTools(context?: ModelContext): Promise<Tool[]>;
  /** The models that load() has stored. */
  readonly models: {
    list(options?: StoreOptions): Promise<StoredModel[]>;
    /** The model with that key, or all that came from there (StoredModel.from); false when there
     * was none. */
    delete(key: string, options?: StoreOptions): Promise<boolean>;
  };
}
