// The package's public types: sessions, their input and what comes out. See api.ts.
import type { Model } from './model.js';
import type { SessionMemory } from './memory.js';
import { signalNames } from './options.js';
import type { ListenerOptions, NamesOf, SignalOptions } from './options.js';
import type { ChatMessage } from './messages.js';
import { samplingNames } from './sampling.js';
import type { SamplingOptions } from './sampling.js';
import type { Tool, ToolCall, ToolChoice, ToolResult } from './tools.js';

export interface SessionOptions extends SamplingOptions, SignalOptions {
  /** The beginning of the conversation; it is never forgotten by a sliding window. */
  initialPrompts?: readonly ChatMessage[] | string | undefined;
  /** Prompts are turns of a chat. Default: if the model has a template. false: a prompt is text
   * (or tokens) that goes on where the session ends. */
  chat?: boolean | undefined;
  /** Window in tokens; default and maximum: the model's. */
  contextWindow?: number | undefined;
  /** Instead of contextWindow: as many tokens as pages of that many bytes hold. */
  contextBytes?: number | undefined;
  /** What a full window does: 'error' (CONTEXT_FULL, default) or 'slide': it forgets the older
   * half of what follows the initial prompts, at the cost of computing the rest anew. A chat
   * forgets whole turns, unless one alone is too long. */
  overflow?: 'error' | 'slide' | undefined;
  /** Tokens of the initial prompts that have been processed. */
  onPrefill?: ((done: number, total: number) => void) | undefined;
  /** What the model may call in its answers. In a chat only. */
  tools?: readonly Tool[] | undefined;
  /** Variables for the chat template: `{ enable_thinking: false }` and others that it knows. */
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
  /** Default 'separate'. */
  reasoning?: ReasoningMode | undefined;
  /** Tokens that the model may think for an answer; then its thoughts are ended for it. Default:
   * any number, or 0 where reasoning is 'off'. */
  reasoningBudget?: number | undefined;
  /** Speculative decoding: 'lookup' guesses that text which was there comes again, as when code is
   * edited, and checks several tokens at a time; with 'model' the one guesses that was loaded for
   * it (LoadOptions.draft). Answers are the same, token for token, with any sampling; where guesses
   * cost time it leaves off. Default 'off'. */
  draft?: DraftMode | undefined;
}

export const draftModes = ['off', 'lookup', 'model'] as const;
export type DraftMode = (typeof draftModes)[number];

export interface RestoreOptions extends SignalOptions {
  /** The functions of the session's tools, by their names: a snapshot has what the model was told
   * of them, and no functions. */
  tools?: readonly Tool[] | undefined;
}

/** @internal */
export const restoreNames: NamesOf<RestoreOptions> = { ...signalNames, tools: true };

/** @internal */
export const sessionNames: NamesOf<SessionOptions> = {
  ...samplingNames, ...signalNames, initialPrompts: true, chat: true, contextWindow: true,
  contextBytes: true, overflow: true, onPrefill: 'function', tools: true, reasoning: true,
  templateArguments: 'object', reasoningBudget: true, draft: true,
};

/** Text; messages of a chat; or token ids, which are taken as they are. */
export type PromptInput = string | readonly ChatMessage[] | { tokens: ArrayLike<number> };

/** What a whole answer is: JSON of a schema (`true`: any JSON), JSON with an object on top, text
 * that matches a regular expression, or one of a Lark grammar. Keys of objects come in the order of
 * the schema's `properties`. */
export type ResponseConstraint =
  true | RegExp | { type: 'json_object' } | { lark: string } | object;

/** A constraint that Model.constrain has looked at; it serves any number of answers. */
export interface Constraint {
  readonly kind: 'json' | 'regex' | 'lark';
  /** The schema's JSON, the expression's source, the grammar. */
  readonly text: string;
}

/** Says before each choice which tokens may come: a rule of the caller's own, asked for each token
 * by a message. One serves one call, which ends with what it throws. */
export interface TokenConstraint {
  /** Bit t % 32 of word t / 32 is token t, [ceil(vocabulary / 32)]; undefined: any token. */
  allowed(): Uint32Array | undefined | Promise<Uint32Array | undefined>;
  /** The token that was chosen. */
  accept(token: number): void | Promise<void>;
}

/** 'separate': a model's thoughts are parts of their own, in `reasoning`, and not in the text.
 * 'include': they are in the text, with their tags. 'off': the template is told `enable_thinking:
 * false`, and where it opens thoughts all the same, or the model does, they are closed at once. */
