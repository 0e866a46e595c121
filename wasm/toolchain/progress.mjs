// That a long step of the build moves: on a terminal one line, written over every second; elsewhere
// a line every ten seconds, which keeps logs short.

/** The streams on which such a line stands. */
const shown = new Set();

/** Takes the line away, for what is written next. */
export function clearLine(out) {
  if (shown.delete(out)) out.write('\r\x1b[K');
}

/** { done, of }: the last [n/m] that ninja has written into this text; undefined without one. */
export function countOf(text) {
  const found = [...text.matchAll(/^\[(\d+)\/(\d+)\]/gm)].at(-1);
  return found && { done: Number(found[1]), of: Number(found[2]) };
}

export class Progress {
  #what;
  #out;
  #count;
  /** A line that has not ended yet. */
  #rest = '';
  #start = performance.now();
  #timer;

  /** From now until end(); `what` begins the line. */
  constructor(what, out = process.stderr, everyMs = out.isTTY ? 1000 : 10_000) {
    this.#what = what;
    this.#out = out;
    this.#timer = setInterval(() => this.#show(), everyMs);
    this.#timer.unref();
  }

  /** Hears the program's output as it comes. */
  take(part) {
    const text = this.#rest + String(part);
    this.#count = countOf(text) ?? this.#count;
    this.#rest = text.slice(text.lastIndexOf('\n') + 1).slice(0, 100);
  }

  end() {
    clearInterval(this.#timer);
    clearLine(this.#out);
  }

  #show() {
    const seconds = Math.round((performance.now() - this.#start) / 1000);
    const { done, of } = this.#count ?? {};
    const files = done === undefined ? '' : ` ${done} of ${of} files,`;
    const line = `${this.#what}:${files} ${seconds} s`;
    if (!this.#out.isTTY) {
      this.#out.write(`${line}\n`);
      return;
    }
    // A line that wraps could not be written over.
    const most = (this.#out.columns || 80) - 1;
    this.#out.write(`\r${line.slice(0, most)}\x1b[K`);
    shown.add(this.#out);
  }
}
