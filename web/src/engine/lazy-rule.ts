// Free text in which a grammar begins at a trigger and ends where it is over: a call's arguments in
// an answer. Triggers are compared as bytes, since tokens cut characters.
//
// A trigger always ends with a token: one that would go past its end may not come, so that the
// grammar has every byte after it. As long as a trigger is only partly there the text is free.
import type { TokenBytes } from './grammar-module.js';
import type { Rule } from './grammar.js';

interface Part {
  trigger: string;
  begin: () => Promise<Rule>;
}

interface Trigger {
  bytes: Uint8Array;
  begin: () => Promise<Rule>;
}

/** How many first bytes of the trigger `text` ends with, all of them at most where it is over. */
function progress(text: ArrayLike<number>, trigger: Uint8Array): number {
  for (let length = Math.min(text.length, trigger.length); length > 0; length--) {
    const start = text.length - length;
    let same = 0;
    while (same < length && text[start + same] === trigger[same]) same += 1;
    if (same === length) return length;
  }
  return 0;
}

/** Where the trigger ends in before + word, counted from the word's beginning; -1: nowhere. */
function endIn(before: ArrayLike<number>, word: Uint8Array, trigger: Uint8Array): number {
  const text = Uint8Array.from([...Array.from(before), ...word]);
  for (let end = Math.max(trigger.length, before.length + 1); end <= text.length; end++) {
    const start = end - trigger.length;
    if (trigger.every((byte, i) => text[start + i] === byte)) return end - before.length;
  }
  return -1;
}

export class LazyRule implements Rule {
  readonly #tokens: TokenBytes;
  readonly #triggers: Trigger[];
  /** The last bytes of free text: one less than the longest trigger. */
  #tail: number[] = [];
  readonly #tailMost: number;
  #inner: Rule | undefined;
  #starting: Trigger | undefined;
  /** Masks of free text, by how far each trigger is there. */
  readonly #masks = new Map<string, Uint32Array | undefined>();

  constructor(tokens: TokenBytes, parts: readonly Part[]) {
    const encoder = new TextEncoder();
    this.#tokens = tokens;
    this.#triggers = parts.map(({ trigger, begin }) => ({ bytes: encoder.encode(trigger), begin }));
    this.#tailMost =
      this.#triggers.reduce((most, { bytes }) => Math.max(most, bytes.length), 0) - 1;
  }

  /** Free text can always go on. */
  get isOver(): boolean {
    return false;
  }

  /** A grammar is on. */
  get isInside(): boolean {
    return this.#inner !== undefined || this.#starting !== undefined;
  }

  async allowed(): Promise<Uint32Array | undefined> {
    if (this.#starting !== undefined) {
      this.#inner = await this.#starting.begin();
      this.#starting = undefined;
    }
    return this.#inner === undefined ? this.#freeMask() : this.#inner.allowed();
  }

  async accept(token: number): Promise<void> {
    if (this.#inner !== undefined) {
      await this.#inner.accept(token);
      if (this.#inner.isOver) this.#leave();
      return;
    }
    const word = this.#tokens.bytesOf(token);
    const found = this.#triggers.find(({ bytes }) => endIn(this.#tail, word, bytes) >= 0);
    this.#tail = this.#tailMost === 0 ? [] : [...this.#tail, ...word].slice(-this.#tailMost);
    if (found === undefined) return;
    this.#starting = found;
    this.#tail = [];
  }

  #leave(): void {
    this.#inner?.free();
    this.#inner = undefined;
  }

  /** All tokens but those that hold a trigger's end and more. */
  #freeMask(): Uint32Array | undefined {
    const states = this.#triggers.map(({ bytes }) => progress(this.#tail, bytes));
    const key = states.join();
    if (!this.#masks.has(key)) {
      this.#masks.set(key, this.#makeMask(
        this.#triggers.map(({ bytes }, i) => ({ bytes, before: bytes.subarray(0, states[i]) }))));
    }
    return this.#masks.get(key);
  }

  #makeMask(open: readonly { bytes: Uint8Array; before: Uint8Array }[]): Uint32Array | undefined {
    const mask = new Uint32Array(Math.ceil(this.#tokens.count / 32)).fill(0xffffffff);
    let forbidden = 0;
    for (let token = 0; token < this.#tokens.count; token++) {
      const word = this.#tokens.bytesOf(token);
      const goesPast = open.some(({ bytes, before }) => {
        // Only a word that has the trigger's last byte before its own last one can go past it.
        const last = word.indexOf(bytes[bytes.length - 1] as number);
        if (last < 0 || last === word.length - 1) return false;
        const end = endIn(before, word, bytes);
        return end >= 0 && end < word.length;
      });
      if (!goesPast) continue;
      forbidden += 1;
      mask[token >> 5] = (mask[token >> 5] as number) & ~(1 << (token & 31));
    }
    return forbidden === 0 ? undefined : mask;
  }

  free(): void {
    this.#leave();
  }
}