export const reasoningModes = ['separate', 'include', 'off'] as const;
export type ReasoningMode = (typeof reasoningModes)[number];

export interface AppendOptions extends SignalOptions {
  /** Tokens of the input that have been processed. What it throws ends the call, as an abort does,
   * which then rejects with that. */
  onPrefill?: ((done: number, total: number) => void) | undefined;
}

/** @internal */
export const appendNames: NamesOf<AppendOptions> = { ...signalNames, onPrefill: 'function' };

export interface PromptOptions extends AppendOptions {
  /** Most tokens to generate; default: until the text ends or the window is full. */
  maxTokens?: number | undefined;
  /** Text that ends the answer and is not part of it. */
  stop?: string | readonly string[] | undefined;
  /** Log probabilities with each token, and those of this many likeliest ones. */
  logprobs?: number | undefined;
  /** What the answer must be. Errors, before the first token: INVALID_ARGUMENT, CONSTRAINT_REFUSED
   * (the keyword is named), CONSTRAINT_TOO_COMPLEX. */
  constraint?: ResponseConstraint | Constraint | TokenConstraint | undefined;
  /** For an input of tokens, which tell of these tools already (Model.tokenize): the answer may
   * call them, and thoughts are parts of their own. They are not executed. */
  tools?: readonly Tool[] | undefined;
  /** Default 'auto'. With a constraint there is no call. */
  toolChoice?: ToolChoice | undefined;
  /** false: one call in an answer at most. Default true, where the model's form has it. */
  parallelToolCalls?: boolean | undefined;
  /** In place of the session's. */
  reasoningBudget?: number | undefined;
  /** For this prompt, beside those of the session and before them. */
  templateArguments?: Readonly<Record<string, unknown>> | undefined;
  /** Answers with calls that are executed before the last one is given as it is; default 8. */
  maxToolRounds?: number | undefined;
}

/** @internal */
export const promptNames: NamesOf<PromptOptions> = {
  ...appendNames, maxTokens: true, stop: true, logprobs: true, constraint: true,
  tools: true, toolChoice: true, parallelToolCalls: 'boolean', reasoningBudget: true,
  templateArguments: 'object',
  maxToolRounds: true,
};

export interface TokenLogprob {
  token: number;
  /** Natural logarithm of the probability, before temperature and penalties. */
  logprob: number;
}

export interface GeneratedPart {
  /** 'text': of the answer. 'reasoning': of its thoughts. The others have a text of ''. 'finish':
   * the last part of an answer that was not aborted, after all rounds of tools. */
  type: 'text' | 'reasoning' | 'tool-call' | 'tool-result' | 'finish';
  /** May be '': a character or a stop string may be on its way. */
  text: string;
  toolCall?: ToolCall;
  toolResult?: ToolResult;
  /** With 'finish': what `Generation.result` gives. */
  result?: GenerationResult;
  /** undefined in a last part that holds text which had been held back. */
  token: number | undefined;
  /** With options.logprobs. */
  logprob?: number;
  top?: TokenLogprob[];
}

/** 'end': the model ended the text. 'stop': a stop string came. 'length': maxTokens. 'context':
 * the window is full. */
export type FinishReason = 'end' | 'stop' | 'length' | 'context';

export interface GenerationResult {
  /** Of the last answer, where tools were executed. */
  text: string;
  /** What the model thought before it; '' where it did not, or options.reasoning is 'include'. */
  reasoning: string;
  /** Calls that were not executed: the caller answers with messages of the role 'tool'. */
  toolCalls: ToolCall[];
  tokens: number[];
  reason: FinishReason;
  /** Tokens of the whole prompt, and how many of them were in the cache already. */
  promptTokens: number;
  cachedTokens: number;
  /** Tokens that were guessed (SessionOptions.draft), and how many of them came. */
  draftedTokens: number;
  acceptedTokens: number;
  /** Of the session's random numbers: with it as an option, and the same calls, the text comes
   * again. A bigint beyond 2^53. */
  seed: number | bigint;
  /** Milliseconds, other sessions' turns included. */
  prefillMs: number;
  decodeMs: number;
}

/** An answer as it comes. Leaving the loop early cancels. `result` rejects as the loop does; who
 * takes only the loop need not look at it. */
export interface Generation extends AsyncIterable<GeneratedPart> {
  readonly result: Promise<GenerationResult>;
}

export interface AttentionOptions extends SignalOptions {
  layer: number;
  head: number;
  /** 'keys': the head's keys take the place of its queries, which is all that a Q=K-V model has;
   * default 'own'. */
  queries?: 'own' | 'keys' | undefined;
}

