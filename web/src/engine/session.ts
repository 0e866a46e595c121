// Session: one sequence of a causal model. Its tokens are core's, also the one that waits for its
// logits (core/onekv.h).
import type { OwnBytes } from '../api/bytes.js';
import { sessionFields } from './bindings.js';
import type { Bindings, Row } from './bindings.js';
import { draftsOf } from './drafts.js';
import type { Drafts } from './drafts.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import type { Model } from './model.js';
import { stageSampling } from './sampling.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { samplingNames } from '../api/sampling.js';
import type { SamplingOptions } from '../api/sampling.js';
import type { DraftMode } from '../api/session.js';
import { runStep } from './step.js';
import type { AdvanceOptions, Choice } from './step.js';

/** What guesses: what was in the text, or a smaller model. */
export type Guesser = Exclude<DraftMode, 'model'> | Model;

export interface SessionOptions extends SamplingOptions {
  /** Window in tokens; default and maximum: the model's. */
  contextWindow?: number | undefined;
  /** What a full window does: 'error' (CONTEXT_FULL, default), or 'slide': it forgets the older
   * half of what follows the kept tokens, at the cost of computing the rest anew. */
  overflow?: 'error' | 'slide' | undefined;
  /** Sliding never forgets this many first tokens; default 0. */
  keep?: number | undefined;
  /** 'off' or 'lookup', as in api/session.ts, or a smaller model with the same tokens, which stays
   * the caller's and may be of another engine. A session of it goes along with this one, is closed
   * with it, and takes memory there; without that model's memory, or once it is destroyed, nothing
   * is guessed any more. */
  draft?: Guesser | undefined;
}

const sessionNames: NamesOf<SessionOptions> = {
  ...samplingNames, contextWindow: true, overflow: true, keep: true, draft: true,
};

const noTokens = new Int32Array(0);

/** In bytes, but for `tokens`: those whose rows are in the cache, which is all of them, or all but
 * the one that waits for its logits. cachePages counts pages shared with clones,
 * cacheOwn those that no other session refers to; tokensHeld is how many tokens the pages have room
 * for. Standard attention in comparison: Model.cache.bytes(tokens, { standardHeads }). */
export type SessionMemory = Row<typeof sessionFields>;

/** A session with what it guesses with, which goes where the session cannot be opened. */
function withDrafts(model: Model, draft: unknown,
  open: (drafts: Drafts | undefined) => Session): Session {
  const drafts = draftsOf(model, draft);
  try {
    return open(drafts);
  } catch (error) {
    drafts?.destroy();
    throw error;
  }
}

export class Session {
  readonly model: Model;
  /** What it guesses with, if it does. @internal */
  readonly drafts: Drafts | undefined;
  #handle: number;

  private constructor(model: Model, handle: number, drafts?: Drafts) {
    this.model = model;
    this.#handle = handle;
    this.drafts = drafts;
    model.own(this);
  }

  /** @internal */
  static open(model: Model, options: SessionOptions): Session {
    const { bindings, handle } = model;
    const { contextWindow = 0, overflow = 'error', keep = 0 } =
      checkOptions('openSession', options, sessionNames);
    checkInteger('contextWindow', contextWindow, 0, 2 ** 31 - 1);
    checkInteger('keep', keep, 0, 2 ** 31 - 1);
    if (overflow !== 'error' && overflow !== 'slide') {
      throw invalidArgument('overflow', overflow, 'error, slide');
    }
    return withDrafts(model, options.draft, (drafts) => {
      const { biases, seed } = stageSampling(model, options);
      return new Session(model, bindings.checkHandle(bindings.exports._js_session_open(
        handle, contextWindow, overflow === 'slide' ? 1 : 0, keep, biases, seed)), drafts);
    });
  }

  /** @internal */
  static restore(model: Model, bytes: Uint8Array, draft: Guesser): Session {
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('bytes', bytes, 'a Uint8Array');
    const { bindings, handle } = model;
    return withDrafts(model, draft, (drafts) => new Session(model,
      bindings.withMemory(bytes.length, (at) => {
        bindings.bytes.set(bytes, at);
        return bindings.checkHandle(bindings.exports._js_session_restore(handle, at, bytes.length));
      }), drafts));
  }

