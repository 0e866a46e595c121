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
  /** Called once the header was read; what it throws ends the loading. */
  onHeader?: (loader: Loader) => void;
}

/** The error with the source's name in front; what did not come from us is a failed source. */
function named(error: unknown, name: string): OneKVError {
  const code = error instanceof OneKVError ? error.code : 'SOURCE_FAILED';
  return new OneKVError(code, `${name}: ${reasonOf(error)}`, { cause: error });
}

async function feedAll(loader: Loader, opened: OpenedSource, options: LoadOptions): Promise<void> {
  let described = false;
  for await (const chunk of opened.chunks) {
    options.signal?.throwIfAborted();
    loader.feed(chunk);
    if (!described && loader.hasHeader) {
      described = true;
      options.onHeader?.(loader);
    }
    const total = opened.totalBytes ?? (loader.fileBytes || undefined);
    options.onProgress?.({ loaded: loader.fedBytes, total });
  }
}

/**
 * Reads a GGUF file into the engine; the model is the caller's to destroy. No copy of the file is
 * kept. Errors name the source: those of the format (core/status.h), SOURCE_FAILED,
 * INVALID_ARGUMENT, OUT_OF_MEMORY.
 */
export async function loadModel(engine: Engine, source: ModelSource,
  options: LoadOptions = {}): Promise<Model> {
  options.signal?.throwIfAborted();
  const opened = await openSource(source, options.signal);
  const loader = engine.openLoader(options);
  try {
    await feedAll(loader, opened, options);
    return loader.finish();
  } catch (error) {
    if (options.signal?.aborted === true) throw options.signal.reason;
    throw named(error, opened.name);
  } finally {
    loader.destroy();
  }
}
