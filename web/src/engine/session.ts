// Session: one sequence of a causal model. Its tokens are core's, also the one that waits for its
// logits (core/onekv.h).
import type { OwnBytes } from '../api/bytes.js';
import { sessionFields } from './bindings.js';
import type { Border, Row } from './bindings.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import type { Model } from './model.js';
import { stageSampling } from './sampling.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { samplingNames } from '../api/sampling.js';
import type { SamplingOptions } from '../api/sampling.js';
import { runStep } from './step.js';
import type { AdvanceOptions, Choice } from './step.js';

export interface SessionOptions extends SamplingOptions {
  /** Window in tokens; default and maximum: the model's. */
  contextWindow?: number | undefined;
  /** What a full window does: 'error' (CONTEXT_FULL, default), or 'slide': it forgets the older
   * half of what follows the kept tokens, at the cost of computing the rest anew. */
  overflow?: 'error' | 'slide' | undefined;
  /** Sliding never forgets this many first tokens; default 0. */
  keep?: number | undefined;
}

const sessionNames: NamesOf<SessionOptions> = {
  ...samplingNames, contextWindow: true, overflow: true, keep: true,
};

const noTokens = new Int32Array(0);

/** In bytes, but for `tokens`: those whose rows are in the cache, which is all of them, or all but
 * the one that waits for its logits. cachePages counts pages shared with clones,
 * cacheOwn those that no other session refers to; tokensHeld is how many tokens the pages have room
 * for. Standard attention in comparison: Model.cache.bytes(tokens, { standardHeads }). */
export type SessionMemory = Row<typeof sessionFields>;

export class Session {
  readonly model: Model;
  #handle: number;

  private constructor(model: Model, handle: number) {
    this.model = model;
    this.#handle = handle;
    model.own(this);
  }

  /** @internal */
  static open(model: Model, options: SessionOptions): Session {
    const { border, handle } = model;
    const { contextWindow = 0, overflow = 'error', keep = 0 } =
      checkOptions('openSession', options, sessionNames);
    checkInteger('contextWindow', contextWindow, 0, 2 ** 31 - 1);
    checkInteger('keep', keep, 0, 2 ** 31 - 1);
    if (overflow !== 'error' && overflow !== 'slide') {
      throw invalidArgument('overflow', overflow, 'error, slide');
    }
    const { biases, seed } = stageSampling(border, options);
    return new Session(model, border.checkHandle(border.exports._js_session_open(
      handle, contextWindow, overflow === 'slide' ? 1 : 0, keep, biases, seed)));
  }

  /** @internal */
  static restore(model: Model, bytes: Uint8Array): Session {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('bytes', bytes, 'a Uint8Array');
    const { border, handle } = model;
    const session = border.withMemory(bytes.length, (at) => {
      border.bytes.set(bytes, at);
      return border.checkHandle(border.exports._js_session_restore(handle, at, bytes.length));
    });
    return new Session(model, session);
  }

