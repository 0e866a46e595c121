// A model's thoughts as a part of a text with rules: they are free up to their closing tag, which
// ends with a token, and when they have taken as many tokens as they may, they are ended for the
// model: its next tokens are the ones of the closing tag.
import { endIn, progress } from './lazy-rule.js';
import type { TokenBytes } from './grammar-module.js';
import type { Rule } from './grammar.js';

interface ThoughtOptions {
  /** The closing tag. */
  closer: string;
  /** Tokens that end the thoughts when there have been enough. */
  ending: readonly number[];
  /** Tokens that follow in any case, such as the opening of a call. */
  then: readonly number[];
  /** Tokens left, counted down: one account for all thoughts of an answer. */
  account: { left: number };
}

export class ThoughtRule implements Rule {
  readonly #tokens: TokenBytes;
  readonly #options: ThoughtOptions;
  readonly #closer: Uint8Array;
  /** The last bytes: one less than the closing tag has. */
  #tail: number[] = [];
  #isClosed = false;
  /** Tokens that have to come. */
  #queue: number[] = [];
  readonly #masks = new Map<number, Uint32Array | undefined>();

  constructor(tokens: TokenBytes, options: ThoughtOptions) {
    this.#tokens = tokens;
    this.#options = options;
    this.#closer = new TextEncoder().encode(options.closer);
  }

  get isOver(): boolean {
    return this.#isClosed && this.#queue.length === 0;
  }

  allowed(): Uint32Array | undefined {
    const { account, ending } = this.#options;
    if (this.#queue.length === 0 && account.left <= 0) this.#queue = [...ending];
    const [forced] = this.#queue;
    return forced === undefined ? this.#freeMask() : this.#only(forced);
  }

  accept(token: number): void {
    if (this.#queue[0] === token) this.#queue.shift();
    else this.#options.account.left -= 1;
    if (this.#isClosed) return;
    const word = this.#tokens.markBytesOf(token);
    this.#isClosed = endIn(this.#tail, word, this.#closer) >= 0;
    if (this.#isClosed) this.#queue = [...this.#queue, ...this.#options.then];
    this.#tail = [...this.#tail, ...word].slice(1 - this.#closer.length);
  }

  #only(token: number): Uint32Array {
    const mask = new Uint32Array(Math.ceil(this.#tokens.count / 32));
    mask[token >> 5] = 1 << (token & 31);
    return mask;
  }

  /** All tokens but those that go past the closing tag. */
  #freeMask(): Uint32Array | undefined {
    const state = progress(this.#tail, this.#closer);
    if (!this.#masks.has(state)) this.#masks.set(state, this.#makeMask(state));
    return this.#masks.get(state);
  }

  #makeMask(state: number): Uint32Array | undefined {
    const mask = new Uint32Array(Math.ceil(this.#tokens.count / 32)).fill(0xffffffff);
    const last = this.#closer[this.#closer.length - 1] as number;
    let forbidden = 0;
    for (let token = 0; token < this.#tokens.count; token++) {
      const word = this.#tokens.markBytesOf(token);
      const at = word.indexOf(last);
      if (at < 0 || at === word.length - 1) continue;
      const end = endIn(this.#closer.subarray(0, state), word, this.#closer);
      if (end < 0 || end === word.length) continue;
      forbidden += 1;
      mask[token >> 5] = (mask[token >> 5] as number) & ~(1 << (token & 31));
    }
    return forbidden === 0 ? undefined : mask;
  }

  free(): void {}
}
