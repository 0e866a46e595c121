// A source's bytes become a model, piece by piece.
import type { Engine } from '../engine/engine.js';
import type { Loader, ModelOptions } from '../engine/loader.js';
import type { ModelSource, OpenedSource } from '../api/source.js';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { StartAgain } from './download.js';
import { openHeader, openSource } from './source.js';
import { warmUp } from '../engine/warm-up.js';
import type { SourceOptions } from './source.js';

export interface LoadProgress {
  /** Bytes so far. */
  loaded: number;
  /** Bytes of the whole file; undefined while they are not known. */
  total: number | undefined;
}

/** Aborting throws the signal's reason and gives back what was loaded. */
export interface LoadOptions extends ModelOptions, SourceOptions {
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
 * kept, but in options.store. Ends with a short warm-up (warm-up.ts). While an engine is still
 * starting, the source is opened; if it does not start, whoever asks has to give up both. Errors
 * are the engine's, and, with the source's name:
 * those of the format (core/base/status.h), SOURCE_FAILED, INTEGRITY_FAILED, INVALID_ARGUMENT,
 * OUT_OF_MEMORY.
 */
export async function loadModel(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions = {}): Promise<Model> {
  return withLoader(engine, openSource, source, options, async (loader, opened) => {
    await feed(loader, opened, options, () => false);
    const model = loader.finish();
    try {
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
  return withLoader(engine, openHeader, source, header, async (loader, opened) => {
    await feed(loader, opened, options, () => loader.hasHeader);
    // A file that ends before: finishing says so in core's words.
    if (!loader.hasHeader) loader.finish();
    return use(loader);
  });
}

/** How often a source is opened, when what was read turns out to be of no use. */
const attemptsMost = 3;

/** The loader is destroyed in the end, and errors get the source's name. */
async function withLoader<T>(engine: Engine | Promise<Engine>, open: typeof openSource,
  source: ModelSource, asked: LoadOptions,
  use: (loader: Loader, opened: OpenedSource) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    // A store that neither reads its copy nor deletes it is done without.
    const options: LoadOptions = attempt === attemptsMost ? { ...asked, store: 'none' } : asked;
    options.signal?.throwIfAborted();
    const early = engine instanceof Promise ? open(source, options) : undefined;
    early?.catch(() => {}); // Its turn comes after the engine's errors.
    const loader = (await engine).openLoader(options);
    let name: string | undefined;
    try {
      const opened = await (early ?? open(source, options));
      ({ name } = opened);
      return await use(loader, opened);
    } catch (error) {
      if (options.signal?.aborted === true) throw options.signal.reason;
      // What was fed is of no use, but the file is there: once more, from its beginning.
      if (error instanceof StartAgain && attempt < attemptsMost) continue;
      throw name === undefined || error instanceof StartAgain ? error : named(error, name);
    } finally {
      loader.destroy();
    }
  }
}
