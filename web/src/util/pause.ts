// Waiting that a signal ends.
import { onAbort } from './on-abort.js';

/** Rejects with the signal's reason if that comes first. */
export function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    let release = () => {};
    const timer = setTimeout(() => {
      release();
      resolve();
    }, milliseconds);
    release = onAbort(signal, () => {
      clearTimeout(timer);
      reject(signal?.reason);
    });
  });
}
