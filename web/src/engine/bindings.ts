// The bindings to C: the typed view of wasm/exports.c and of the module's memory.
//
// Addresses are numbers below 2^32; wasm gives them as signed 32-bit integers, so everything that
// is an address or a size goes through `address()`. Views of the memory are made anew when it has
// grown: never keep one across a call into the module that may allocate.
import type { OwnBytes } from '../api/bytes.js';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { CoreErrorCode } from '../api/errors.js';
import type { ReadAt } from '../util/read-at.js';

type I32 = number;

/** The functions of wasm/exports.txt. Handles and pointers are addresses. */
export interface Exports {
  _malloc(bytes: number): I32;
  _free(address: number): void;
  _js_numbers(): I32;
  _js_field_names(which: number): I32;
  _js_error_message(): I32;
  _js_error_status(): I32;
  _onekv_status_name(status: number): I32;
  _js_threads_open(threads: number): I32;
  _js_threads_alive(): I32;
  _js_threads_use(threads: number): I32;
  _js_end(): I32;
  _js_loader_open(level: number, arithmetic: number, cacheType: number, contextWindow: number,
    logits: number, headerOnly: number): I32;
  _js_loader_rows(loader: number, file: number): void;
  _js_loader_feed(loader: number, bytes: number, count: number): I32;
  _onekv_loader_has_header(loader: number): I32;
  _onekv_loader_config(loader: number): I32;
  _onekv_loader_file_bytes(loader: number): I32;
  _js_loader_describe(loader: number): I32;
  _js_loader_find(loader: number, key: number): I32;
  _js_loader_finish(loader: number): I32;
  _onekv_loader_close(loader: number): void;
  _onekv_model_close(model: number): I32;
  _onekv_model_config(model: number): I32;
  _onekv_model_hash(model: number): bigint;
  _onekv_model_level(model: number): I32;
  _onekv_model_use_threads(model: number, threads: number): void;
  _onekv_model_trim(model: number): void;
  _onekv_model_top(model: number, logits: number, count: number): I32;
  _js_model_memory(model: number): void;
  _js_cache_bytes(config: number, type: number, standardHeads: number, wholePages: number,
    tokens: number): void;
  _js_cache_tokens(config: number, type: number, standardHeads: number, wholePages: number,
    bytes: number): I32;
  _js_architecture(config: number): I32;
  _js_session_open(model: number, contextWindow: number, slides: number, keep: number,
    biases: number, seed: bigint): I32;
  _js_session_set_sampling(session: number, biases: number, seed: bigint): I32;
  _js_session_clone(session: number): I32;
  _js_session_memory(session: number): void;
  _js_session_reserve(session: number, count: number): I32;
  _onekv_session_draft(session: number, tokens: number, count: number, error: number): I32;
  _onekv_session_close(session: number): void;
  _onekv_session_n_tokens(session: number): I32;
  _onekv_session_n_ahead(session: number): I32;
  _onekv_session_context_window(session: number): I32;
  _onekv_session_seed(session: number): bigint;
  _onekv_session_slides(session: number): I32;
  _onekv_session_cut_at(session: number, position: number): void;
  _onekv_session_tokens(session: number, first: number, count: number, tokens: number): I32;
  _onekv_session_truncate(session: number, count: number): I32;
  _onekv_session_save_bytes(session: number): I32;
  _onekv_session_save(session: number, out: number): void;
  _js_session_restore(model: number, bytes: number, count: number): I32;
  _js_step(model: number, items: number, heads: number, tokens: number): I32;
  _js_choose(model: number, session: number, logits: number): I32;
  _js_score(session: number, tokens: number, count: number, logprobs: number): I32;
  _js_encode(model: number, tokens: number, features: number, rows: number): I32;
  _js_embed(model: number, tokens: number, count: number, pooling: number, vector: number): I32;
  _js_attention_map(model: number, tokens: number, count: number, layer: number, head: number,
    keysAsQueries: number, scores: number): I32;
  _onekv_logprob(logits: number, count: number, token: number): number;
}

