// A folder of Node's file system as a store: a file a key. A file that is being written has another
// name until it is whole, which makes put atomic.
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelStore } from '../api/store.js';

const unlessMissing = <T>(error: unknown, otherwise: T): T => {
  if ((error as { code?: string }).code === 'ENOENT') return otherwise;
  throw error;
};

/** The folder is made when something is put into it. */
export function folderStore(folder: string): ModelStore {
  return {
    get: (key) => readFile(join(folder, key)).catch((error) => unlessMissing(error, undefined)),
    put: async (key, value) => {
      await mkdir(folder, { recursive: true });
      const unfinished = join(folder, `.${process.pid}-${key}`);
      try {
        await writeFile(unfinished, value);
        await rename(unfinished, join(folder, key));
      } catch (error) {
        await rm(unfinished, { force: true });
        throw error;
      }
    },
    delete: (key) => rm(join(folder, key), { force: true }),
    pathOf: (key) => join(folder, key),
    keys: async () => {
      const names = await readdir(folder).catch((error) => unlessMissing(error, []));
      return names.filter((name) => /^[a-z0-9][a-z0-9.-]*$/.test(name));
    },
  };
}
