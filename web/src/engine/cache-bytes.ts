// Bytes of caches, asked of core: nothing here multiplies. Bytes are those of a number of tokens,
// not of one token times their number.
import { bytesFields } from './bindings.js';
import type { Bindings, Row } from './bindings.js';
import { cacheTypes } from './description.js';
import type { CacheType } from '../api/description.js';
import { checkInteger } from '../api/errors.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';

/** By what the rows are: keys and values, or one tensor that is both (K=V). `total` is the sum. */
export type CacheBytes = Row<typeof bytesFields>;

export interface CacheQuestion {
  /** Not the model's own cache, but that of standard QKV attention with this many KV heads in its
   * place: as many as query heads is MHA, 1 is MQA. */
  standardHeads?: number | undefined;
  /** Bytes of whole pages, as they are taken; default false: of the tokens' rows alone. */
  wholePages?: boolean | undefined;
  /** Default: the model's. */
  cacheType?: CacheType | undefined;
}

const questionNames: NamesOf<CacheQuestion> = {
  standardHeads: true, wholePages: 'boolean', cacheType: true,
};

/** Answers for one file, by the address of its config. */
export class CacheCounter {
  readonly #bindings: Bindings;
  readonly #config: () => number;
  readonly #queryHeads: () => number;
  readonly #cacheType: CacheType;

  constructor(bindings: Bindings, config: () => number, queryHeads: () => number,
    cacheType: CacheType) {
    this.#bindings = bindings;
    this.#config = config;
    this.#queryHeads = queryHeads;
    this.#cacheType = cacheType;
  }

  #plan(question: CacheQuestion): [number, number, number] {
    const { standardHeads, wholePages, cacheType } =
      checkOptions('cache', question, questionNames);
    const heads = standardHeads === undefined ? 0
      : checkInteger('standardHeads', standardHeads, 1, this.#queryHeads());
    return [cacheTypes.indexOf(cacheType ?? this.#cacheType), heads, wholePages === true ? 1 : 0];
  }

  /** What that many tokens take. Error: INVALID_ARGUMENT. */
  bytes(tokens: number, question: CacheQuestion = {}): CacheBytes {
    checkInteger('tokens', tokens, 0, 2 ** 31 - 1);
    const bindings = this.#bindings;
    bindings.exports._js_cache_bytes(this.#config(), ...this.#plan(question), tokens);
    return bindings.row(bytesFields);
  }

  /** Tokens that a page holds: pages are what is taken and given back. */
  get pageTokens(): number {
    return this.tokens(this.bytes(1, { wholePages: true }).total, { wholePages: true });
  }

  /** The most tokens, up to the file's context, that take at most that many bytes. */
  tokens(bytes: number, question: CacheQuestion = {}): number {
    const bindings = this.#bindings;
    return bindings.address(
      bindings.exports._js_cache_tokens(this.#config(), ...this.#plan(question), bytes));
  }
}
