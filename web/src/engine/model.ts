// Model: an immutable set of weights with its sessions. One call at a time on a model and its
// sessions: they share working memory.
import type { Vocabulary } from '../api/model.js';
import { memoryFields } from './bindings.js';
import type { Bindings, Row } from './bindings.js';
import { ChatTemplate } from '../text/chat-template.js';
import { CacheCounter } from './cache-bytes.js';
import type { CacheType, ModelDescription } from '../api/description.js';
import type { Pooling } from '../api/embed.js';
import { poolings } from './description.js';
import type { ModelEstimate } from './loader.js';
import type { ImageShape } from '../api/image.js';
import type { Engine } from './engine.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import { Session } from './session.js';
import type { Guesser, SessionOptions } from './session.js';
import { advanceEach, appendEach } from './step.js';
import type { AdvanceOptions, AdvanceOutcome, AdvanceRequest, AppendRequest,
  Choice } from './step.js';
import type { TextKeys } from '../text/keys.js';
import { Tokenizer } from '../text/tokenizer.js';

/** Bytes by kind. `total` is their sum: exactly what core holds; `heap` is the whole wasm memory
 * of the engine. cacheUsed and cachePooled are parts of cache; openSessions is a number. */
export type ModelMemory = Row<typeof memoryFields> & { heap: number };

/** Tokens of an attention map: twice 16 MiB of numbers. */
const mapTokensMax = 2048;

/** A row of logits per position, or one row, of a bidirectional model. */
export interface Encoded {
  rows: number;
  outputs: number;
  /** [rows][outputs], the caller's own. */
  logits: Float32Array;
}

/** @internal */
export interface ModelParts {
  description: ModelDescription;
  estimate: ModelEstimate;
  /** The file that rows are read from: its number in the bindings; 0: none. */
  file: number;
  textKeys: TextKeys | undefined;
  name: string | undefined;
  labels: string[] | undefined;
  image: ImageShape | undefined;
  batch: number;
  cacheType: CacheType;
  contextWindow: number;
}

export class Model {
  readonly description: ModelDescription;
  /** general.name of the file. */
  readonly name: string | undefined;
  /** Names of the outputs, where they are classes. */
  readonly labels: readonly string[] | undefined;
  /** What images the model takes, if it takes any. */
  readonly image: ImageShape | undefined;
  readonly estimate: ModelEstimate;
  readonly cacheType: CacheType;
  /** Bytes of the cache, of any number of tokens. */
  readonly cache: CacheCounter;
  readonly engine: Engine;
  readonly #batch: number;
  readonly #file: number;
  /** Longest session in tokens: the file's, or what ModelOptions.contextWindow made of it. */
  readonly contextWindow: number;
  readonly #textKeys: TextKeys | undefined;
  readonly #sessions = new Set<Session>();
  #tokenizer: Tokenizer | undefined;
  #template: ChatTemplate | undefined;
  #handle: number;
  #threads: number;

  /** @internal */
  constructor(engine: Engine, handle: number, parts: ModelParts) {
    this.engine = engine;
    this.#handle = handle;
    this.#threads = engine.threads;
    this.description = parts.description;
    this.estimate = parts.estimate;
    this.name = parts.name;
    this.labels = parts.labels;
    this.image = parts.image;
    this.#textKeys = parts.textKeys;
    this.cacheType = parts.cacheType;
    this.cache = new CacheCounter(engine.bindings,
      () => this.bindings.exports._onekv_model_config(this.handle),
      () => this.description.queryHeads, parts.cacheType);
    this.#batch = parts.batch;
    this.#file = parts.file;
    this.contextWindow = parts.contextWindow;
    engine.own(this);
  }

  /** @internal */
  get bindings(): Bindings {
    return this.engine.bindings;
  }

