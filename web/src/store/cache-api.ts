// The Cache API as a store: a cache 'onekv' with a response a key. It has no addresses of its own,
// so keys stand as paths under one that nobody fetches.
import type { ModelStore } from '../api/store.js';

const cacheName = 'onekv';

function addressOf(key: string): string {
  return new URL(`/.onekv/${key}`, globalThis.location.origin).href;
}

class CacheApiStore implements ModelStore {
  /** Kept open: in private windows WebKit forgets a cache that nobody holds. */
  #cache: Promise<Cache> | undefined;

  #open(): Promise<Cache> {
    this.#cache ??= caches.open(cacheName);
    return this.#cache;
  }

  async get(key: string): Promise<Blob | undefined> {
    const response = await (await this.#open()).match(addressOf(key));
    return response?.blob();
  }

  async put(key: string, value: Uint8Array<ArrayBuffer>): Promise<void> {
    await (await this.#open()).put(addressOf(key), new Response(value, {
      headers: { 'content-type': 'application/octet-stream' },
    }));
  }

  async delete(key: string): Promise<void> {
    await (await this.#open()).delete(addressOf(key));
  }

  async keys(): Promise<string[]> {
    const requests = await (await this.#open()).keys();
    return requests.map(({ url }) => url.slice(url.lastIndexOf('/') + 1));
  }
}

let opened: CacheApiStore | undefined;

/** undefined where there is none: outside of browsers, and on pages without a secure context. */
export function cacheApiStore(): ModelStore | undefined {
  const there = typeof globalThis.caches === 'object' && globalThis.location !== undefined;
  if (there) opened ??= new CacheApiStore();
  return opened;
}