  get #border(): Border {
    return this.model.border;
  }

  /** Its address; refuses when destroyed. @internal */
  get handle(): number {
    if (this.#handle === 0) throw new OneKVError('DESTROYED', 'the session was destroyed');
    return this.#handle;
  }

  /** Tokens so far. The last one may be one more than the window holds. */
  get length(): number {
    return this.#border.address(this.#border.exports._onekv_session_n_tokens(this.handle));
  }

  /** Window in tokens. */
  get contextWindow(): number {
    return this.#border.address(this.#border.exports._onekv_session_n_context(this.handle));
  }

  /** A full window forgets its older half instead of being an error. */
  get slides(): boolean {
    return this.#border.exports._onekv_session_slides(this.handle) !== 0;
  }

  /** The tokens from position `first` on, all by default. */
  tokens(first = 0, count = this.length - first): Int32Array {
    const { length } = this;
    checkInteger('first', first, 0, length);
    checkInteger('count', count, 0, length - first);
    const border = this.#border;
    return border.withMemory(4 * count, (at) => {
      border.check(border.exports._onekv_session_tokens(this.handle, first, count, at));
      return border.ints(at, count).slice();
    });
  }

  /**
   * Appends tokens. Errors: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_FULL, OUT_OF_MEMORY;
   * the session stays as it was (after OUT_OF_MEMORY the window may have slid).
   */
  append(tokens: ArrayLike<number>): void {
    const { handle } = this;
    const ids = this.model.checkTokens(tokens);
    if (ids.length > 0) runStep(this.model, [{ session: handle, tokens: ids, logits: 0 }]);
  }

  /** How many of `most` tokens to append in one step: a window that slides makes room for what is
   * kept only, so what fits comes first, and then one token that makes it slide. */
  piece(most: number): number {
    if (!this.slides) return most;
    const room = this.contextWindow + 1 - this.length;
    return Math.min(most, Math.max(1, room));
  }

  /** Chooses the next token and appends it. Errors: those of Model.advance. */
  next(options: AdvanceOptions = {}): Choice {
    const [choice] = this.model.advance([this], options);
    return choice as Choice;
  }

  /** The logits of the last token: what the next choice is made from. [outputs], the caller's. */
  logits(): Float32Array {
    const [row] = runStep(this.model, [{ session: this.handle, tokens: noTokens, logits: 1 }]);
    return this.#border.floats(row as number, this.model.description.outputs).slice();
  }

  /**
   * Appends tokens and gives the natural logarithm of each one's probability, given all before
   * it: NaN for the first token of an empty session. Errors as append.
   */
  score(tokens: ArrayLike<number>): Float32Array {
    const ids = this.model.checkTokens(tokens);
    const count = ids.length;
    if (count === 0) return new Float32Array(0);
    const border = this.#border;
    return border.withMemory(8 * count, (at) => {
      border.ints(at, count).set(ids);
      border.check(border.exports._js_score(this.handle, at, count, at + 4 * count));
      return border.floats(at + 4 * count, count).slice();
    });
  }

  /** Keeps the first `count` tokens, and no reserved page. Error: INVALID_ARGUMENT if there are
   * fewer. */
  truncate(count: number): void {
    checkInteger('count', count, 0, this.length);
    this.#border.check(this.#border.exports._onekv_session_truncate(this.handle, count));
  }

  /** An independent session with the same tokens, sampling and random numbers. The cache is
   * shared until one of the two writes. Error: OUT_OF_MEMORY. */
  clone(): Session {
    const border = this.#border;
    const handle = border.checkHandle(border.exports._js_session_clone(this.handle));
    return new Session(this.model, handle);
  }

  /** Of its random numbers: the one given or, with a temperature, a random one. */
  get seed(): number | bigint {
    const seed = BigInt.asUintN(64, this.#border.exports._onekv_session_seed(this.handle));
    return seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : seed;
  }

  /** New sampling parameters; random numbers restart at their seed. Error: INVALID_ARGUMENT. */
  setSampling(options: SamplingOptions): void {
    const handle = this.handle;
    checkOptions('setSampling', options, samplingNames);
    const { biases, seed } = stageSampling(this.#border, options);
    this.#border.check(this.#border.exports._js_session_set_sampling(handle, biases, seed));
  }

  /** The session as bytes, for Model.restoreSession (core/api/snapshot.c has the layout). */
  save(): OwnBytes {
    const border = this.#border;
    const { handle } = this;
    const count = border.address(border.exports._onekv_session_save_bytes(handle));
    return border.withMemory(count, (at) => {
      border.exports._onekv_session_save(handle, at);
      return border.copy(at, count);
    });
  }

  /**
   * Takes the cache's pages for that many more tokens now. truncate gives them back. Errors:
   * CONTEXT_FULL, OUT_OF_MEMORY; the session stays as it was.
   */
  reserve(count: number): void {
    checkInteger('count', count, 0, 2 ** 31 - 1);
    this.#border.check(this.#border.exports._js_session_reserve(this.handle, count));
  }

  memory(): SessionMemory {
    const border = this.#border;
    border.exports._js_session_memory(this.handle);
    return border.row(sessionFields);
  }

  /** Gives its pages back. A second call does nothing. */
  destroy(): void {
    if (this.#handle === 0) return;
    const border = this.#border;
    if (!border.isBroken) border.exports._onekv_session_close(this.#handle);
    this.#handle = 0;
    this.model.disown(this);
  }
}