// Rows of doubles in the module's `numbers`, in the order of wasm/fields.h.
export const configFields = ['layers', 'contextWindow', 'embedding', 'feedForward', 'queryHeads',
  'kvHeads', 'headWidth', 'latent', 'outputs', 'vocabulary', 'features', 'projection', 'keyTime',
  'position', 'norm', 'activation', 'gated', 'causal', 'head', 'pooling', 'poolsFirst',
  'separateHead', 'qkNorm', 'scoreMap', 'window', 'windowedLayers', 'convolutions'] as const;
export const estimateFields = ['parameters', 'weightBytes', 'rowBytes', 'scratchBytes'] as const;
export const memoryFields = ['weights', 'cache', 'scratch', 'sessions', 'tables', 'total',
  'peak', 'cacheUsed', 'cachePooled', 'openSessions'] as const;
export const sessionFields = ['tokens', 'tokensHeld', 'keys', 'values', 'shared', 'cacheUsed',
  'cachePages', 'cacheOwn'] as const;
export const bytesFields = ['keys', 'values', 'shared', 'total'] as const;
export const samplingFields = ['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty',
  'presencePenalty', 'frequencyPenalty', 'penaltyWindow', 'order', 'biases'] as const;

/** Sessions in one step (STEP_ITEMS_MAX of wasm/exports.c). */
export const stepItemsMax = 64;
/** Entries of a logit bias (ONEKV_BIASES_MAX of core/net/sampler.h). */
export const biasesMax = 64;

export type Row<Fields extends readonly string[]> = Record<Fields[number], number>;

/** Bytes of the buffer that arguments and bytes of files go through. */
export const stagingBytes = 1 << 18;

/** The functions, made to turn a trap into an error; after one the module's state is unknown, so
 * none of them works any more. */
function guard(exports: Exports, onTrap: (error: OneKVError) => void,
  trapped: () => OneKVError | undefined): Exports {
  const guarded = Object.entries(exports).filter(([name]) => name.startsWith('_'))
    .map(([name, call]: [string, (...args: unknown[]) => unknown]) =>
      [name, (...args: unknown[]) => {
        const before = trapped();
        if (before !== undefined) throw before;
        try {
          return call(...args);
        } catch (error) {
          if (!(error instanceof WebAssembly.RuntimeError)) throw error;
          const text = `${name.slice(1)} broke down: ${error.message}; the engine is lost`;
          const trap = new OneKVError('WASM_FAILED', text, { cause: error });
          onTrap(trap);
          throw trap;
        }
      }]);
  return Object.fromEntries(guarded) as Exports;
}

/** Of a WebAssembly.Memory, of which not all programs have the type. */
interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

export class Bindings {
  readonly exports: Exports;
  /** Address of a buffer of stagingBytes for arguments of one call. */
  readonly staging: number;
  readonly #memory: WasmMemory;
  readonly #decoder = new TextDecoder();
  readonly #encoder = new TextEncoder();
  #bytes: Uint8Array;
  #trap: OneKVError | undefined;
  /** Files that models have left rows in, by number. */
  readonly #files = new Map<number, ReadAt>();
  #filesOpened = 0;
  #readFailure: unknown;

