// One line on stderr that is written over, where there is a terminal; nothing elsewhere.

export class Progress {
  readonly #label: string;
  readonly #stream: NodeJS.WriteStream;
  #shown = '';

  constructor(label: string, stream: NodeJS.WriteStream = process.stderr) {
    this.#label = label;
    this.#stream = stream;
  }

  /** done and total in any unit; an unknown total shows no bar. `tail` stands behind it. */
  show(done: number, total: number | undefined, tail = ''): void {
    if (!this.#stream.isTTY) return;
    const share = total === undefined || total === 0 ? undefined : Math.min(1, done / total);
    const filled = Math.round((share ?? 0) * 30);
    const line = share === undefined ? this.#label
      : `${this.#label} [${'#'.repeat(filled)}${'.'.repeat(30 - filled)}] ` +
        `${Math.floor(share * 100)} % ${tail}`.trimEnd();
    if (line === this.#shown) return;
    this.#shown = line;
    this.#stream.write(`\r${line}\x1b[K`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#shown !== '') this.#stream.write('\r\x1b[K');
    this.#shown = '';
  }
}
