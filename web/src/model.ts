// Model: an immutable set of weights with its sessions. One call at a time on a model and its
// sessions: they share working memory.
import { memoryFields, stepItemsMax } from './border.js';
import type { Border, Row } from './border.js';
import { ChatTemplate } from './chat-template.js';
import type { ModelDescription } from './description.js';
import type { Engine, ModelEstimate } from './engine.js';
import { OneKVError, checkInteger, invalidArgument } from './errors.js';
import { Session } from './session.js';
import type { SessionOptions } from './session.js';
import type { TextKeys } from './text-keys.js';
import { Tokenizer } from './tokenizer.js';

/** Bytes by kind. `total` is their sum: exactly what core holds; `heap` is the whole wasm memory
 * of the engine. cacheUsed and cachePooled are parts of cache; openSessions is a number. */
export type ModelMemory = Row<typeof memoryFields> & { heap: number };

/** A row of logits per position, or one row, of a bidirectional model. */
export interface Encoded {
  rows: number;
  outputs: number;
  /** [rows][outputs], the caller's own. */
  logits: Float32Array;
}

export interface AdvanceOptions {
  /** Gives also the natural logarithms of the chosen token's probability and of those of this
   * many likeliest tokens; default 0, which gives neither. */
  logprobs?: number;
  /** May change a session's logits before the choice (a grammar's mask). The row is the module's
   * memory: it must not be kept. */
  mask?: (logits: Float32Array, session: Session) => void;
}

/** A chosen token. */
export interface Choice {
  token: number;
  /** With options.logprobs: log p(token), before temperature and penalties. */
  logprob?: number;
  /** With options.logprobs: the likeliest tokens, likeliest first. */
  top?: { token: number; logprob: number }[];
}

/** One item of a step. @internal */
export interface StepItem {
  session: number;
  tokens: Int32Array;
  logits: number;
}

/** @internal */
export interface ModelParts {
  description: ModelDescription;
  estimate: ModelEstimate;
  textKeys: TextKeys | undefined;
  name: string | undefined;
  labels: string[] | undefined;
  batch: number;
}

export class Model {
  readonly description: ModelDescription;
  /** general.name of the file. */
  readonly name: string | undefined;
  /** Names of the outputs, where they are classes. */
  readonly labels: readonly string[] | undefined;
  readonly estimate: ModelEstimate;
  readonly #engine: Engine;
  readonly #batch: number;
  readonly #textKeys: TextKeys | undefined;
  readonly #sessions = new Set<Session>();
  #tokenizer: Tokenizer | undefined;
  #template: ChatTemplate | undefined;
  #handle: number;

  /** @internal */
  constructor(engine: Engine, handle: number, parts: ModelParts) {
    this.#engine = engine;
    this.#handle = handle;
    this.description = parts.description;
    this.estimate = parts.estimate;
    this.name = parts.name;
    this.labels = parts.labels;
    this.#textKeys = parts.textKeys;
    this.#batch = parts.batch;
    engine.own(this);
  }

  /** @internal */
  get border(): Border {
    return this.#engine.border;
  }