  /** Its address; refuses when destroyed. @internal */
  get handle(): number {
    if (this.#handle === 0) throw new OneKVError('DESTROYED', 'the model was destroyed');
    return this.#handle;
  }

  /** A fingerprint of the file's bytes, 16 hexadecimal digits. Snapshots are bound to it. */
  get hash(): string {
    const hash = this.bindings.exports._onekv_model_hash(this.handle);
    return BigInt.asUintN(64, hash).toString(16).padStart(16, '0');
  }

  /** Kernels in use: 'simd128' or 'relaxed'. */
  get level(): string {
    return this.bindings.text(this.bindings.exports._onekv_model_level(this.handle));
  }

  /** Most threads that its steps use. With threads 'auto' loading measures which is fastest. */
  get threads(): number {
    return this.#threads;
  }

  /** Error: INVALID_ARGUMENT when the engine has fewer. */
  useThreads(threads: number): void {
    this.#threads = checkInteger('threads', threads, 1, this.engine.threads);
    this.bindings.exports._onekv_model_use_threads(this.handle, threads);
  }

  /** Built at first use. Error: UNSUPPORTED_TOKENIZER. */
  get tokenizer(): Tokenizer {
    this.#tokenizer ??= new Tokenizer(this.#textKeys);
    return this.#tokenizer;
  }

  get hasChatTemplate(): boolean {
    return this.#textKeys?.chatTemplate !== undefined;
  }

  /** Tokens as the file writes them, and the kind of their encoding. Error:
   * UNSUPPORTED_TOKENIZER. */
  get vocabulary(): Vocabulary {
    const { ends, size } = this.tokenizer;
    const controls = Array.from({ length: size }, (_, id) => id)
      .filter((id) => this.tokenizer.isControl(id) || ends.has(id));
    return { kind: this.#textKeys?.model ?? '', tokens: this.#textKeys?.tokens ?? [],
      ends: [...ends], controls };
  }

  /** What token ids stand for, as far as the file says. @internal */
  get tokenTexts(): { size: number; kind: string | undefined; tokens: readonly string[] } {
    const { model: kind, tokens = [] } = this.#textKeys ?? {};
    return { size: this.description.vocabulary, kind, tokens };
  }

  /** Built at first use. Errors: NO_CHAT_TEMPLATE, BAD_CHAT_TEMPLATE. */
  get chatTemplate(): ChatTemplate {
    this.#template ??= new ChatTemplate(this.#textKeys);
    return this.#template;
  }

  memory(): ModelMemory {
    const { bindings } = this;
    bindings.exports._js_model_memory(this.handle);
    return { ...bindings.row(memoryFields), heap: bindings.memoryBytes };
  }

  /** Gives cache pages that no session uses back to the engine's memory, for other models. */
  trim(): void {
    this.bindings.exports._onekv_model_trim(this.handle);
  }

  /** Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, WRONG_STATE (a bidirectional model). */
  openSession(options: SessionOptions = {}): Session {
    return Session.open(this, options);
  }

  /** The session that Session.save gave as bytes, which may come from anywhere. They do not tell
   * whether it drafts.
   * Errors: SNAPSHOT_REFUSED, OUT_OF_MEMORY. */
  restoreSession(bytes: Uint8Array, draft: Guesser = 'off'): Session {
    return Session.restore(this, bytes, draft);
  }

  /**
   * Chooses the next token of each session and appends it, all sessions in as few steps as
   * options.batch of the model allows. Errors: INVALID_ARGUMENT (a session twice, of another
   * model, or without tokens), CONTEXT_FULL, OUT_OF_MEMORY, NOT_FINITE; then the other sessions
   * may have advanced.
   */
  advance(sessions: readonly Session[], options: AdvanceOptions = {}): Choice[] {
    return this.advanceEach(sessions.map((session) => ({ session, options }))).map((outcome) => {
      if ('error' in outcome) throw outcome.error;
      return outcome.choice;
    });
  }

  /**
   * Appends tokens to each session, all in as few steps as core allows. Gives what went wrong for
   * each, undefined for those that have the tokens now. Error: INVALID_ARGUMENT (a session twice
   * or of another model).
   */
  appendEach(requests: readonly AppendRequest[]): unknown[] {
    return appendEach(this, requests);
  }

  /**
   * As advance, with options for each session, and what went wrong for each: the failure of one
   * does not keep the others. Error: INVALID_ARGUMENT (a session twice or of another model).
   */
  advanceEach(requests: readonly AdvanceRequest[]): AdvanceOutcome[] {
    return advanceEach(this, this.#batch, requests);
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
    const { bindings } = this;
    return bindings.withMemory(4 * values.length, (at) => {
      if (values instanceof Float32Array) bindings.floats(at, values.length).set(values);
      else bindings.ints(at, values.length).set(values);
      const logits = bindings.checkHandle(bindings.exports._js_encode(this.handle,
        isFeatures ? 0 : at, isFeatures ? at : 0, rows));
      const outRows = bindings.numbers(1)[0] as number;
      return { rows: outRows, outputs, logits: bindings.floats(logits, outRows * outputs).slice() };
    });
  }

  /**
   * The pooled rows of one text, [embedding] and not normalised; the caller's own. Default: the
   * file's pooling. Errors: INVALID_ARGUMENT (no tokens), TOKEN_OUT_OF_RANGE,
   * CONTEXT_FULL, OUT_OF_MEMORY.
   */
  embed(tokens: ArrayLike<number>, pooling: Pooling = this.description.pooling): Float32Array {
    const ids = this.checkTokens(tokens);
    const { bindings, description: { embedding } } = this;
    return bindings.withMemory(4 * (ids.length + embedding), (at) => {
      const vectorAt = at + 4 * ids.length;
      bindings.ints(at, ids.length).set(ids);
      bindings.check(bindings.exports._js_embed(this.handle, at, ids.length,
        1 + poolings.indexOf(pooling), vectorAt));
      return bindings.floats(vectorAt, embedding).slice();
    });
  }

  /**
   * How each of the tokens attends to those up to itself in one head of one layer of a causal
   * model: weights [tokens][tokens], whose rows sum to 1, and the scores that they come from,
   * before the mask. keysAsQueries: the keys take the queries' place. Errors: WRONG_STATE,
   * INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, OUT_OF_MEMORY.
   */
  attentionMap(tokens: ArrayLike<number>, layer: number, head: number,
    keysAsQueries = false): { weights: Float32Array; scores: Float32Array } {
    const { layers, queryHeads } = this.description;
    checkInteger('layer', layer, 0, layers - 1);
    checkInteger('head', head, 0, queryHeads - 1);
    const ids = this.checkTokens(tokens);
    checkInteger('tokens', ids.length, 1, mapTokensMax);
    const { bindings } = this;
    const count = ids.length;
    const square = count * count;
    return bindings.withMemory(4 * (count + 2 * square), (at) => {
      const scoresAt = at + 4 * count;
      bindings.ints(at, count).set(ids);
      bindings.check(bindings.exports._js_attention_map(this.handle, at, count, layer, head,
        keysAsQueries ? 1 : 0, scoresAt));
      return {
        scores: bindings.floats(scoresAt, square).slice(),
        weights: bindings.floats(scoresAt + 4 * square, square).slice(),
      };
    });
  }

  /** The ids as core takes them. Errors: INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE. @internal */
  checkTokens(tokens: ArrayLike<number>): Int32Array {
    const { vocabulary } = this.description;
    if (typeof tokens !== 'object' || !(tokens?.length < 2 ** 31)) {
      throw invalidArgument('tokens', tokens, 'a list of token ids');
    }
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
    const { bindings } = this;
    if (!bindings.isBroken) bindings.check(bindings.exports._onekv_model_close(this.#handle));
    this.#handle = 0;
    bindings.forgetFile(this.#file);
    this.engine.disown(this);
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
