// What a row of repeated measurements comes to.

export interface Summary {
  median: number;
  least: number;
  most: number;
  /** Half the distance of the quartiles, in parts of the median: what a repetition is off by. */
  spread: number;
  values: number[];
}

/** The value below which that share of the sorted values lies, between two of them a mean. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const below = sorted[Math.floor(at)] as number;
  const above = sorted[Math.ceil(at)] as number;
  return below + (above - below) * (at - Math.floor(at));
}

/** Of at least one value. */
export function summarise(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  const quartiles = quantile(sorted, 0.75) - quantile(sorted, 0.25);
  return {
    median,
    least: sorted[0] as number,
    most: sorted.at(-1) as number,
    spread: median === 0 ? 0 : quartiles / 2 / median,
    values: [...values],
  };
}

/** FNV-1a over the bits of some numbers, 8 hexadecimal digits: equal bits, equal hash. */
export function hashBits(numbers: Float32Array | Int32Array, before = '811c9dc5'): string {
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  let hash = Number.parseInt(before, 16) | 0;
  for (const word of words) {
    for (let shift = 0; shift < 32; shift += 8) {
      hash = Math.imul(hash ^ ((word >>> shift) & 0xff), 0x01000193);
    }
  }
  return (hash >>> 0).toString(16).padStart(8, '0');
}
