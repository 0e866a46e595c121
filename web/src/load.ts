// A source's bytes become a model, piece by piece.
import type { Engine, Loader, ModelOptions } from './engine.js';
import { OneKVError, reasonOf } from './errors.js';
import type { Model } from './model.js';
import { openSource } from './model-source.js';
import type { ModelSource, OpenedSource } from './model-source.js';

export interface LoadProgress {
  /** Bytes so far. */
  loaded: number;
  /** Bytes of the whole file; undefined while they are not known. */
  total: number | undefined;
}

export interface LoadOptions extends ModelOptions {
  /** Aborting throws the signal's reason and gives back what was loaded. */
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

/** The error with the source's name in front; what did not come from us is a failed source. */
function named(error: unknown, name: string): OneKVError {
  const code = error instanceof OneKVError ? error.code : 'SOURCE_FAILED';
  return new OneKVError(code, `${name}: ${reasonOf(error)}`, { cause: error });
}

/** Feeds until the source ends, or until `enough`. */
async function feed(loader: Loader, opened: OpenedSource, options: LoadOptions,
  enough: () => boolean): Promise<void> {
  for await (const chunk of opened.chunks) {
    options.signal?.throwIfAborted();
    loader.feed(chunk);
    const total = opened.totalBytes ?? (loader.fileBytes || undefined);
    options.onProgress?.({ loaded: loader.fedBytes, total });
    if (enough()) return;
  }
}

/**
 * Reads a GGUF file into the engine; the model is the caller's to destroy. No copy of the file is
 * kept. Errors name the source: those of the format (core/status.h), SOURCE_FAILED,
 * INVALID_ARGUMENT, OUT_OF_MEMORY.
 */
export async function loadModel(engine: Engine, source: ModelSource,
  options: LoadOptions = {}): Promise<Model> {
  return withLoader(engine, source, options, async (loader, opened) => {
    await feed(loader, opened, options, () => false);
    return loader.finish();
  });
}

/**
 * Reads a GGUF file's header, and no more of it than that takes, and gives what `use` makes of
 * the loader: metadata, description, estimate. Errors as loadModel.
 */
export async function readHeader<T>(engine: Engine, source: ModelSource,
  options: LoadOptions, use: (loader: Loader) => T): Promise<T> {
  return withLoader(engine, source, { ...options, headerOnly: true }, async (loader, opened) => {
    await feed(loader, opened, options, () => loader.hasHeader);
    // A file that ends before: finishing says so in core's words.
    if (!loader.hasHeader) loader.finish();
    return use(loader);
  });
}

/** The loader is destroyed in the end, and errors get the source's name. */
async function withLoader<T>(engine: Engine, source: ModelSource, options: LoadOptions,
  use: (loader: Loader, opened: OpenedSource) => Promise<T>): Promise<T> {
  options.signal?.throwIfAborted();
  const opened = await openSource(source, options.signal);
  const loader = engine.openLoader(options);
  try {
    return await use(loader, opened);
  } catch (error) {
    if (options.signal?.aborted === true) throw options.signal.reason;
    throw named(error, opened.name);
  } finally {
    loader.destroy();
  }
}
