// Session: one sequence of a causal model.
//
// The last token of a session usually is not in the cache yet: its logits are what the next choice
// needs, so it waits (`#last`) and runs in the step that makes the choice. A session whose last
// token has run already (after score, or restored so) runs it once more: the cache is cut by one
// token and the token waits again, which gives the same bits.
import { sessionFields } from './bindings.js';
import type { Border, Row } from './bindings.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import type { AdvanceOptions, Choice, Model, StepItem } from './model.js';
import { stageSampling } from './sampling.js';
import type { SamplingOptions } from './sampling.js';

export interface SessionOptions extends SamplingOptions {
  /** Window in tokens; default and maximum: the model's. */
  contextLength?: number;
  /** What a full window does: 'error' (CONTEXT_FULL, default), or 'slide': it forgets the older
   * half of what follows the kept tokens, at the cost of computing the rest anew. */
  overflow?: 'error' | 'slide';
  /** Sliding never forgets this many first tokens; default 0. */
  keep?: number;
}

/** In bytes, but for `tokens`: those of the cache. cachePages counts pages shared with clones,
 * cacheOwn those that no other session refers to; standardUsed is what standard QKV attention
 * (MHA) would take at the same length and element type. */
export type SessionMemory = Row<typeof sessionFields>;

export class Session {
  readonly model: Model;
  #handle: number;
  /** The last token, not in the cache yet. */
  #last: number | undefined;

  private constructor(model: Model, handle: number, last: number | undefined) {
    this.model = model;
    this.#handle = handle;
    this.#last = last;
    model.own(this);
  }

  /** @internal */
  static open(model: Model, options: SessionOptions): Session {
    const { border, handle } = model;
    const { contextLength = 0, overflow = 'error', keep = 0 } = options;
    checkInteger('contextLength', contextLength, 0, 2 ** 31 - 1);
    checkInteger('keep', keep, 0, 2 ** 31 - 1);
    if (overflow !== 'error' && overflow !== 'slide') {
      throw invalidArgument('overflow', overflow, 'error, slide');
    }
    const { biases, seed } = stageSampling(border, options);
    return new Session(model, border.checkHandle(border.exports._js_session_open(
      handle, contextLength, overflow === 'slide' ? 1 : 0, keep, biases, seed)), undefined);
  }

  /** @internal */
  static restore(model: Model, bytes: Uint8Array): Session {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('bytes', bytes, 'a Uint8Array');
    const { border, handle } = model;
    const count = bytes.length - 4;
    const last = count < 0 ? -2
      : new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getInt32(count, true);
    if (last < -1 || last >= model.description.vocabulary) {
      throw new OneKVError('SNAPSHOT_REFUSED', 'the snapshot does not end with a token');
    }
    const session = border.withMemory(count, (at) => {
      border.bytes.set(bytes.subarray(0, count), at);
      return border.checkHandle(border.exports._js_session_restore(handle, at, count));
    });
    return new Session(model, session, last < 0 ? undefined : last);
  }

