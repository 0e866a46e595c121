// How far two sequences of token ids are the same.

/** Entries that both begin with. */
export function commonStart(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let n = 0;
  while (n < most && a[n] === b[n]) n += 1;
  return n;
}
