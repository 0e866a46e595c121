// The package in a page: models in workers, sessions that know their bytes. api.ts has the types.
//
// Nothing here computes: the worker (worker.ts) is fetched when a model is loaded.
import { invalidArgument } from './errors.js';
import { makeOneKV } from './remote-load.js';
import { startWorker, workerComing } from './start-worker.js';

export type * from './api.js';
export type * from './api-session.js';
export type { ChatMessage } from './chat-template.js';
export type { CacheType, ModelDescription, Projection } from './description.js';
export type { ModelSource } from './model-source.js';
export type { SamplingOptions } from './sampling.js';
export type { ModelStore, StoreChoice, StoredModel } from './store.js';
export type { SimdLevel } from './wasm-module.js';
export type { ErrorCode } from './errors.js';
export { OneKVError } from './errors.js';

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
