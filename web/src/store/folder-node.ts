// A folder of Node's file system as a store: a file a key. A file that is being written has another
// name until it is whole, which makes put atomic.
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { ModelStore } from '../api/store.js';

/** Words for who gave the folder. */
const reasons: Readonly<Record<string, string>> = {
  ENOTDIR: 'it is not a folder', EEXIST: 'it is not a folder', ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up', EACCES: 'access to it is denied',
  EPERM: 'access to it is denied', EROFS: 'the file system is read-only',
};

const unlessMissing = <T>(error: unknown, otherwise: T): T => {
  if ((error as { code?: string }).code === 'ENOENT') return otherwise;
  throw error;
};

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as { code?: string }).code !== 'ESRCH';
  }
};

/** Old enough that no other machine is writing it, whose processes are not seen here. */
const unfinishedMs = 3_600_000;

/** Deletes what processes left that were ended while they wrote. */
async function sweepUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = /^\.(\d+)-[a-z0-9]/.exec(name)?.[1];
    if (pid === undefined || isRunning(Number(pid))) continue;
    const { mtimeMs } = await stat(join(folder, name));
    if (Date.now() - mtimeMs > unfinishedMs) await rm(join(folder, name), { force: true });
  }
}

/** What the file system says of the folder. */
function failed(folder: string, error: unknown): OneKVError {
  const { code = '' } = error as { code?: string };
  return new OneKVError('SOURCE_FAILED', `the folder ${folder}: ${reasons[code] ??
    reasonOf(error)} (${code})`, { cause: error });
}

/** The folder is made when something is put into it. Errors: SOURCE_FAILED. */
export function folderStore(folder: string): ModelStore {
  let isSwept = false;
  const sweep = async () => {
    if (!isSwept) await sweepUnfinished(folder).catch(() => {});
    isSwept = true;
  };
  return {
    get: (key) => readFile(join(folder, key)).catch((error) => unlessMissing(error, undefined)),
    put: async (key, value) => {
      const unfinished = join(folder, `.${process.pid}-${key}`);
      try {
        await mkdir(folder, { recursive: true });
        await sweep();
        await writeFile(unfinished, value);
        await rename(unfinished, join(folder, key)).catch(async (error: { code?: string }) => {
          // A folder of that name is none of ours.
          if (error.code !== 'EISDIR' && error.code !== 'ENOTEMPTY') throw error;
          await rm(join(folder, key), { recursive: true });
          await rename(unfinished, join(folder, key));
        });
      } catch (error) {
        await rm(unfinished, { force: true }).catch(() => {});
        throw failed(folder, error);
      }
    },
    delete: (key) => rm(join(folder, key), { force: true, recursive: true })
      .catch((error) => Promise.reject(failed(folder, error))),
    pathOf: (key) => join(folder, key),
    keys: async () => {
      const names = await readdir(folder).catch((error) => unlessMissing(error, []))
        .catch((error) => Promise.reject(failed(folder, error)));
      return names.filter((name) => /^[a-z0-9][a-z0-9.-]*$/.test(name));
    },
  };
}
