// Free text in which a grammar begins at a trigger and ends where it is over: a call's arguments in
// an answer. Triggers are compared as bytes, since tokens cut characters.
//
// A trigger always ends with a token: one that would go past its end may not come, so that the
// grammar has every byte after it. As long as a trigger is only partly there the text is free. A
// trigger without a grammar may not come at all.
import type { TokenBytes } from './grammar-module.js';
import type { Rule } from './grammar.js';

interface Part {
  trigger: string;
  /** undefined: it may not come. */
  begin: (() => Promise<Rule>) | undefined;
  /** Thoughts come before the beginning of the text. */
  isThought?: boolean;
  /** At the beginning of the text only, white space aside. */
  isFirst?: boolean;
}

interface Trigger extends Omit<Part, 'trigger'> {
  bytes: Uint8Array;
}

/** How many first bytes of the trigger `text` ends with, all of them at most where it is over. */
export function progress(text: ArrayLike<number>, trigger: Uint8Array): number {
  for (let length = Math.min(text.length, trigger.length); length > 0; length--) {
    const start = text.length - length;
    let same = 0;
    while (same < length && text[start + same] === trigger[same]) same += 1;
    if (same === length) return length;
  }
  return 0;
}

/** Where the trigger ends in before + word, counted from the word's beginning; -1: nowhere. */
export function endIn(before: ArrayLike<number>, word: Uint8Array, trigger: Uint8Array): number {
  const text = Uint8Array.from([...Array.from(before), ...word]);
  for (let end = Math.max(trigger.length, before.length + 1); end <= text.length; end++) {
    const start = end - trigger.length;
    if (trigger.every((byte, i) => text[start + i] === byte)) return end - before.length;
  }
  return -1;
}

const isBlank = (byte: number) => byte === 32 || (byte >= 9 && byte <= 13);

export class LazyRule implements Rule {
  readonly #tokens: TokenBytes;
  #triggers: Trigger[];
  /** The last bytes of free text: one less than the longest trigger. */
  #tail: number[] = [];
  readonly #tailMost: number;
  #inner: Rule | undefined;
  #starting: Trigger | undefined;
  #wasThought = false;
  readonly #starts: Trigger[];
  readonly #once: boolean;
  /** A grammar is over, after which nothing may come. */
  #ends = false;
  /** Masks of free text, by how far each trigger is there. */
  readonly #masks = new Map<string, Uint32Array | undefined>();

  /** starts: parts that are on, one behind the other. once: after a grammar the text ends. */
  constructor(tokens: TokenBytes, parts: readonly Part[],
    { starts = [], once = false }: { starts?: readonly number[]; once?: boolean } = {}) {
    const encoder = new TextEncoder();
    this.#tokens = tokens;
    const all = parts.map(({ trigger, ...part }) => ({ ...part, bytes: encoder.encode(trigger) }));
    this.#starts = starts.map((at) => all[at] as Trigger);
    this.#triggers = all.filter(({ bytes }) => bytes.length > 0);
    this.#tailMost =
      this.#triggers.reduce((most, { bytes }) => Math.max(most, bytes.length), 1) - 1;
    this.#once = once;
    this.#startNext();
  }

  get isOver(): boolean {
    return this.#ends;
  }

  /** A grammar is on. */
  get isInside(): boolean {
    return this.#inner !== undefined || this.#starting !== undefined;
  }

  async allowed(): Promise<Uint32Array | undefined> {
    if (this.#ends) return this.#endMask();
    if (this.#starting?.begin !== undefined) {
      this.#inner = await this.#starting.begin();
      this.#starting = undefined;
    }
    return this.#inner === undefined ? this.#freeMask() : this.#inner.allowed();
  }

  async accept(token: number): Promise<void> {
    if (this.#ends) return;
    if (this.#inner !== undefined) {
      await this.#inner.accept(token);
      if (this.#inner.isOver) this.#leave();
      return;
    }
    const word = this.#tokens.markBytesOf(token);
    const found = this.#triggers.find(({ bytes }) => endIn(this.#tail, word, bytes) >= 0);
    this.#tail = this.#tailMost === 0 ? [] : [...this.#tail, ...word].slice(-this.#tailMost);
    if (found === undefined) this.#passBy(word);
    else this.#start(found);
  }

  /** Text came that is not a trigger: those of the beginning are gone, unless one is on its way. */
  #passBy(word: Uint8Array): void {
    if (!this.#triggers.some(({ isFirst }) => isFirst) || word.every(isBlank)) return;
    const text = this.#tail.slice(this.#tail.findIndex((byte) => !isBlank(byte)));
    this.#triggers = this.#triggers.filter(({ isFirst, bytes }) =>
      isFirst !== true || progress(text, bytes) === text.length);
    this.#masks.clear();
  }

  #start(trigger: Trigger): void {
    this.#starting = trigger;
    this.#tail = [];
    this.#wasThought = trigger.isThought === true;
    if (!this.#wasThought) {
      this.#triggers = this.#triggers.filter(({ isFirst }) => isFirst !== true);
    }
    this.#masks.clear();
  }

  #startNext(): void {
    const next = this.#starts.shift();
    if (next !== undefined) this.#start(next);
  }

  #leave(): void {
    this.#inner?.free();
    this.#inner = undefined;
    this.#ends = this.#once && !this.#wasThought;
    this.#startNext();
  }

  #endMask(): Uint32Array {
    const mask = new Uint32Array(Math.ceil(this.#tokens.count / 32));
    for (const end of this.#tokens.ends) mask[end >> 5] = (mask[end >> 5] ?? 0) | 1 << (end & 31);
    return mask;
  }

  /** All tokens but those that hold a trigger's end and more, or what may not come. */
  #freeMask(): Uint32Array | undefined {
    const states = this.#triggers.map(({ bytes }) => progress(this.#tail, bytes));
    const key = states.join();
    if (!this.#masks.has(key)) this.#masks.set(key, this.#makeMask(states));
    return this.#masks.get(key);
  }

  #makeMask(states: readonly number[]): Uint32Array | undefined {
    const mask = new Uint32Array(Math.ceil(this.#tokens.count / 32)).fill(0xffffffff);
    let forbidden = 0;
    for (let token = 0; token < this.#tokens.count; token++) {
      const word = this.#tokens.markBytesOf(token);
      const isForbidden = this.#triggers.some(({ bytes, begin }, i) => {
        const last = word.indexOf(bytes[bytes.length - 1] as number);
        if (last < 0) return false;
        // Only a word that has the trigger's last byte before its own last one can go past it.
        if (begin !== undefined && last === word.length - 1) return false;
        const end = endIn(bytes.subarray(0, states[i]), word, bytes);
        return end >= 0 && (begin === undefined || end < word.length);
      });
      if (!isForbidden) continue;
      forbidden += 1;
      mask[token >> 5] = (mask[token >> 5] as number) & ~(1 << (token & 31));
    }
    return forbidden === 0 ? undefined : mask;
  }

  free(): void {
    this.#inner?.free();
    this.#inner = undefined;
  }
}
