// All that page and worker say to each other, typed. Values are what structured clone takes.
//
//   page → worker    call, abort, allowed                one message each
//   worker → page    result, error, aborted, notice, memory    an array of them a message
//
// A call has an id, gets any number of notices and exactly one result, error or `aborted`. Calls on
// one session are worked off in their order; everything else runs as it comes. The worker checks
// all that it is sent: whatever is wrong with a message is answered by an error, or, when it has
// no id to answer to, dropped.
import type { OwnBytes } from '../api/bytes.js';
import type { EngineReport, Vocabulary } from '../api/model.js';
import type { CacheCost, MemoryReport, SessionMemory } from '../api/memory.js';
import type { EmbedOptions, Embeddings } from '../api/embed.js';
import type { Classification, Pixels } from '../api/image.js';
import type { Estimate } from '../api/load.js';
import type { ChatMessage } from '../api/messages.js';
import type { Arithmetic, CacheType, ModelDescription, SimdLevel } from '../api/description.js';
import type { SamplingOptions } from '../api/sampling.js';
import type { AttentionMap, DraftMode, GeneratedPart, GenerationResult, ReasoningMode } from
  '../api/session.js';
import type { ToolChoice, ToolDeclaration } from '../api/tools.js';
import type { ErrorCode } from '../api/errors.js';
import type { PlainGrammar } from '../api/grammar.js';
import type { AccessOptions } from '../api/source.js';

/** Where the bytes of a file are: an address (in Node a path too), or the bytes, or a port that
 * speaks StreamAsk and StreamPart. */
export type WirePart = string | Blob | Uint8Array | { port: MessagePort; name: string };
/** A model, in one file or in several. */
export type WireSource = WirePart | readonly WirePart[];

/** On the port of a stream: the worker asks for the next piece… */
export type StreamAsk = 'pull' | 'cancel';
/** …and the page answers. */
export type StreamPart = { chunk: Uint8Array } | { done: true } | { error: string };

/** A page's own store: a port that speaks CallAsk and CallAnswer, of the methods of
 * ModelStore. */
export type WireStore = 'auto' | 'opfs' | 'cache-api' | 'none' |
  { port: MessagePort; hasPaths?: boolean };

/** On the port of a store or of functions: which one is called… */
export interface CallAsk {
  id: number;
  method: string;
  args: readonly unknown[];
}
/** …and what it gave. */
export interface CallAnswer {
  id: number;
  value?: unknown;
  /** The error's message and name. */
  error?: string;
  name?: string;
}

/** How the source is asked for (api/source.ts); its functions are called through a port, which
 * speaks CallAsk and CallAnswer. */
export type WireAccess = Omit<AccessOptions, 'fetch' | 'refresh'> &
  { functions?: readonly ('fetch' | 'refresh')[]; port?: MessagePort };

export type WireInput = { text: string } | { messages: readonly ChatMessage[] } |
  { tokens: Int32Array };

export interface WireModelOptions {
  cacheType?: CacheType | undefined;
  arithmetic?: Arithmetic | undefined;
  contextWindow?: number | undefined;
  batch?: number | undefined;
  store?: WireStore | undefined;
  integrity?: string | undefined;
  key?: string | undefined;
  access?: WireAccess | undefined;
  /** Of the page's SharedFiles (wire/shared.ts). */
  shared?: MessagePort | undefined;
  /** The number of the first session; default 1. */
  firstSession?: number | undefined;
}

interface WireSessionOptions extends SamplingOptions {
  initial?: WireInput | undefined;
  chat?: boolean | undefined;
  contextWindow?: number | undefined;
  contextBytes?: number | undefined;
  overflow?: 'error' | 'slide' | undefined;
  tools?: readonly ToolDeclaration[] | undefined;
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
  reasoning?: ReasoningMode | undefined;
  reasoningBudget?: number | undefined;
  draft?: DraftMode | undefined;
}

/** What a chat template is told beside messages. */
interface WireChatOptions {
  tools?: readonly ToolDeclaration[] | undefined;
  toolChoice?: ToolChoice | undefined;
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
}

export interface WireGenerateOptions {
  maxTokens?: number | undefined;
  stop?: readonly string[] | undefined;
  logprobs?: number | undefined;
  /** A grammar that the worker goes by. */
  grammar?: PlainGrammar | undefined;
  /** The worker asks before each choice (notice `ask`) and is answered by `allowed`. */
  constrained?: boolean | undefined;
  tools?: readonly ToolDeclaration[] | undefined;
  toolChoice?: ToolChoice | undefined;
  parallelToolCalls?: boolean | undefined;
  reasoningBudget?: number | undefined;
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
}

/** How a session stands. */
export interface SessionState {
  id: number;
  /** Tokens so far. */
  length: number;
  /** Of their rows in the cache. */
  bytes: number;
  contextWindow: number;
  chat: boolean;
  /** How often the window has slid. */
  slides: number;
  messages: readonly ChatMessage[];
}

