// The parts of @ai-sdk/provider's language and embedding models, version 4, that a local model has
// to do with.
// Their shapes, so that this package needs none of it; tests/package/clients holds them against
// the real ones.

/** By the provider's name; what is read is `onekv`. */
type ProviderOptions = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export interface PromptPart {
  type: string;
  text?: string;
  toolCallId?: string;
  toolName?: string;
  input?: unknown;
  output?: { type: string; value?: unknown; reason?: string };
}

export interface PromptMessage {
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string | readonly PromptPart[];
}

interface CallTool {
  type: string;
  name: string;
  description?: string | undefined;
  inputSchema?: object | undefined;
}

export interface CallOptions {
  prompt: readonly PromptMessage[];
  maxOutputTokens?: number | undefined;
  temperature?: number | undefined;
  stopSequences?: readonly string[] | undefined;
  topP?: number | undefined;
  topK?: number | undefined;
  presencePenalty?: number | undefined;
  frequencyPenalty?: number | undefined;
  responseFormat?: { type: 'text' } | { type: 'json'; schema?: object | boolean | undefined } |
    undefined;
  seed?: number | undefined;
  tools?: readonly CallTool[] | undefined;
  toolChoice?: { type: 'auto' | 'none' | 'required' } | { type: 'tool'; toolName: string } |
    undefined;
  abortSignal?: AbortSignal | undefined;
  /** 'none' and 'minimal': no thoughts. */
  reasoning?: string | undefined;
  providerOptions?: ProviderOptions | undefined;
}

export type Warning = { type: 'unsupported'; feature: string; details?: string };

export interface Usage {
  inputTokens: { total: number; noCache: number; cacheRead: number; cacheWrite: undefined };
  outputTokens: { total: number; text: number; reasoning: number };
}

export interface Finish {
  unified: 'stop' | 'length' | 'tool-calls';
  /** GenerationResult.reason. */
  raw: string;
}

interface ToolCallContent {
  type: 'tool-call';
  toolCallId: string;
  toolName: string;
  /** JSON. */
  input: string;
}

export type Content = { type: 'text' | 'reasoning'; text: string } | ToolCallContent;

export interface ResponseMetadata {
  id: string;
  timestamp: Date;
  modelId: string;
}

export interface GenerateResult {
  content: Content[];
  finishReason: Finish;
  usage: Usage;
  response: ResponseMetadata;
  warnings: Warning[];
}

export type StreamPart =
  | { type: 'stream-start'; warnings: Warning[] }
  | { type: 'response-metadata' } & ResponseMetadata
  | { type: 'text-start' | 'text-end' | 'reasoning-start' | 'reasoning-end'; id: string }
  | { type: 'text-delta' | 'reasoning-delta'; id: string; delta: string }
  | { type: 'tool-input-start'; id: string; toolName: string }
  | { type: 'tool-input-delta'; id: string; delta: string }
  | { type: 'tool-input-end'; id: string }
  | ToolCallContent
  | { type: 'finish'; usage: Usage; finishReason: Finish }
  | { type: 'error'; error: unknown };

export interface EmbeddingCallOptions {
  values: readonly string[];
  /** Only the first so many numbers of a vector. */
  dimensions?: number | undefined;
  abortSignal?: AbortSignal | undefined;
  /** onekv: { pooling, truncate }, as in EmbedOptions. */
  providerOptions?: ProviderOptions | undefined;
}

export interface EmbeddingModel {
  readonly specificationVersion: 'v4';
  readonly provider: string;
  readonly modelId: string;
  readonly maxEmbeddingsPerCall: number;
  readonly supportsParallelCalls: boolean;
  doEmbed(options: EmbeddingCallOptions): Promise<{ embeddings: number[][];
    usage: { tokens: number }; warnings: Warning[] }>;
}

export interface LanguageModel {
  readonly specificationVersion: 'v4';
  readonly provider: string;
  readonly modelId: string;
  readonly supportedUrls: Record<string, RegExp[]>;
  doGenerate(options: CallOptions): Promise<GenerateResult>;
  doStream(options: CallOptions): Promise<{ stream: ReadableStream<StreamPart> }>;
}
