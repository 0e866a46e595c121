// The package in a page: models in workers, sessions that know their bytes. api/ has the types.
//
// Nothing here computes: the worker (worker/) is fetched when a model is loaded.
import { invalidArgument } from './api/errors.js';
import { makeOneKV } from './page/load.js';
import { startWorker, workerComing } from './page/start-worker.js';

export type * from './api/load.js';
export type * from './api/memory.js';
export type * from './api/model.js';
export type * from './api/session.js';
export type { EmbedInput, EmbedOptions, Embeddings, Pooling } from './api/embed.js';
export type { Classification, ImageInput } from './api/image.js';
export type { SignalOptions } from './api/options.js';
export type { ChatMessage } from './api/messages.js';
export type * from './api/tools.js';
export type { Arithmetic, CacheType, ModelDescription, Projection, SimdLevel }
  from './api/description.js';
export type { AccessOptions, Fetch, FreshAddress, ModelPart, ModelSource, OpenedSource, Refused }
  from './api/source.js';
export type { SamplerOrder, SamplingOptions } from './api/sampling.js';
export type { ModelStore, StoreChoice, StoredModel } from './api/store.js';
export type { ErrorCode } from './api/errors.js';
export { OneKVError } from './api/errors.js';

export const OneKV = makeOneKV({
  startWorker,
  workerComing,
  resolve: (source) => {
    try {
      // The empty address is the page itself.
      if (source.trim() === '') throw new TypeError('it is empty');
      return new URL(source, globalThis.location?.href).href;
    } catch {
      throw invalidArgument('source', source, 'a URL');
    }
  },
  store: 'auto',
  watchesLock: true,
});