/** @internal */
export const attentionNames: NamesOf<AttentionOptions> = {
  ...signalNames, layer: true, head: true, queries: true,
};

/** How a softmax over a session's own tokens was spread in one head of one layer. */
export interface AttentionMap {
  layer: number;
  head: number;
  /** Rows and columns. */
  tokens: number;
  /** [tokens][tokens]: row i is how token i attends to tokens 0 to i; sums to 1. */
  weights: Float32Array;
  /** [tokens][tokens]: the scores before mask and softmax, of later tokens too. */
  scores: Float32Array;
}

export interface SaveOptions extends SignalOptions {
  /** 'cache' (default): all of it, restored at once; bytes per token as in the cache. 'tokens':
   * 4 bytes per token, computed anew by restore; sampling restarts at its seed. */
  format?: 'cache' | 'tokens' | undefined;
}

/** @internal */
export const saveNames: NamesOf<SaveOptions> = { ...signalNames, format: ['cache', 'tokens'] };

export interface SessionEventMap {
  /** The window slid (after it), or an input did not fit (before CONTEXT_FULL). */
  contextoverflow: Event;
}

/**
 * One conversation. Calls on a session run one after the other, in the order they were made; calls
 * on different sessions run together. A call aborted before its turn did nothing; an answer that
 * was aborted while its input was processed leaves the session as it was, one aborted later leaves
 * the input and what had been generated.
 */
export interface Session {
  readonly model: Model;
  /** Unique for the model. */
  readonly id: number;
  /** Tokens so far. */
  readonly contextUsage: number;
  /** Window in tokens. */
  readonly contextWindow: number;
  /** Bytes that the tokens take in the cache. The last one usually waits for its logits and takes
   * none yet. */
  readonly contextBytes: number;
  /** Messages so far, in a chat. */
  readonly messages: readonly ChatMessage[];
  oncontextoverflow: ((event: Event) => void) | null;

  /** Errors: CONTEXT_FULL, OUT_OF_MEMORY, INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, DESTROYED. */
  prompt(input: PromptInput, options?: PromptOptions): Promise<string>;
  /** The same as a stream of text; cancelling it, or `break` in a loop over it, ends the work. */
  promptStreaming(input: PromptInput,
    options?: PromptOptions): ReadableStream<string> & AsyncIterable<string>;
  /** The same with tokens, log probabilities and the reason why it ended. */
  generate(input: PromptInput, options?: PromptOptions): Generation;
  /** Input without an answer. */
  append(input: PromptInput, options?: AppendOptions): Promise<void>;
  /** Tokens that the input would add. */
  measureContextUsage(input: PromptInput, options?: SignalOptions): Promise<number>;
  /** An independent session with the same past; the cache is shared until one of them writes. */
  clone(options?: SignalOptions): Promise<Session>;
  /** Keeps the first `count` tokens. In a chat, messages that are not whole any more are cut. */
  truncate(count: number, options?: SignalOptions): Promise<void>;
  /** Ids of all tokens. */
  tokens(options?: SignalOptions): Promise<Int32Array>;
  /** New sampling parameters; random numbers restart at their seed. */
  setSampling(sampling: SamplingOptions, options?: SignalOptions): Promise<void>;
  /** While an answer comes it takes that as far as it is, and does not wait for its end: a page
   * that is hidden can save in time. Otherwise it waits for its turn. */
  save(options?: SaveOptions): Promise<Blob>;
  /** At once, whatever runs. */
  memory(options?: SignalOptions): Promise<SessionMemory>;
  /** Computed anew for this call, in time and bytes of tokens²; at most 2048 tokens. */
  attention(options: AttentionOptions): Promise<AttentionMap>;
  /** Cancels what runs or waits (it rejects with DESTROYED) and gives the pages back. */
  destroy(): Promise<void>;

  addEventListener<K extends keyof SessionEventMap>(type: K,
    listener: (event: SessionEventMap[K]) => void, options?: ListenerOptions): void;
  removeEventListener<K extends keyof SessionEventMap>(type: K,
    listener: (event: SessionEventMap[K]) => void): void;
}

/** Many sessions, one call. Inputs: one for all, or one for each. */
export interface SessionBatch {
  /** All answers. The first error cancels the others. */
  prompt(input: PromptInput | readonly PromptInput[], options?: PromptOptions): Promise<string[]>;
  /** Parts of all answers as they come, each with its session's place in the batch. */
  promptStreaming(input: PromptInput | readonly PromptInput[], options?: PromptOptions):
    AsyncIterable<GeneratedPart & { index: number }>;
}