  /** Its address; refuses when destroyed. @internal */
  get handle(): number {
    if (this.#handle === 0) throw new OneKVError('DESTROYED', 'the model was destroyed');
    return this.#handle;
  }

  get engine(): Engine {
    return this.#engine;
  }

  /** A fingerprint of the file's bytes, 16 hexadecimal digits. Snapshots are bound to it. */
  get hash(): string {
    const hash = this.border.exports._onekv_model_hash(this.handle);
    return BigInt.asUintN(64, hash).toString(16).padStart(16, '0');
  }

  /** Kernels in use: 'simd128' or 'relaxed'. */
  get level(): string {
    return this.border.text(this.border.exports._onekv_model_level(this.handle));
  }

  /** Bytes that a token adds to the cache. */
  get cacheBytesPerToken(): number {
    return this.estimate.cacheBytesPerToken;
  }

  /** The same in standard QKV attention with that many KV heads (default: a KV head for every
   * query head), at the same element type. */
  standardBytesPerToken(kvHeads: number = this.description.queryHeads): number {
    const { queryHeads } = this.description;
    checkInteger('kvHeads', kvHeads, 1, queryHeads);
    return this.estimate.standardBytesPerToken / queryHeads * kvHeads;
  }

  /** Built at first use. Error: UNSUPPORTED_TOKENIZER. */
  get tokenizer(): Tokenizer {
    this.#tokenizer ??= new Tokenizer(this.#textKeys);
    return this.#tokenizer;
  }

  /** Built at first use. Errors: NO_CHAT_TEMPLATE, BAD_CHAT_TEMPLATE. */
  get chatTemplate(): ChatTemplate {
    this.#template ??= new ChatTemplate(this.#textKeys);
    return this.#template;
  }

  memory(): ModelMemory {
    const { border } = this;
    border.exports._js_model_memory(this.handle);
    return { ...border.row(memoryFields), heap: border.memoryBytes };
  }

  /** Gives cache pages that no session uses back to the engine's memory, for other models. */
  trim(): void {
    this.border.exports._onekv_model_trim(this.handle);
  }

  /** Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, WRONG_STATE (a bidirectional model). */
  openSession(options: SessionOptions = {}): Session {
    return Session.open(this, options);
  }

  /** The session that Session.save gave as bytes, which may come from anywhere.
   * Errors: SNAPSHOT_REFUSED, OUT_OF_MEMORY. */
  restoreSession(bytes: Uint8Array): Session {
    return Session.restore(this, bytes);
  }

  /**
   * Chooses the next token of each session and appends it, all sessions in as few steps as
   * options.batch of the model allows. Errors: INVALID_ARGUMENT (a session twice, of another
   * model, or without tokens), CONTEXT_FULL, OUT_OF_MEMORY, NOT_FINITE; sessions of steps before
   * the failing one have advanced.
   */
  advance(sessions: readonly Session[], options: AdvanceOptions = {}): Choice[] {
    if (new Set(sessions).size < sessions.length || sessions.some((s) => s.model !== this)) {
      throw invalidArgument('sessions', 'a session twice or of another model', 'one of each');
    }
    const choices: Choice[] = [];
    for (let first = 0; first < sessions.length; first += this.#batch) {
      const group = sessions.slice(first, first + this.#batch);
      const rows = this.step(group.map((session) => session.lastItem()));
      group.forEach((session, i) => choices.push(session.choose(rows[i] as number, options)));
    }
    return choices;
  }

  /** One step of core: appends each item's tokens; addresses of the logits. @internal */
  step(items: readonly StepItem[]): number[] {
    if (items.length > stepItemsMax) throw invalidArgument('items', items.length, 'at most 64');
    const { border } = this;
    const headInts = 4 * items.length;
    const count = items.reduce((sum, item) => sum + item.tokens.length, 0);
    return border.withMemory(4 * (headInts + count), (at) => {
      const ints = border.ints(at, headInts + count);
      let next = headInts;
      items.forEach(({ session, tokens, logits }, i) => {
        ints.set([session, tokens.length, logits, 0], 4 * i);
        ints.set(tokens, next);
        next += tokens.length;
      });
      border.check(border.exports._js_step(this.handle, items.length, at, at + 4 * headInts));
      const heads = border.ints(at, headInts);
      return items.map((_, i) => border.address(heads[4 * i + 3] as number));
    });
  }

  /**
   * Runs a bidirectional model on one whole sequence: token ids, or a Float32Array of feature
   * rows. Errors: WRONG_STATE (a causal model), INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE,
   * CONTEXT_FULL, OUT_OF_MEMORY.
   */
  encode(input: Int32Array | readonly number[] | Float32Array): Encoded {
    const { features, outputs } = this.description;
    const isFeatures = input instanceof Float32Array;
    if (isFeatures !== features > 0) {
      throw invalidArgument('input', isFeatures ? 'features' : 'token ids',
        features > 0 ? 'features (a Float32Array)' : 'token ids');
    }
    if (features > 0 && input.length % features !== 0) {
      throw invalidArgument('input', `${input.length} numbers`, `rows of ${features}`);
    }
    const values = isFeatures ? input : this.checkTokens(input);
    const rows = features > 0 ? values.length / features : values.length;
    const { border } = this;
    return border.withMemory(4 * values.length, (at) => {
      if (values instanceof Float32Array) border.floats(at, values.length).set(values);
      else border.ints(at, values.length).set(values);
      const logits = border.checkHandle(border.exports._js_encode(this.handle,
        isFeatures ? 0 : at, isFeatures ? at : 0, rows));
      const outRows = border.numbers(1)[0] as number;
      return { rows: outRows, outputs, logits: border.floats(logits, outRows * outputs).slice() };
    });
  }

  /** The ids as core takes them. Errors: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE. @internal */
  checkTokens(tokens: ArrayLike<number>): Int32Array {
    const { vocabulary } = this.description;
    const ids = Int32Array.from(tokens);
    for (let i = 0; i < ids.length; i++) {
      const token = tokens[i] as number;
      if (!Number.isInteger(token)) throw invalidArgument(`token ${i}`, token, 'an integer');
      if (token === ids[i] && token >= 0 && token < vocabulary) continue;
      throw new OneKVError('TOKEN_OUT_OF_RANGE',
        `token ${i}: found ${token}, expected 0 to ${vocabulary - 1}`);
    }
    return ids;
  }

  /** Destroys its sessions and gives the memory back to the engine. A second call does nothing. */
  destroy(): void {
    if (this.#handle === 0) return;
    for (const session of [...this.#sessions]) session.destroy();
    const { border } = this;
    if (!border.isBroken) border.check(border.exports._onekv_model_close(this.#handle));
    this.#handle = 0;
    this.#engine.disown(this);
  }

  /** @internal */
  own(session: Session): void {
    this.#sessions.add(session);
  }

  /** @internal */
  disown(session: Session): void {
    this.#sessions.delete(session);
  }
}
