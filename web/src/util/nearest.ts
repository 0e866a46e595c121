// The name that somebody meant: for messages about names that nobody knows.

/** Letters to insert, delete, change or swap with their neighbour, from one word to the other. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1,
        (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** Without case and what parts words: max_tokens and maxTokens are the same name. */
const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The known name that is nearest to `name`: at most a third of its letters are different, or one
 * is the beginning or the end of the other. undefined if none is. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const typed = plain(name).slice(0, 64);
  if (typed === '') return undefined;
  let found: string | undefined;
  let least = Infinity;
  for (const candidate of known) {
    const other = plain(candidate);
    const [short, long] = typed.length < other.length ? [typed, other] : [other, typed];
    const isPart = short.length >= 3 && (long.startsWith(short) || long.endsWith(short));
    const apart = Math.min(distance(typed, other), isPart ? 1.5 : Infinity);
    if (apart <= Math.max(1.5, typed.length / 3) && apart < least) {
      found = candidate;
      least = apart;
    }
  }
  return found;
}

/** '; did you mean X?' or ''. */
export function meant(name: string, known: readonly string[]): string {
  const found = nearest(name, known);
  return found === undefined ? '' : `; did you mean ${found}?`;
}
