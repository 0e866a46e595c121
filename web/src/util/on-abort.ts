// Hears of aborts with one listener a signal, however many calls share it: a page may give one
// signal to hundreds of sessions, and Node takes more than ten listeners for a leak.

const hearing = new WeakMap<AbortSignal, { calls: Set<() => void>; listener: () => void }>();

/** What the promise gives; rejects with the signal's reason if that comes first. */
export function unlessAborted<T>(coming: Promise<T>,
  signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const release = onAbort(signal, () => reject(signal?.reason));
    void coming.then(resolve, reject).finally(release);
  });
}

/** Calls once the signal is aborted, at once if it has been. Gives the function that ends this. */
export function onAbort(signal: AbortSignal | undefined, call: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) {
    call();
    return () => {};
  }
  let heard = hearing.get(signal);
  if (heard === undefined) {
    const calls = new Set<() => void>();
    heard = { calls, listener: () => calls.forEach((one) => one()) };
    hearing.set(signal, heard);
    signal.addEventListener('abort', heard.listener, { once: true });
  }
  const { calls, listener } = heard;
  // The same function may be given twice.
  const own = () => call();
  calls.add(own);
  return () => {
    if (!calls.delete(own) || calls.size > 0) return;
    hearing.delete(signal);
    signal.removeEventListener('abort', listener);
  };
}