  get #bindings(): Bindings {
    return this.model.bindings;
  }

  /** Its address; refuses when destroyed. @internal */
  get handle(): number {
    if (this.#handle === 0) throw new OneKVError('DESTROYED', 'the session was destroyed');
    return this.#handle;
  }

  /** Tokens so far. The last one may be one more than the window holds. */
  get length(): number {
    return this.#bindings.address(this.#bindings.exports._onekv_session_n_tokens(this.handle));
  }

  /** Window in tokens. */
  get contextWindow(): number {
    const { exports } = this.#bindings;
    return this.#bindings.address(exports._onekv_session_context_window(this.handle));
  }

  /** A full window forgets its older half instead of being an error. */
  get slides(): boolean {
    return this.#bindings.exports._onekv_session_slides(this.handle) !== 0;
  }

  /** Where the next slide is to cut: it forgets what is between the kept tokens and this position,
   * if that makes room, and the older half otherwise; 0: nowhere. */
  cutAt(position: number): void {
    checkInteger('position', position, 0, 2 ** 31 - 1);
    this.#bindings.exports._onekv_session_cut_at(this.handle, position);
  }

  /** The tokens from position `first` on, all by default. */
  tokens(first = 0, count = this.length - first): Int32Array {
    const { length } = this;
    checkInteger('first', first, 0, length);
    checkInteger('count', count, 0, length - first);
    const bindings = this.#bindings;
    return bindings.withMemory(4 * count, (at) => {
      bindings.check(bindings.exports._onekv_session_tokens(this.handle, first, count, at));
      return bindings.ints(at, count).slice();
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
  stepLimit(most: number): number {
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
    return this.#bindings.floats(row as number, this.model.description.outputs).slice();
  }

  /**
   * Appends tokens and gives the natural logarithm of each one's probability, given all before
   * it: NaN for the first token of an empty session. Errors as append.
   */
  score(tokens: ArrayLike<number>): Float32Array {
    const ids = this.model.checkTokens(tokens);
    const count = ids.length;
    if (count === 0) return new Float32Array(0);
    const bindings = this.#bindings;
    return bindings.withMemory(8 * count, (at) => {
      bindings.ints(at, count).set(ids);
      bindings.check(bindings.exports._js_score(this.handle, at, count, at + 4 * count));
      return bindings.floats(at + 4 * count, count).slice();
    });
  }

  /** Rows of logits that a draft has ahead of the session. @internal */
  get ahead(): number {
    return this.#bindings.address(this.#bindings.exports._onekv_session_n_ahead(this.handle));
  }

  /** Runs guesses (checkTokens) ahead of the session. Gives how many ran: what has no room is left
   * out. @internal */
  draft(guesses: Int32Array): number {
    const bindings = this.#bindings;
    bindings.withMemory(4 * guesses.length, (at) => {
      bindings.ints(at, guesses.length).set(guesses);
      // Without memory for a draft there is none.
      bindings.exports._onekv_session_draft(this.handle, at, guesses.length, 0);
    });
    return Math.max(0, this.ahead - 1);
  }

  /** Lets go of a draft, and of the pages it took: an answer has ended. @internal */
  endDraft(): void {
    this.drafts?.end();
    if (this.drafts === undefined || this.#handle === 0 || this.#bindings.isBroken) return;
    this.#bindings.exports._onekv_session_draft(this.#handle, 0, 0, 0);
  }

  /** Keeps the first `count` tokens, and no reserved page. Error: INVALID_ARGUMENT if there are
   * fewer. */
  truncate(count: number): void {
    checkInteger('count', count, 0, this.length);
    this.#bindings.check(this.#bindings.exports._onekv_session_truncate(this.handle, count));
  }

  /** An independent session with the same tokens, sampling and random numbers. The cache is
   * shared until one of the two writes. Error: OUT_OF_MEMORY. */
  clone(): Session {
    const bindings = this.#bindings;
    const handle = bindings.checkHandle(bindings.exports._js_session_clone(this.handle));
    return new Session(this.model, handle, this.drafts?.clone());
  }

  /** Of its random numbers: the one given or, with a temperature, a random one. */
  get seed(): number | bigint {
    const seed = BigInt.asUintN(64, this.#bindings.exports._onekv_session_seed(this.handle));
    return seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(seed) : seed;
  }

  /** New sampling parameters; random numbers restart at their seed. Error: INVALID_ARGUMENT. */
  setSampling(options: SamplingOptions): void {
    const handle = this.handle;
    checkOptions('setSampling', options, samplingNames);
    const { biases, seed } = stageSampling(this.model, options);
    this.#bindings.check(this.#bindings.exports._js_session_set_sampling(handle, biases, seed));
  }

  /** The session as bytes, for Model.restoreSession (core/api/snapshot.c has the layout). */
  save(): OwnBytes {
    const bindings = this.#bindings;
    const { handle } = this;
    const count = bindings.address(bindings.exports._onekv_session_save_bytes(handle));
    return bindings.withMemory(count, (at) => {
      bindings.exports._onekv_session_save(handle, at);
      return bindings.copy(at, count);
    });
  }

  /**
   * Takes the cache's pages for that many more tokens now. truncate gives them back. Errors:
   * CONTEXT_FULL, OUT_OF_MEMORY; the session stays as it was.
   */
  reserve(count: number): void {
    checkInteger('count', count, 0, 2 ** 31 - 1);
    this.#bindings.check(this.#bindings.exports._js_session_reserve(this.handle, count));
  }

  memory(): SessionMemory {
    const bindings = this.#bindings;
    bindings.exports._js_session_memory(this.handle);
    return bindings.row(sessionFields);
  }

  /** Gives its pages back. A second call does nothing. */
  destroy(): void {
    if (this.#handle === 0) return;
    const bindings = this.#bindings;
    if (!bindings.isBroken) bindings.exports._onekv_session_close(this.#handle);
    this.#handle = 0;
    this.drafts?.destroy();
    this.model.disown(this);
  }
}
