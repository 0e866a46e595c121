// One at a time for each stored file: of two loads of one address the second waits, and finds what
// the first has stored. Web Locks hold between tabs and workers; where there are none, the promise
// of the one before holds within this module.
import { onAbort } from '../util/on-abort.js';

const tails = new Map<string, Promise<void>>();

function ownLock(name: string, signal: AbortSignal | undefined): Promise<() => void> {
  const before = tails.get(name) ?? Promise.resolve();
  let release = () => {};
  const own = new Promise<void>((resolve) => { release = resolve; });
  const tail = before.then(() => own);
  tails.set(name, tail);
  void tail.then(() => {
    if (tails.get(name) === tail) tails.delete(name);
  });
  return new Promise((resolve, reject) => {
    const stop = onAbort(signal, () => {
      release();
      reject(signal?.reason);
    });
    void before.then(() => {
      stop();
      resolve(release);
    });
  });
}

/** Waits for the locks of a stored file, those of its key and of its address, and gives the
 * function that gives them back. Error: the signal's reason. */
export async function lockFile({ key, from }: { key: string; from: string },
  signal: AbortSignal | undefined): Promise<() => void> {
  const held: (() => void)[] = [];
  const release = () => held.forEach((give) => give());
  try {
    // In the same order everywhere, so that no two holders wait for each other.
    for (const part of [...new Set([key, from])].sort()) {
      held.push(await lock(`onekv-file-${part}`, signal));
    }
    return release;
  } catch (error) {
    release();
    throw error;
  }
}

async function lock(name: string, signal: AbortSignal | undefined): Promise<() => void> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks === undefined) return ownLock(name, signal);
  return new Promise((resolve, reject) => {
    locks.request(name, { ...(signal === undefined ? {} : { signal }) }, () =>
      new Promise<void>((release) => {
        resolve(release);
      })).catch((error: unknown) => {
      if (signal?.aborted === true) reject(signal.reason);
      // A page without an origin of its own has no locks, and no store but one of its own.
      else if (error instanceof DOMException) resolve(ownLock(name, signal));
      else reject(error);
    });
  });
}
