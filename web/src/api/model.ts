// The package's public types: what a page sees of models and sessions that live in a worker.
//
// Shape and names follow the browsers' Prompt API; what it lacks (bytes, snapshots, tokens) is
// added. Every call that waits takes an AbortSignal and rejects with its reason when it is
// aborted; every other failure is a OneKVError with a code. Properties are the state after the
// last call that was awaited. Sessions are in api-session.ts.
import type { Session, SessionBatch, SessionOptions } from './session.js';
import type { ChatMessage } from '../text/chat-template.js';
import type { Arithmetic, CacheType, ModelDescription } from '../engine/description.js';
import type { ModelSource } from '../source/source.js';
import type { StoreChoice, StoredModel } from './store.js';
import type { SimdLevel } from '../engine/simd-probe.js';

export interface SignalOptions {
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
}

// -- Loading --

/** Where the parts of the package are, for pages whose bundler moves them, and which engine. */
export interface WorkerOptions extends SignalOptions {
  /** Default 'auto': relaxed SIMD where the engine takes it. */
  simd?: 'auto' | SimdLevel;
  /** Threads that compute, 1 to 32; default 'auto'. Fewer is no error: see Model.engine.notes. */
  threads?: 'auto' | number;
  /** Folder of onekv-*.mjs and onekv-*.wasm; default: where the package has them. */
  wasmUrl?: string | URL;
  /** The worker's script; default: worker.js beside the module that asks for it. */
  workerUrl?: string | URL;
}

export interface LoadOptions extends WorkerOptions {
  /** Hears `downloadprogress` events of a target, as in the Prompt API, in bytes:
   * `monitor: (m) => m.addEventListener('downloadprogress', (e) => show(e.loaded, e.total))`. */
  monitor?: (monitor: DownloadMonitor) => void;
  /** The file's SHA-256: 64 hexadecimal digits, or 'sha256-' and base64 as in HTML. A file that
   * differs is the error INTEGRITY_FAILED, and is not kept. */
  integrity?: string;
  /** Default 'auto'. */
  store?: StoreChoice;
  /** Asks the browser not to evict what is stored (navigator.storage.persist); default false. */
  persist?: boolean;
  /** Element type of the cache; default 'f16'. */
  cacheType?: CacheType;
  /** How quantised matrices are multiplied; default 'int8'. */
  arithmetic?: Arithmetic;
  /** Longest session in tokens; default and maximum: the file's. */
  contextLength?: number;
  /** Sessions that advance in one step, 1 to 64; default 8. Each costs a row of logits of working
   * memory; more sessions than that take turns. */
  batch?: number;
}

export interface DownloadProgressEvent extends Event {
  /** Bytes so far: from the network or, faster, from the store. */
  readonly loaded: number;
  /** Bytes of the whole file; 0 while they are not known. */
  readonly total: number;
}

export interface DownloadMonitor {
  addEventListener(type: 'downloadprogress', listener: (event: DownloadProgressEvent) => void,
    options?: AddEventListenerOptions): void;
}

/** Bytes of the same tokens in standard QKV attention, at the same element type: a KV head for
 * every query head, 8, 3, or one. null where the model has fewer query heads than that. */
export interface StandardBytes {
  MHA: number;
  'GQA-8': number | null;
  'GQA-3': number | null;
  MQA: number;
}

/** Bytes of a number of tokens in the cache: computed by core, of their rows alone. */
export interface CacheCost {
  tokens: number;
  /** The sum of the three kinds. */
  used: number;
  /** One tensor that is key and value (K=V); 0 otherwise. */
  shared: number;
  /** 0 for K=V. */
  keys: number;
  values: number;
  standard: StandardBytes;
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
  /** Why it is less than the best; undefined when it is not. */
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
    options?: WorkerOptions & { cacheType?: CacheType }): Promise<Estimate>;
  /** What this browser can do, found out by trying. */
  availability(options?: WorkerOptions): Promise<Availability>;
  /** The models that load() has stored. */
  readonly models: {
    list(options?: { store?: StoreChoice }): Promise<StoredModel[]>;
    /** false when there was none of that key. */
    delete(key: string, options?: { store?: StoreChoice }): Promise<boolean>;
  };
}

// -- Model --

/** What runs the model, and why it is not better. */
export interface EngineReport {
  simd: SimdLevel;
  /** That steps use. With 'auto' loading measures whether fewer than there are are faster. */
  threads: number;
  isolated: boolean;
  /** One line for each thing that is less than it could be. */
  notes: readonly string[];
}

/** Bytes, exactly as core counts them. */
export interface MemoryReport {
  /** The worker's whole WebAssembly memory. It grows and never shrinks, until unload(). */
  heap: number;
  /** All that core holds for this model: the sum of the five kinds. */
  total: number;
  /** Highest total so far. */
  peak: number;
  weights: number;
  /** Pages held: cacheUsed and cachePooled. */
  cache: number;
  scratch: number;
  sessions: number;
  tables: number;
  /** Pages that sessions refer to, each counted once however many share it. */
  cacheUsed: number;
  /** Free pages, kept for reuse. */
  cachePooled: number;
  bySession: SessionMemory[];
  /** Computed: the pages of all sessions in standard attention, without sharing between sessions.
   * Whole pages, as cacheUsed, so that one session has the ratio of the two kinds of attention. */
  standard: StandardBytes;
}