  /** Takes the staging buffer. Error: OUT_OF_MEMORY. */
  constructor(exports: Exports, memory: WasmMemory) {
    // wasm/exports.c calls it in steps.
    Object.assign(exports, { readRow: this.#readRow.bind(this) });
    this.exports = guard(exports, (trap) => { this.#trap = trap; }, () => this.#trap);
    this.#memory = memory;
    this.#bytes = new Uint8Array(memory.buffer);
    this.staging = this.take(stagingBytes);
  }

  #readRow(file: number, offset: number, count: number, at: I32): number {
    try {
      const row = (this.#files.get(file) as ReadAt)(offset, count);
      if (row.length !== count) throw new Error(`found ${row.length} bytes, expected ${count}`);
      this.bytes.set(row, this.address(at));
      return 1;
    } catch (error) {
      this.#readFailure = error;
      return 0;
    }
  }

  /** A number for the module to ask for bytes of a file by, until it is forgotten. */
  addFile(readAt: ReadAt): number {
    this.#filesOpened += 1;
    this.#files.set(this.#filesOpened, readAt);
    return this.#filesOpened;
  }

  forgetFile(file: number): void {
    this.#files.delete(file);
  }

  /** The whole memory. Not to be kept across calls that may allocate. */
  get bytes(): Uint8Array {
    const { buffer } = this.#memory;
    if (this.#bytes.buffer !== buffer) this.#bytes = new Uint8Array(buffer);
    return this.#bytes;
  }

  /** The module trapped: nothing in it can be used or given back any more. */
  get isBroken(): boolean {
    return this.#trap !== undefined;
  }

  get memoryBytes(): number {
    return this.#memory.buffer.byteLength;
  }

  floats(at: number, count: number): Float32Array {
    return new Float32Array(this.bytes.buffer, at, count);
  }

  ints(at: number, count: number): Int32Array {
    return new Int32Array(this.bytes.buffer, at, count);
  }

  /** A signed result as the address or size that it is. */
  address(result: I32): number {
    return result >>> 0;
  }

  /** Memory of the module for the caller to free. Error: OUT_OF_MEMORY. */
  take(bytes: number): number {
    const at = this.address(this.exports._malloc(Math.max(bytes, 1)));
    if (at === 0) {
      throw new OneKVError('OUT_OF_MEMORY', `no ${bytes} bytes of wasm memory are left`);
    }
    return at;
  }

  /** Calls `use` with memory that is given back after it, whatever happens: the staging buffer if
   * that is large enough, so `use` must not stage anything else. */
  withMemory<T>(bytes: number, use: (at: number) => T): T {
    const at = bytes <= stagingBytes ? this.staging : this.take(bytes);
    try {
      return use(at);
    } finally {
      if (at !== this.staging) this.exports._free(at);
    }
  }

  /** Throws the module's last error unless the status is OK. */
  check(status: I32): void {
    if (status !== 0) throw this.error(status);
  }

  /** The handle; throws the module's last error when it is NULL. */
  checkHandle(handle: I32): number {
    const at = this.address(handle);
    if (at === 0) throw this.error(this.exports._js_error_status());
    return at;
  }

  error(status: I32): OneKVError {
    const code = this.text(this.exports._onekv_status_name(status)) as CoreErrorCode;
    const text = this.text(this.exports._js_error_message()) || code;
    if (code !== 'SOURCE_FAILED') return new OneKVError(code, text);
    const cause = this.#readFailure;
    return new OneKVError(code, `${text}: ${reasonOf(cause)}`, { cause });
  }

  /** A zero-terminated UTF-8 string of the module. */
  text(result: I32): string {
    const at = this.address(result);
    if (at === 0) return '';
    const { bytes } = this;
    return this.decode(at, bytes.indexOf(0, at) - at);
  }

  /** Bytes of the memory, the caller's own. */
  copy(at: number, count: number): OwnBytes {
    const copy = new Uint8Array(count);
    copy.set(this.bytes.subarray(at, at + count));
    return copy;
  }

  /** UTF-8 bytes as text. Damaged parts become U+FFFD. */
  decode(at: number, count: number): string {
    // A copy: decoders refuse views of shared memory in some engines.
    return this.#decoder.decode(this.bytes.slice(at, at + count));
  }

  /** Puts text with a zero byte into the staging buffer; gives its address. */
  stageText(text: string): number {
    const encoded = this.#encoder.encode(text);
    if (encoded.length >= stagingBytes) {
      throw new OneKVError('INVALID_ARGUMENT', `a text of ${encoded.length} bytes is too long`);
    }
    this.bytes.set(encoded, this.staging);
    this.bytes[this.staging + encoded.length] = 0;
    return this.staging;
  }

  numbers(count: number): Float64Array {
    const at = this.address(this.exports._js_numbers());
    return new Float64Array(this.bytes.buffer, at, count);
  }

  /** The row of these fields that starts at number `first`. */
  row<Fields extends readonly string[]>(fields: Fields, first = 0): Row<Fields> {
    const numbers = this.numbers(first + fields.length);
    return Object.fromEntries(fields.map((name, i) => [name, numbers[first + i]])) as Row<Fields>;
  }

  /** The module's own list `which` of field names, for the test that compares. */
  fieldNames(which: number): string[] {
    return this.text(this.exports._js_field_names(which)).split(' ').filter(Boolean);
  }
}
