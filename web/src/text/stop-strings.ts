// Finds stop strings in text that comes in pieces: text that may be the beginning of one is held
// back until it is known not to be.

export class StopStrings {
  readonly #stops: readonly string[];
  #held = '';
  #found: string | undefined;

  /** Empty strings never stop. */
  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== '');
  }

  /** The stop string that has come, after which nothing more is shown. */
  get found(): string | undefined {
    return this.#found;
  }

  /** Takes a piece; gives the text that can be shown now. */
  push(piece: string): string {
    if (this.#found !== undefined) return '';
    const text = this.#held + piece;
    const hits = this.#stops.map((stop) => ({ stop, at: text.indexOf(stop) }))
      .filter(({ at }) => at >= 0).sort((a, b) => a.at - b.at);
    const first = hits[0];
    if (first !== undefined) {
      this.#found = first.stop;
      this.#held = '';
      return text.slice(0, first.at);
    }
    const keep = this.#stops.reduce((most, stop) => Math.max(most, overlap(text, stop)), 0);
    this.#held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  }

  /** What was held back, when nothing more comes. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** Length of the longest end of `text` that `stop` begins with, shorter than the stop itself. */
export function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--) {
    if (text.endsWith(stop.slice(0, n))) return n;
  }
  return 0;
}
