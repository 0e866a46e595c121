// Bytes of a stored value at any place and at once: of stores whose values are Blobs, in workers of
// browsers; of those whose values are files, in Node (source/load-node.ts gives them `reader`).
import type { ModelStore } from '../api/store.js';
import { blobReader, hasBlobReader } from '../util/read-at.js';
import type { ReadAt } from '../util/read-at.js';
import type { ChosenStore } from './choose.js';

export interface ReadableStore extends ModelStore {
  /** undefined when there is no such value, or it cannot be read like this. */
  reader?(key: string): Promise<ReadAt | undefined>;
}

/** What is put into this store can be read so, as far as that is known before. */
export function mayRead({ kind, store }: Pick<ChosenStore, 'kind' | 'store'>): boolean {
  return (store as ReadableStore | undefined)?.reader !== undefined ||
    (hasBlobReader && (kind === 'opfs' || kind === 'cache-api'));
}

export async function readerOf(store: ReadableStore, key: string): Promise<ReadAt | undefined> {
  if (store.reader !== undefined) return store.reader(key);
  const value = hasBlobReader ? await store.get(key) : undefined;
  return value instanceof Blob ? blobReader(value) : undefined;
}