export interface LoadedModel {
  description: ModelDescription;
  name: string | undefined;
  labels: readonly string[] | undefined;
  hash: string;
  cacheType: CacheType;
  contextWindow: number;
  /** Of one token, and of contextWindow tokens. */
  perToken: CacheCost;
  fullContext: CacheCost;
  pageTokens: number;
  hasChatTemplate: boolean;
  /** That its steps use: the engine's, or fewer that were found to be faster. */
  threads: number;
  /** What went less well than it could: the model was not stored. */
  notes: readonly string[];
}

type OfSession<Args = object> = { session: number } & Args;

/** Every call: what goes in and what comes out. */
interface Calls {
  /** First of all: starts the module. */
  open: {
    args: { simd?: 'auto' | SimdLevel | undefined; threads?: 'auto' | number | undefined;
      wasmUrl?: string | undefined; lock?: string | undefined };
    result: EngineReport & { memoryBytesMax: number };
  };
  /** Notices: progress. Once, after open. */
  load: {
    args: { source: WireSource; draft?: WireSource | undefined; options: WireModelOptions };
    result: LoadedModel;
  };
  estimate: {
    args: { source: WireSource; options: WireModelOptions };
    /** sizes: of contexts of growing length, the whole one last. */
    result: Omit<Estimate, 'contextFor' | 'bytesPerToken' | 'standardBytesPerToken'> &
      { perToken: CacheCost; sizes: { tokens: number; used: number }[] };
  };
  memory: { args: object; result: MemoryReport };
  /** While on, memory messages come. */
  watchMemory: { args: { on: boolean }; result: undefined };
  trim: { args: object; result: undefined };
  /** Text, or messages as the whole prompt for an answer. */
  tokenize: { args: { input: WireInput; special: boolean; begin?: boolean | undefined;
    atMost?: number | undefined; options?: WireChatOptions | undefined };
    result: number[] };
  detokenize: { args: { tokens: Int32Array; special: boolean }; result: string };
  vocabulary: { args: object; result: Vocabulary };
  /** Whether a grammar can be honoured and begin. */
  constrain: { args: { grammar: PlainGrammar }; result: undefined };
  embed: { args: { texts: readonly (string | Int32Array)[] } & Omit<EmbedOptions, 'signal'>;
    result: Embeddings };
  classify: { args: Pixels; result: Classification };
  /** Notices: prefill. */
  createSession: { args: WireSessionOptions; result: SessionState };
  /** Notices: prefill. `as`: the number that the session had. */
  restore: { args: { bytes: Uint8Array; as?: number | undefined }; result: SessionState };
  /** Notices: prefill, part, ask. */
  generate: {
    args: OfSession<{ input: WireInput; options: WireGenerateOptions }>;
    result: GenerationResult & { state: SessionState };
  };
  /** Notices: prefill. */
  append: { args: OfSession<{ input: WireInput }>; result: SessionState };
  measure: { args: OfSession<{ input: WireInput }>; result: number };
  clone: { args: OfSession; result: SessionState };
  truncate: { args: OfSession<{ count: number }>; result: SessionState };
  tokens: { args: OfSession; result: Int32Array };
  setSampling: { args: OfSession<{ sampling: SamplingOptions }>; result: undefined };
  save: { args: OfSession<{ format: 'cache' | 'tokens' }>; result: OwnBytes };
  sessionMemory: { args: OfSession; result: SessionMemory };
  attention: {
    args: OfSession<{ layer: number; head: number; queries?: 'own' | 'keys' | undefined }>;
    result: AttentionMap;
  };
  destroy: { args: OfSession; result: undefined };
}

export type CallName = keyof Calls;
export type Args<N extends CallName> = Calls[N]['args'];
export type Result<N extends CallName> = Calls[N]['result'];

export type CallMessage = {
  [N in CallName]: { kind: 'call'; id: number; name: N; args: Args<N> }
}[CallName];

export type ToWorker = CallMessage |
  { kind: 'abort'; id: number } |
  /** Answer to the notice `ask` of call `id`; no mask: any token. */
  { kind: 'allowed'; id: number; mask?: Uint32Array | undefined };

export type Notice =
  | { type: 'progress'; loaded: number; total: number; source: string }
  | { type: 'prefill'; done: number; total: number }
  | { type: 'part'; part: GeneratedPart; length: number; bytes: number; slides: number }
  /** Which tokens may come next? */
  | { type: 'ask' };

export type FromWorker =
  | { kind: 'result'; id: number; result: unknown }
  | { kind: 'error'; id: number; code: ErrorCode; message: string; state?: SessionState }
  | { kind: 'aborted'; id: number; state?: SessionState }
  | { kind: 'notice'; id: number; notice: Notice }
  | { kind: 'memory'; memory: MemoryReport };

// -- Inside the worker --

/** A call that is being worked on. */
export interface CallContext {
  signal: AbortSignal;
  notice(notice: Notice): void;
  /** The page's constraint: bits of the tokens that may come next; undefined: any. */
  ask(): Promise<Uint32Array | undefined>;
}

export type Handlers<Names extends CallName = CallName> = {
  [N in Names]: (args: Args<N>, call: CallContext) => Result<N> | Promise<Result<N>>
};
