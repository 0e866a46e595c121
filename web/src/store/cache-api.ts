// The Cache API as a store: a cache 'onekv' with a response a key. It has no addresses of its own,
// so keys stand as paths under one that nobody fetches.
import type { ModelStore } from '../store.js';

const cacheName = 'onekv';

function addressOf(key: string): string {
  return new URL(`/.onekv/${key}`, globalThis.location.origin).href;
}

class CacheApiStore implements ModelStore {
  async get(key: string): Promise<Blob | undefined> {
    const response = await (await caches.open(cacheName)).match(addressOf(key));
    return response?.blob();
  }

  async put(key: string, value: Uint8Array<ArrayBuffer>): Promise<void> {
    await (await caches.open(cacheName)).put(addressOf(key), new Response(value, {
      headers: { 'content-type': 'application/octet-stream' },
    }));
  }

  async delete(key: string): Promise<void> {
    await (await caches.open(cacheName)).delete(addressOf(key));
  }

  async keys(): Promise<string[]> {
    const requests = await (await caches.open(cacheName)).keys();
    return requests.map(({ url }) => url.slice(url.lastIndexOf('/') + 1));
  }
}

/** undefined where there is none: outside of browsers, and on pages without a secure context. */
export function cacheApiStore(): ModelStore | undefined {
  const there = typeof globalThis.caches === 'object' && globalThis.location !== undefined;
  return there ? new CacheApiStore() : undefined;
}