export interface SessionMemory {
  /** Session.id. */
  session: number;
  /** Tokens whose rows are in the cache: all, or all but the one that waits for its logits. */
  tokens: number;
  /** Bytes of their rows: the sum of the three kinds. */
  used: number;
  /** One tensor that is key and value (K=V); 0 otherwise. */
  shared: number;
  /** 0 for K=V. */
  keys: number;
  values: number;
  /** Whole pages referred to, those shared with clones included. */
  pages: number;
  /** Whole pages that no other session refers to. */
  own: number;
  /** Computed: the rows of the same tokens, as `used`, in standard attention. */
  standard: StandardBytes;
}

export interface MemoryEvent extends Event {
  readonly memory: MemoryReport;
}

export interface ModelEventMap {
  /** While anything runs, at most every 50 ms, and after each call that changed something. Costs
   * nothing without listeners. */
  memory: MemoryEvent;
  /** The worker ended or broke down: everything pending was rejected, nothing works any more. */
  lost: Event;
}

/** Pixels, row after row: an ImageData, or grey values from 0 (paper) to 1 (ink). */
export type ImageInput = ImageData | { width: number; height: number; data: Float32Array };

export interface Classification {
  /** Of each class. */
  probabilities: Float32Array;
  /** The likeliest class. */
  best: number;
  /** Names of the classes, where the file has them. */
  labels: readonly string[] | undefined;
}

/** What a grammar library needs to know. */
export interface Vocabulary {
  /** 'gpt2': byte-level BPE. 'llama': SentencePiece. */
  kind: string;
  /** As the file writes them. */
  tokens: readonly string[];
  /** Tokens that end a text or turn. */
  ends: readonly number[];
  /** Tokens that stand for no text, such as turn marks; the ends among them. */
  controls: readonly number[];
}

export interface Model {
  readonly description: ModelDescription;
  /** general.name of the file. */
  readonly name: string | undefined;
  /** Names of the outputs, where they are classes. */
  readonly labels: readonly string[] | undefined;
  /** Fingerprint of the file's bytes, 16 hexadecimal digits. */
  readonly hash: string;
  readonly engine: EngineReport;
  readonly cacheType: CacheType;
  /** Longest session, in tokens. */
  readonly contextLength: number;
  /** Cache bytes of one token, and in standard attention. Of many tokens: fullContext, or
   * SessionMemory.used; not every kind of model takes so many times as much. */
  readonly bytesPerToken: number;
  readonly standardBytesPerToken: StandardBytes;
  /** The cache of contextLength tokens. */
  readonly fullContext: CacheCost;
  /** Tokens that a page of the cache holds; memory is taken page by page. */
  readonly pageTokens: number;
  /** Prompts are turns of a chat, unless createSession is told otherwise. */
  readonly hasChatTemplate: boolean;

  /** Errors: INVALID_ARGUMENT, CONTEXT_FULL (initialPrompts), OUT_OF_MEMORY, WRONG_STATE (a
   * bidirectional model). */
  createSession(options?: SessionOptions): Promise<Session>;
  /** The session that Session.save gave, here or elsewhere. A Response is read: a prefix pack is
   * restored by `model.restore(await fetch(url))`. Errors: SNAPSHOT_REFUSED, OUT_OF_MEMORY. */
  restore(snapshot: Blob | ArrayBuffer | Uint8Array | Response,
    options?: SignalOptions): Promise<Session>;
  /** Prompts for many sessions at once. (Any sessions of a model that generate at the same time
   * advance together, at most options.batch of load in a step.) */
  batch(sessions: readonly Session[]): SessionBatch;
  memory(options?: SignalOptions): Promise<MemoryReport>;
  /** Gives cache pages that no session uses back to the worker's memory. */
  trim(options?: SignalOptions): Promise<void>;
  /** Ids of plain text, without a beginning-of-text token; or of messages of a chat, as the whole
   * prompt for an answer. Error: NO_CHAT_TEMPLATE. */
  tokenize(input: string | readonly ChatMessage[],
    options?: SignalOptions & { special?: boolean }): Promise<number[]>;
  detokenize(tokens: Iterable<number>,
    options?: SignalOptions & { special?: boolean }): Promise<string>;
  vocabulary(options?: SignalOptions): Promise<Vocabulary>;
  /** The class of an image, for vision models; the image is scaled to the model's size.
   * Errors: WRONG_STATE (no vision model), INVALID_ARGUMENT. */
  classify(image: ImageInput, options?: SignalOptions): Promise<Classification>;
  /** Ends the worker: pending calls reject with DESTROYED and all memory is given back. */
  unload(): Promise<void>;

  addEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void, options?: AddEventListenerOptions): void;
  removeEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void): void;
}
