// The package in a page: models in workers, sessions that know their bytes. api.ts has the types.
//
// Nothing here computes: the worker (worker.ts) is fetched when a model is loaded.
import { invalidArgument } from './api/errors.js';
import { makeOneKV } from './page/load.js';
import { startWorker, workerComing } from './page/start-worker.js';

export type * from './api/model.js';
export type * from './api/session.js';
export type { ChatMessage } from './text/chat-template.js';
export type { CacheType, ModelDescription, Projection } from './engine/description.js';
export type { ModelSource } from './source/source.js';
export type { SamplingOptions } from './engine/sampling.js';
export type { ModelStore, StoreChoice, StoredModel } from './api/store.js';
export type { SimdLevel } from './engine/simd-probe.js';
export type { ErrorCode } from './api/errors.js';
export { OneKVError } from './api/errors.js';

export const OneKV = makeOneKV({
  startWorker,
  workerComing,
  resolve: (source) => {
    try {
      return new URL(source, globalThis.location?.href).href;
    } catch {
      throw invalidArgument('source', source, 'a URL');
    }
  },
  store: 'auto',
  watchesLock: true,
});
