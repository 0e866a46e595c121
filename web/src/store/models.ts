// What is in the stores: listed, deleted, and kept from being evicted.
import { invalidArgument } from '../api/errors.js';
import { chooseStore } from './choose.js';
import { deleteFiles, listFiles } from './stored-file.js';
import type { StoreOptions } from '../api/load.js';
import type { StoredModel } from '../api/store.js';

/** All models in the store, interrupted downloads too. */
export async function listModels(options: StoreOptions = {}): Promise<StoredModel[]> {
  const { store } = chooseStore(options.store ?? 'auto');
  return store === undefined ? [] : listFiles(store);
}

/** Gives the room back of the model with that key, or of all that came from there
 * (StoredModel.from). false when there was none. */
export async function deleteModel(key: string, options: StoreOptions = {}): Promise<boolean> {
  if (typeof key !== 'string') throw invalidArgument('key', key, 'the key of a stored model');
  const { store } = chooseStore(options.store ?? 'auto');
  return store === undefined ? false : deleteFiles(store, key);
}

/** Asks the browser not to evict what this site stores; false where it does not promise that. */
export async function persistStorage(): Promise<boolean> {
  const storage = globalThis.navigator?.storage;
  return typeof storage?.persist === 'function' ? storage.persist() : false;
}
