// Cross-Origin Storage, where a browser or an extension of it has it: files that all sites share,
// by their SHA-256. What comes from there is checked as any download. Only what anybody could have
// downloaded without a key is put there.
//
// https://github.com/WICG/cross-origin-storage: navigator.crossOriginStorage
import type { SharedFiles } from '../api/store.js';

interface FileWriter {
  write(chunk: Uint8Array): Promise<void>;
  close(): Promise<void>;
  abort?(): Promise<void>;
}

interface FileHandle {
  getFile(): Promise<Blob>;
  createWritable(): Promise<FileWriter>;
}

interface CrossOriginStorage {
  getFileHandle(hash: { algorithm: 'SHA-256'; value: string },
    options?: { create: boolean; origins?: '*' }): Promise<FileHandle>;
}

/** That of this page or worker; undefined where there is none. */
export function crossOriginFiles(): SharedFiles | undefined {
  const { crossOriginStorage: storage } = (globalThis.navigator ?? {}) as
    { crossOriginStorage?: CrossOriginStorage };
  if (typeof storage?.getFileHandle !== 'function') return undefined;
  const hashOf = (value: string) => ({ algorithm: 'SHA-256' as const, value });
  return {
    find: async (sha256) => {
      try {
        return await (await storage.getFileHandle(hashOf(sha256))).getFile();
      } catch {
        return undefined;
      }
    },
    keep: async (sha256, chunks) => {
      try {
        const handle = await storage.getFileHandle(hashOf(sha256), { create: true, origins: '*' });
        const writer = await handle.createWritable();
        try {
          for await (const chunk of chunks) await writer.write(chunk);
          await writer.close();
        } catch {
          await writer.abort?.();
        }
      } catch {
        // The next visit downloads it again, or finds it in the site's own store.
      }
    },
  };
}
