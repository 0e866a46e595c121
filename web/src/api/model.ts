// The package's public types: what a page sees of models and sessions that live in a worker.
//
// Shape and names follow the browsers' Prompt API; what it lacks (bytes, snapshots, tokens) is
// added. Every call that waits takes an AbortSignal and rejects with its reason when it is
// aborted; every other failure is a OneKVError with a code. Properties are the state after the
// last call that was awaited. Sessions are in session.ts,
// loading is in load.ts.
import type { EmbedInput, EmbedOptions, Embeddings } from './embed.js';
import type { Classification, ImageInput } from './image.js';
import type { CacheCost, MemoryEvent, MemoryReport, StandardBytes } from './memory.js';
import { signalNames } from './options.js';
import type { ListenerOptions, NamesOf, SignalOptions } from './options.js';
import type { Constraint, ResponseConstraint, RestoreOptions, Session, SessionBatch,
  SessionOptions } from './session.js';
import type { ChatMessage } from './messages.js';
import type { Tool, ToolChoice } from './tools.js';
import type { CacheType, ModelDescription, SimdLevel } from './description.js';

/** What runs the model, and why it is not better. */
export interface EngineReport {
  simd: SimdLevel;
  /** That steps use. With 'auto' loading measures whether fewer than there are are faster. */
  threads: number;
  isolated: boolean;
  /** One line for each thing that is less than it could be. */
  notes: readonly string[];
}

export interface ModelEventMap {
  /** While anything runs, at most every 50 ms, and after each call that changed something. Costs
   * nothing without listeners. */
  memory: MemoryEvent;
  /** The worker ended or broke down: everything pending was rejected, nothing works any more. */
  lost: Event;
}

/** Of tokenize and detokenize. */
export interface TokenizeOptions extends SignalOptions {
  /** Text of control tokens stands for them; default false: it is plain text, and not shown. */
  special?: boolean | undefined;
  /** Of plain text: it begins as the file says that texts do; default false. */
  begin?: boolean | undefined;
  /** Of messages: as in SessionOptions and PromptOptions. */
  tools?: readonly Tool[] | undefined;
  toolChoice?: ToolChoice | undefined;
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
  /** A text that by its length alone has more tokens than this, and a longer list of messages, are
   * refused before the work (CONTEXT_FULL); default: none. */
  atMost?: number | undefined;
}

/** @internal */
export const tokenizeNames: NamesOf<TokenizeOptions> = { ...signalNames, special: 'boolean',
  begin: 'boolean', tools: true, toolChoice: true, templateArguments: 'object', atMost: true };

/** What a grammar library needs to know. */
export interface Vocabulary {
  /** 'gpt2': byte-level BPE. 'llama': SentencePiece. */
  kind: string;
  /** As the file writes them. */
  tokens: readonly string[];
  /** Tokens that end a text or turn. */
  ends: readonly number[];
  /** Tokens that stand for no text, such as turn marks; the ends among them. */
  controls: readonly number[];
}

export interface Model {
  readonly description: ModelDescription;
  /** general.name of the file. */
  readonly name: string | undefined;
  /** Names of the outputs, where they are classes. */
  readonly labels: readonly string[] | undefined;
  /** Fingerprint of the file's bytes, 16 hexadecimal digits. */
  readonly hash: string;
  readonly engine: EngineReport;
  readonly cacheType: CacheType;
  /** Longest session, in tokens. */
  readonly contextWindow: number;
  /** Cache bytes of one token, and in standard attention. Of many tokens: fullContext, or
   * SessionMemory.used; not every kind of model takes so many times as much. */
  readonly bytesPerToken: number;
  readonly standardBytesPerToken: StandardBytes;
  /** The cache of contextWindow tokens. */
  readonly fullContext: CacheCost;
  /** Tokens that a page of the cache holds; memory is taken page by page. */
  readonly pageTokens: number;
  /** Prompts are turns of a chat, unless createSession is told otherwise. */
  readonly hasChatTemplate: boolean;
  /** false after unload, after the worker was lost, and while `unloadAfter` of load has unloaded
   * it: then the next call loads it again. */
  readonly isLoaded: boolean;

  /** Errors: INVALID_ARGUMENT, CONTEXT_FULL (initialPrompts), OUT_OF_MEMORY, WRONG_STATE (a
   * bidirectional model: embed and classify are its calls). */
  createSession(options?: SessionOptions): Promise<Session>;
  /** The session that Session.save gave, here or elsewhere. A Response is read: a prefix pack is
   * restored by `model.restore(await fetch(url))`. Errors: SNAPSHOT_REFUSED, OUT_OF_MEMORY. */
  restore(snapshot: Blob | ArrayBuffer | Uint8Array | Response,
    options?: RestoreOptions): Promise<Session>;
  /** Prompts for many sessions at once. (Any sessions of a model that generate at the same time
   * advance together, at most options.batch of load in a step.) */
  batch(sessions: readonly Session[]): SessionBatch;
  memory(options?: SignalOptions): Promise<MemoryReport>;
  /** Gives cache pages that no session uses back to the worker's memory. */
  trim(options?: SignalOptions): Promise<void>;
  /** Ids of plain text, without a beginning-of-text token; or of messages of a chat, as the whole
   * prompt for an answer. Errors: NO_CHAT_TEMPLATE, BAD_CHAT_TEMPLATE, INVALID_ARGUMENT. */
  tokenize(input: string | readonly ChatMessage[], options?: TokenizeOptions): Promise<number[]>;
  detokenize(tokens: Iterable<number>,
    options?: TokenizeOptions): Promise<string>;
  /** Looks at a constraint before it is used: what cannot be honoured, or could not begin, fails
   * here. The first one fetches the grammar module (0.5 MB gzipped). Errors: INVALID_ARGUMENT,
   * CONSTRAINT_REFUSED, CONSTRAINT_TOO_COMPLEX, UNSUPPORTED_TOKENIZER, WASM_FAILED. */
  constrain(constraint: ResponseConstraint, options?: SignalOptions): Promise<Constraint>;
  vocabulary(options?: SignalOptions): Promise<Vocabulary>;
  /** Text embeddings: of an encoder such as MiniLM, bge or e5, or of any other model of text. A
   * text begins and ends as the file says. Texts are worked off one after the other, and between
   * two of them an abort is heard and sessions go on. Errors: INVALID_ARGUMENT (an empty text),
   * CONTEXT_FULL (one that is longer than contextWindow; see truncate), NOT_FINITE,
   * UNSUPPORTED_TOKENIZER, OUT_OF_MEMORY, WRONG_STATE (a vision model). */
  embed(texts: string | readonly EmbedInput[], options?: EmbedOptions): Promise<Embeddings>;
  /** The class of an image, for vision models; the image is scaled to the model's size.
   * Errors: WRONG_STATE (no vision model), INVALID_ARGUMENT. */
  classify(image: ImageInput, options?: SignalOptions): Promise<Classification>;
  /** Ends the worker: pending calls reject with DESTROYED and all memory is given back. */
  unload(): Promise<void>;

  addEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void, options?: ListenerOptions): void;
  removeEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void): void;
}
