// A source's bytes become a model, chunk by chunk.
import type { Engine } from '../engine/engine.js';
import { modelNames } from '../engine/loader.js';
import type { Loader, ModelOptions } from '../engine/loader.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import type { ModelSource } from '../api/source.js';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { Arrived } from './arrived.js';
import { sourceNames, sourceOf } from './source.js';
import { warmUp } from '../engine/warm-up.js';
import type { Reading, Source, SourceOptions } from './source.js';

export interface LoadProgress {
  /** Bytes so far. */
  loaded: number;
  /** Bytes of the whole file; undefined while they are not known. */
  total: number | undefined;
  /** Of what is read: of a name on a hub, the file that it stands for. */
  name: string;
}

/** Aborting throws the signal's reason and gives back what was loaded. */
export interface LoadOptions extends ModelOptions, SourceOptions {
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

const loadNames: NamesOf<LoadOptions> = { ...modelNames, ...sourceNames, onProgress: 'function' };

/** The error with the source's name in front; what did not come from us is a failed source. */
function named(error: unknown, name: string): OneKVError {
  const code = error instanceof OneKVError ? error.code : 'SOURCE_FAILED';
  return new OneKVError(code, `${name}: ${reasonOf(error)}`, { cause: error });
}

/** Says where a table is that is only looked up, if the model has one; gives whether it has. */
function noteRows(loader: Loader, isLeft: boolean, { onNote }: LoadOptions): boolean {
  // Of a file without a whole header loader.finish() says what is wrong.
  const rowBytes = loader.hasHeader ? loader.estimate().rowBytes : 0;
  if (rowBytes === 0) return false;
  onNote?.(`per-layer embeddings, ${(rowBytes / 1e6).toFixed(1)} MB: ${isLeft
    ? 'left where the file is, and read row by row'
    : 'held in memory, as this source cannot be read at any place'}`);
  return true;
}

/** Bytes that may follow the last tensor, whatever was announced. */
const paddingMost = 1 << 16;

/** Error: CORRUPT when more has come than the file says, and its source. What a source announces
 * may be less: the length of a compressed body. */
function checkLength({ fedBytes, fileBytes }: Loader, { totalBytes = 0 }: Reading): void {
  if (fileBytes === 0 || fedBytes <= Math.max(totalBytes, fileBytes + paddingMost)) return;
  throw new OneKVError('CORRUPT', `found ${fedBytes} bytes and more to come, expected ` +
    `${fileBytes}, as its header says`);
}

/** Feeds until the source ends, or until `enough`. */
async function feed(loader: Loader, opened: Reading, options: LoadOptions,
  enough: () => boolean): Promise<void> {
  const arrived = new Arrived();
  for await (const chunk of opened.chunks) {
    options.signal?.throwIfAborted();
    arrived.see(chunk);
    try {
      loader.feed(chunk);
    } catch (error) {
      throw arrived.explain(error, loader);
    }
    const total = opened.totalBytes ?? (loader.fileBytes || undefined);
    options.onProgress?.({ loaded: loader.fedBytes, total, name: opened.name });
    if (enough()) return;
    checkLength(loader, opened);
  }
}

/**
 * Reads a GGUF file into the engine; the model is the caller's to destroy. No copy of the file is
 * kept, but in options.store. Ends with a short warm-up (warm-up.ts). While an engine is still
 * starting, the source is opened; if the engine fails to start, the caller must release both.
 * Errors are the engine's, and, with the source's name:
 * those of the format (core/base/status.h), SOURCE_FAILED, INTEGRITY_FAILED, INVALID_ARGUMENT,
 * OUT_OF_MEMORY.
 */
export async function loadModel(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions = {}): Promise<Model> {
  const from = sourceOf(source, checkOptions('loadModel', options, loadNames));
  return withLoader(engine, from, () => from.open(), options, async (loader, reading) => {
    await feed(loader, reading, options, () => false);
    const hasRows = noteRows(loader, reading.readAt !== undefined, options);
    const model = loader.finish();
    try {
      await reading.accept(hasRows);
      await warmUp(model, options.signal);
      return model;
    } catch (error) {
      model.destroy();
      throw error;
    }
  });
}

/**
 * Reads a GGUF file's header, and no more of it than that takes (of a URL: by range requests), and
 * gives what `use` makes of the loader: metadata, description, estimate. The integrity is not
 * checked. Errors as loadModel.
 */
export async function readHeader<T>(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions, use: (loader: Loader) => T): Promise<T> {
  const header = { ...options, headerOnly: true };
  const from = sourceOf(source, checkOptions('readHeader', options, loadNames));
  return withLoader(engine, from, () => from.openHeader(), header, async (loader, reading) => {
    await feed(loader, reading, options, () => loader.hasHeader);
    // A file that ends before: finishing says so in core's words.
    if (!loader.hasHeader) loader.finish();
    return use(loader);
  });
}

/**
 * Reads a GGUF file of the network into options.store, and not into the engine, which checks its
 * header and its length; so the file may be larger than the memory. Errors as loadModel, and
 * SOURCE_FAILED when it could not be stored.
 */
export async function storeModel(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions): Promise<{ fileBytes: number }> {
  const header = { ...options, headerOnly: true };
  const from = sourceOf(source, { ...options, mustKeep: true });
  return withLoader(engine, from, () => from.open(), header, async (loader, reading) => {
    await feed(loader, reading, options, () => false);
    if (!loader.hasHeader) loader.finish(); // It says why not.
    const { fedBytes, fileBytes } = loader;
    if (fedBytes < fileBytes) {
      throw new OneKVError('TRUNCATED', `the file ends after ${fedBytes} of ${fileBytes} bytes`);
    }
    await reading.accept();
    return { fileBytes: fedBytes };
  });
}

/** Opens the source as long as that may help. The loader is destroyed in the end, and errors get
 * the source's name. */
async function withLoader<T>(engine: Engine | Promise<Engine>, source: Source,
  open: () => Promise<Reading>, options: LoadOptions,
  use: (loader: Loader, reading: Reading) => Promise<T>): Promise<T> {
  const { cacheType, arithmetic, contextWindow, batch, headerOnly } = options;
  for (;;) {
    options.signal?.throwIfAborted();
    const opening = engine instanceof Promise ? open() : undefined;
    opening?.catch(() => {}); // Its turn comes after the engine's errors.
    let loader: Loader;
    try {
      loader = (await engine).openLoader(
        { cacheType, arithmetic, contextWindow, batch, headerOnly });
    } catch (error) {
      await opening?.then((reading) => reading.leave(error)).catch(() => {});
      throw error;
    }
    let reading: Reading | undefined;
    try {
      reading = await (opening ?? open());
      if (reading.readAt !== undefined) loader.leaveRows(reading.readAt);
      const result = await use(loader, reading);
      await reading.leave(undefined);
      return result;
    } catch (error) {
      const again = await reading?.leave(error);
      if (options.signal?.aborted === true) throw options.signal.reason;
      if (again !== true) throw named(error, source.name);
    } finally {
      loader.destroy();
    }
  }
}