  get #border(): Border {
    return this.model.border;
  }

  #open(): number {
    if (this.#handle === 0) throw new OneKVError('DESTROYED', 'the session was destroyed');
    return this.#handle;
  }

  #inCache(): number {
    return this.#border.address(this.#border.exports._onekv_session_n_tokens(this.#open()));
  }

  /** Tokens so far. */
  get length(): number {
    return this.#inCache() + (this.#last === undefined ? 0 : 1);
  }

  /** Tokens in the cache: all but one that waits. */
  get cached(): number {
    return this.#inCache();
  }

  /** Window in tokens. */
  get contextLength(): number {
    return this.#border.address(this.#border.exports._onekv_session_n_context(this.#open()));
  }

  /** A full window forgets its older half instead of being an error. */
  get slides(): boolean {
    return this.#border.exports._onekv_session_slides(this.#open()) !== 0;
  }

  /** The tokens from position `first` on, all by default. */
  tokens(first = 0, count = this.length - first): Int32Array {
    const { length } = this;
    checkInteger('first', first, 0, length);
    checkInteger('count', count, 0, length - first);
    const cached = Math.min(count, Math.max(0, this.#inCache() - first));
    const border = this.#border;
    const tokens = new Int32Array(count);
    border.withMemory(4 * cached, (at) => {
      border.check(border.exports._onekv_session_tokens(this.#open(), first, cached, at));
      tokens.set(border.ints(at, cached));
    });
    if (cached < count) tokens[count - 1] = this.#last as number;
    return tokens;
  }

  /**
   * Appends tokens. Errors: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_FULL, OUT_OF_MEMORY;
   * the session stays as it was (after OUT_OF_MEMORY the window may have slid).
   */
  append(tokens: ArrayLike<number>): void {
    this.#open();
    const ids = this.model.checkTokens(tokens);
    if (ids.length === 0) return;
    const item = this.appendItem(ids);
    if (item !== undefined) this.model.step([item]);
    this.hasAppended(ids);
  }

  /** How many of `most` tokens to append in one step: a window that slides makes room for what is
   * kept only, so what fits comes first, and then one token that makes it slide. */
  piece(most: number): number {
    if (!this.slides) return most;
    const room = this.contextLength + 1 - this.length;
    return Math.min(most, Math.max(1, room));
  }

  /** The item that runs all of the ids but the last, which waits; undefined when there is none to
   * run. ids are checked and not empty. @internal */
  appendItem(ids: Int32Array): StepItem | undefined {
    const run = this.#last === undefined ? ids.slice(0, -1) : ids.slice();
    if (this.#last !== undefined) {
      run.copyWithin(1, 0, run.length - 1);
      run[0] = this.#last;
    }
    return run.length === 0 ? undefined : { session: this.#open(), tokens: run, logits: 0 };
  }

  /** The step of appendItem was done. @internal */
  hasAppended(ids: Int32Array): void {
    this.#last = ids.at(-1);
  }

  /** Chooses the next token and appends it. Errors: those of Model.advance. */
  next(options: AdvanceOptions = {}): Choice {
    const [choice] = this.model.advance([this], options);
    return choice as Choice;
  }

  /** Sees to it that the last token waits. */
  #takeBackLast(): void {
    if (this.#last !== undefined) return;
    const count = this.#inCache();
    if (count === 0) throw new OneKVError('WRONG_STATE', 'the session has no tokens yet');
    [this.#last] = this.tokens(count - 1, 1);
    this.#border.check(this.#border.exports._onekv_session_truncate(this.#open(), count - 1));
  }

  /** The item that runs the last token for its logits. @internal */
  lastItem(): StepItem {
    this.#takeBackLast();
    return { session: this.#open(), tokens: Int32Array.of(this.#last as number), logits: 1 };
  }

  /** The step of lastItem was done: no token waits. @internal */
  hasRun(): void {
    this.#last = undefined;
  }

  /** Chooses from the logits that lastItem's step gave, and appends. @internal */
  choose(logits: number, options: AdvanceOptions): Choice {
    const border = this.#border;
    const { outputs } = this.model.description;
    options.mask?.(border.floats(logits, outputs), this);
    const token = border.exports._js_sample(this.#open(), logits);
    if (token < 0) throw border.error(border.exports._js_error_status());
    this.#last = token;
    const count = options.logprobs ?? 0;
    if (count === 0) return { token };
    checkInteger('logprobs', count, 0, outputs);
    const logprob = border.exports._onekv_logprob(logits, outputs, token);
    const top = border.address(border.exports._onekv_model_top(this.model.handle, logits, count));
    const floats = border.floats(top, 2 * count);
    const ints = border.ints(top, 2 * count);
    return {
      token,
      logprob,
      top: Array.from({ length: count }, (_, i) => ({
        token: ints[2 * i + 1] as number, logprob: floats[2 * i] as number,
      })),
    };
  }

  /** The logits of the last token: what the next choice is made from. [outputs], the caller's. */
  logits(): Float32Array {
    const [row] = this.model.step([this.lastItem()]);
    this.#last = undefined;
    return this.#border.floats(row as number, this.model.description.outputs).slice();
  }

  /**
   * Appends tokens and gives the natural logarithm of each one's probability, given all before
   * it: NaN for the first token of an empty session. Errors as append.
   */
  score(tokens: ArrayLike<number>): Float32Array {
    const ids = this.model.checkTokens(tokens);
    const given = this.length > 0 ? 1 : 0;
    if (given > 0) this.#takeBackLast();
    const count = given + ids.length;
    const result = new Float32Array(ids.length).fill(Number.NaN);
    if (ids.length === 0) return result;
    if (count === 1) {
      this.append(ids);
      return result;
    }
    const border = this.#border;
    border.withMemory(8 * count, (at) => {
      const run = border.ints(at, count);
      if (given > 0) run[0] = this.#last as number;
      run.set(ids, given);
      border.check(border.exports._js_score(this.#open(), at, count, at + 4 * count));
      result.set(border.floats(at + 4 * count, count - 1), 1 - given);
    });
    this.#last = undefined;
    return result;
  }

  /** Keeps the first `count` tokens, and no reserved page. Error: INVALID_ARGUMENT if there are
   * fewer. */
  truncate(count: number): void {
    const { length } = this;
    checkInteger('count', count, 0, length);
    if (count < length) this.#last = undefined;
    const cached = Math.min(count, this.#inCache());
    this.#border.check(this.#border.exports._onekv_session_truncate(this.#open(), cached));
  }

  /** An independent session with the same tokens, sampling and random numbers. The cache is
   * shared until one of the two writes. Error: OUT_OF_MEMORY. */
  clone(): Session {
    const border = this.#border;
    const handle = border.checkHandle(border.exports._js_session_clone(this.#open()));
    return new Session(this.model, handle, this.#last);
  }

  /** New sampling parameters; random numbers restart at their seed. Error: INVALID_ARGUMENT. */
  setSampling(options: SamplingOptions): void {
    const handle = this.#open();
    const { biases, seed } = stageSampling(this.#border, options);
    this.#border.check(this.#border.exports._js_session_set_sampling(handle, biases, seed));
  }

  /**
   * The session as bytes, for Model.restoreSession: core's snapshot (core/api/snapshot.c), then the
   * last token if it is not in the cache, else -1, as i32.
   */
  save(): Uint8Array<ArrayBuffer> {
    const border = this.#border;
    const handle = this.#open();
    const count = border.address(border.exports._onekv_session_save_bytes(handle));
    const bytes = new Uint8Array(count + 4);
    border.withMemory(count, (at) => {
      border.exports._onekv_session_save(handle, at);
      bytes.set(border.bytes.subarray(at, at + count));
    });
    new DataView(bytes.buffer).setInt32(count, this.#last ?? -1, true);
    return bytes;
  }

  /**
   * Takes the cache's pages for that many more tokens now. truncate gives them back. Errors:
   * CONTEXT_FULL, OUT_OF_MEMORY; the session stays as it was.
   */
  reserve(count: number): void {
    checkInteger('count', count, 0, 2 ** 31 - 1);
    this.#border.check(this.#border.exports._js_session_reserve(this.#open(), count));
  }

  memory(): SessionMemory {
    const border = this.#border;
    border.exports._js_session_memory(this.#open());
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
