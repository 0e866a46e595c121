// Loader: the way of a file's bytes into an engine.
import type { Arithmetic, CacheType, ModelDescription } from '../api/description.js';
import { OneKVError, checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';
import type { ImageShape } from '../api/image.js';
import type { NamesOf } from '../api/options.js';
import { configFields, estimateFields, stagingBytes } from './bindings.js';
import type { ReadAt } from '../util/read-at.js';
import { CacheCounter } from './cache-bytes.js';
import { architectureOf, arithmetics, cacheTypes, describe } from './description.js';
import type { Engine } from './engine.js';
import type { Metadata } from './metadata.js';
import { loaderMetadata } from './metadata.js';
import { Model } from './model.js';
import type { ModelParts } from './model.js';
import { readTextKeys } from './text-keys.js';

export interface ModelOptions {
  /** Element type of the cache; default 'f16'. */
  cacheType?: CacheType | undefined;
  /** How quantised matrices are multiplied; default 'int8'. */
  arithmetic?: Arithmetic | undefined;
  /** Longest session in tokens; default and maximum: the file's. */
  contextWindow?: number | undefined;
  /** Sessions that one step can advance together, 1 to 64; default 8. Each costs a row of logits
   * of working memory. */
  batch?: number | undefined;
  /** Drops the weights: for metadata, describe() and estimate() only; default false. */
  headerOnly?: boolean | undefined;
}

export const modelNames: NamesOf<ModelOptions> = {
  cacheType: true, arithmetic: true, contextWindow: true, batch: true, headerOnly: 'boolean',
};

/** What a file will take, in bytes but for `parameters`, known once its header was read. */
export interface ModelEstimate {
  parameters: number;
  /** Of weights that are held in memory. */
  weightBytes: number;
  /** Of a table whose rows are read from the file when tokens need them, where it can be read at
   * any place (OpenedSource.readAt); elsewhere it is part of weightBytes. */
  rowBytes: number;
  scratchBytes: number;
}

/** A file on its way in. After an error of feed only metadata and destroy are left. */
export class Loader {
  readonly #engine: Engine;
  readonly #batch: number;
  /** 0: the file's. */
  readonly #contextWindow: number;
  readonly #headerOnly: boolean;
  readonly #cacheType: CacheType;
  #handle: number;
  #fed = 0;
  /** The file that rows stay in: its number; 0: none. */
  #file = 0;
  /** Once the header was read. */
  #parts: ModelParts | undefined;

  /** @internal */
  constructor(engine: Engine, options: ModelOptions) {
    const { bindings } = engine;
    const type = checkOneOf('cacheType', options.cacheType ?? 'f16', cacheTypes);
    const arithmetic = checkOneOf('arithmetic', options.arithmetic ?? 'int8', arithmetics);
    const contextWindow =
      checkInteger('contextWindow', options.contextWindow ?? 0, 0, 2 ** 31 - 1);
    this.#cacheType = type;
    this.#batch = checkInteger('batch', options.batch ?? 8, 1, 64);
    this.#contextWindow = contextWindow;
    this.#headerOnly = options.headerOnly === true;
    this.#engine = engine;
    this.#handle = bindings.checkHandle(bindings.exports._js_loader_open(
      0, arithmetics.indexOf(arithmetic), cacheTypes.indexOf(type), contextWindow,
      this.#batch, options.headerOnly === true ? 1 : 0));
    engine.own(this);
  }

  #open(): number {
    if (this.#handle !== 0) return this.#handle;
    throw new OneKVError('DESTROYED', 'the loader was finished or destroyed');
  }

  /** Of the file that is to be fed, any bytes can be had as long as the model is used: a large
   * table that is only looked up stays there. Error: WRONG_STATE after the first byte. */
  leaveRows(readAt: ReadAt): void {
    const { bindings } = this.#engine;
    const handle = this.#open();
    if (this.#fed > 0) throw new OneKVError('WRONG_STATE', 'leaveRows comes before feed');
    this.#file = bindings.addFile(readAt);
    bindings.exports._js_loader_rows(handle, this.#file);
  }

  /**
   * Takes the next bytes of the file, in chunks of any size. They are not kept: weights go where
   * they will stay. Errors: those of the file's format, OUT_OF_MEMORY, WRONG_STATE after an error.
   */
  feed(chunk: Uint8Array): void {
    if (!(chunk instanceof Uint8Array)) throw invalidArgument('chunk', chunk, 'a Uint8Array');
    const { bindings } = this.#engine;
    const handle = this.#open();
    for (let at = 0; at < chunk.length; at += stagingBytes) {
      const staged = chunk.subarray(at, at + stagingBytes);
      bindings.bytes.set(staged, bindings.staging);
      bindings.check(bindings.exports._js_loader_feed(handle, bindings.staging, staged.length));
      this.#fed += staged.length;
    }
    // Now, while the next bytes are on their way.
    if (!this.#headerOnly && this.#parts === undefined && this.hasHeader) {
      this.#parts = this.#readParts();
    }
  }

  #readParts(): ModelParts {
    const { metadata } = this;
    const description = this.describe();
    return {
      description,
      estimate: this.estimate(),
      file: this.#file,
      textKeys: readTextKeys(metadata),
      name: metadata.string('general.name'),
      labels: metadata.strings('onekv.labels'),
      image: this.#image(),
      batch: this.#batch,
      cacheType: this.#cacheType,
      contextWindow: Math.min(this.#contextWindow || Number.POSITIVE_INFINITY,
        description.contextWindow),
    };
  }

  /** Bytes fed so far. */
  get fedBytes(): number {
    return this.#fed;
  }

  /** The header was read and describes a model that can be run. */
  get hasHeader(): boolean {
    return this.#engine.bindings.exports._onekv_loader_has_header(this.#open()) !== 0;
  }

  /** Bytes of the whole file; 0 before the header was read. */
  get fileBytes(): number {
    const { bindings } = this.#engine;
    return bindings.address(bindings.exports._onekv_loader_file_bytes(this.#open()));
  }

  /** The header's values; all missing before it was read. */
  get metadata(): Metadata {
    return loaderMetadata(this.#engine.bindings, () => this.#open());
  }

  /** Error: WRONG_STATE before the header was read. */
  describe(): ModelDescription {
    const { bindings } = this.#engine;
    const handle = this.#open();
    bindings.check(bindings.exports._js_loader_describe(handle));
    const architecture = architectureOf(bindings, bindings.exports._onekv_loader_config(handle));
    return describe(bindings.row(configFields), architecture);
  }

  /** Error: WRONG_STATE before the header was read. */
  estimate(): ModelEstimate {
    const { bindings } = this.#engine;
    bindings.check(bindings.exports._js_loader_describe(this.#open()));
    return bindings.row(estimateFields, configFields.length);
  }

  /** Bytes of the cache. Asked before the header was read: WRONG_STATE. */
  get cache(): CacheCounter {
    const { bindings } = this.#engine;
    const config = () => bindings.checkHandle(bindings.exports._onekv_loader_config(this.#open()));
    return new CacheCounter(bindings, () => {
      if (!this.hasHeader) throw new OneKVError('WRONG_STATE', 'the header was not read');
      return config();
    }, () => this.describe().queryHeads, this.#cacheType);
  }

  /**
   * Ends the loader and gives the model, which is the caller's. Errors: TRUNCATED, OUT_OF_MEMORY,
   * WRONG_STATE; the loader stays.
   */
  finish(): Model {
    const { bindings } = this.#engine;
    const handle = this.#open();
    const parts = this.#parts ?? (this.hasHeader ? this.#readParts() : undefined);
    const model = bindings.checkHandle(bindings.exports._js_loader_finish(handle));
    this.#handle = 0;
    this.#engine.disown(this);
    if (parts === undefined) throw new OneKVError('WRONG_STATE', 'a model came without a header');
    return new Model(this.#engine, model, parts);
  }

  #image(): ImageShape | undefined {
    const [size, patch, channels] = ['size', 'patch', 'channels'].map((name) => {
      const key = `onekv.image.${name}`;
      const value = this.metadata.number(key) ?? 0;
      if (Number.isInteger(value) && value >= 0 && value <= 4096) return value;
      throw new OneKVError('BAD_KEY', `${key}: found ${value}, expected at most 4096`);
    }) as [number, number, number];
    return size * patch * channels > 0 ? { size, patch, channels } : undefined;
  }

  /** Gives up what was fed. A second call, or one after finish, does nothing. */
  destroy(): void {
    if (this.#handle === 0) return;
    const { bindings } = this.#engine;
    if (!bindings.isBroken) bindings.exports._onekv_loader_close(this.#handle);
    bindings.forgetFile(this.#file);
    this.#handle = 0;
    this.#engine.disown(this);
  }
}
