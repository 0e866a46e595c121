// The origin private file system as a store: a folder 'onekv' with a file a key. A file that is
// being written is not seen before it is closed, which makes put atomic.
import type { ModelStore } from '../api/store.js';

const folderName = 'onekv';

function isMissing(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'NotFoundError';
}

class OpfsStore implements ModelStore {
  async get(key: string): Promise<Blob | undefined> {
    try {
      return await (await (await this.#folder()).getFileHandle(key)).getFile();
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async put(key: string, value: Uint8Array<ArrayBuffer>): Promise<void> {
    const folder = await this.#folder();
    const file = await folder.getFileHandle(key, { create: true });
    try {
      const stream = await file.createWritable();
      try {
        await stream.write(value);
        await stream.close();
      } catch (error) {
        await stream.abort().catch(() => {});
        throw error;
      }
    } catch (error) {
      // Creating the handle has made an empty file.
      if ((await file.getFile()).size === 0) await this.delete(key);
      throw error;
    }
  }

  async delete(key: string): Promise<void> {
    try {
      await (await this.#folder()).removeEntry(key);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  async keys(): Promise<string[]> {
    const keys: string[] = [];
    for await (const [key, handle] of (await this.#folder()).entries()) {
      // One that was created and never written to is empty: no value has been put.
      if (handle.kind === 'file' && ((await this.get(key))?.size ?? 0) > 0) keys.push(key);
    }
    return keys;
  }

  async #folder(): Promise<FileSystemDirectoryHandle> {
    const root = await navigator.storage.getDirectory();
    return root.getDirectoryHandle(folderName, { create: true });
  }
}

/** undefined where there is no such file system, or none that can be written to like this. */
export function opfsStore(): ModelStore | undefined {
  const there = typeof globalThis.navigator?.storage?.getDirectory === 'function' &&
    typeof FileSystemFileHandle === 'function' &&
    'createWritable' in FileSystemFileHandle.prototype;
  return there ? new OpfsStore() : undefined;
}
