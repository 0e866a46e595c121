// The request and response bodies of onekv/openai: the parts of OpenAI's chat completions that a
// local model can honour, under their names.
import type { ResponseConstraint } from '../api/session.js';

export interface TextPart {
  type: 'text';
  text: string;
}

/** arguments: JSON. */
export interface RequestToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

export interface RequestTool {
  type: 'function';
  function: { name: string; description?: string | null | undefined;
    parameters?: object | null | undefined; strict?: boolean | null | undefined };
}

export interface RequestMessage {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  /** null beside tool_calls. */
  content?: string | readonly TextPart[] | null | undefined;
  tool_calls?: readonly RequestToolCall[] | null | undefined;
  /** Of the role 'tool'. */
  tool_call_id?: string | undefined;
  /** Of the role 'assistant': its thoughts, as other local servers have them. */
  reasoning_content?: string | null | undefined;
  name?: string | undefined;
}

export interface JsonSchemaFormat {
  name?: string | undefined;
  schema: object;
  strict?: boolean | undefined;
}

export type ResponseFormat = { type: 'text' } | { type: 'json_object' } |
  { type: 'json_schema'; json_schema: JsonSchemaFormat } |
  /** Not OpenAI's. */
  { type: 'regex'; regex: RegExp };

/** What the requests of chats and of texts have in common. */
export interface SamplingFields {
  /** Any name: there is one model. */
  model?: string | undefined;
  stream?: boolean | null | undefined;
  stream_options?: { include_usage?: boolean | undefined } | null | undefined;
  max_tokens?: number | null | undefined;
  /** Default 1, as OpenAI's. */
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  logit_bias?: Readonly<Record<string, number>> | null | undefined;
  /** Default: another one each time. */
  seed?: number | null | undefined;
  stop?: string | readonly string[] | null | undefined;
  /** Only 1. */
  n?: 1 | null | undefined;
  /** Not OpenAI's, as other local servers have them. */
  top_k?: number | null | undefined;
  min_p?: number | null | undefined;
  repetition_penalty?: number | null | undefined;
}

export interface ChatRequest extends SamplingFields {
  messages: readonly RequestMessage[];
  max_completion_tokens?: number | null | undefined;
  logprobs?: boolean | null | undefined;
  /** 0 to 20. */
  top_logprobs?: number | null | undefined;
  response_format?: ResponseFormat | null | undefined;
  tools?: readonly RequestTool[] | null | undefined;
  tool_choice?: 'none' | 'auto' | 'required' | { type: 'function'; function: { name: string } } |
    null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
  /** Only 'text'. */
  modalities?: readonly string[] | null | undefined;
  /** 'none' and 'minimal': the template is told not to think. */
  reasoning_effort?: string | null | undefined;
  /** Not OpenAI's: variables of the chat template. */
  chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
}

/** Of completions.create. */
export interface TextRequest extends SamplingFields {
  /** Texts and lists of token ids; one or, each with an answer of its own, many. */
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** Default 16, as OpenAI's. */
  max_tokens?: number | null | undefined;
  /** Of each token and of this many likeliest ones, 0 to 5. */
  logprobs?: number | null | undefined;
  /** The text begins with the prompt; not with logprobs. */
  echo?: boolean | null | undefined;
  /** Only 1. */
  best_of?: 1 | null | undefined;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Tokens of the prompt that a session had in its cache already. */
  prompt_tokens_details: { cached_tokens: number };
}

export interface TokenLogprobEntry {
  token: string;
  logprob: number;
  /** UTF-8; null for a token that is a part of a character. */
  bytes: number[] | null;
}

export interface LogprobEntry extends TokenLogprobEntry {
  top_logprobs: TokenLogprobEntry[];
}

export interface ChoiceLogprobs {
  content: LogprobEntry[];
  refusal: null;
}

/** 'length' also stands for a full window. */
export type CompletionFinishReason = 'stop' | 'length' | 'tool_calls';

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  created: number;
  model: string;
  /** Fingerprint of the model's file. */
  system_fingerprint: string;
  choices: {
    index: 0;
    message: { role: 'assistant'; content: string | null; refusal: null;
      /** What the model thought before, as other local servers have it. */
      reasoning_content?: string; tool_calls?: RequestToolCall[] };
    logprobs: ChoiceLogprobs | null;
    finish_reason: CompletionFinishReason;
  }[];
  usage: Usage;
  /** Beyond OpenAI's: what the random numbers began with. */
  seed: number;
}

export interface ChatCompletionChunk {
  id: string;
  object: 'chat.completion.chunk';
  created: number;
  model: string;
  system_fingerprint: string;
  choices: {
    index: 0;
    delta: { role?: 'assistant'; content?: string; reasoning_content?: string;
      tool_calls?: (RequestToolCall & { index: number })[] };
    logprobs: ChoiceLogprobs | null;
    finish_reason: CompletionFinishReason | null;
  }[];
  /** In the last chunk, which has no choices, when stream_options.include_usage asked for it. */
  usage?: Usage | null;
}

/** [tokens] each; text_offset in UTF-16 units of the text. */
export interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
}

/** Whole, or a piece of a stream. */
export interface TextCompletion {
  id: string;
  object: 'text_completion';
  created: number;
  model: string;
  system_fingerprint: string;
  choices: {
    index: number;
    text: string;
    logprobs: TextLogprobs | null;
    finish_reason: 'stop' | 'length' | null;
  }[];
  usage?: Usage | null;
}

/** Of embeddings.create. */
export interface EmbeddingRequest {
  /** Any name: there is one model. */
  model?: string | undefined;
  /** Texts and lists of token ids; one or many, 2048 at most. None is empty. */
  input: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** 'base64': f32 numbers, little-endian; default 'float'. */
  encoding_format?: 'float' | 'base64' | null | undefined;
  /** Only the first so many numbers of a vector, which has length 1 then too. */
  dimensions?: number | null | undefined;
  user?: string | undefined;
}

/** The vectors, of length 1, in the order of the texts. */
export interface EmbeddingResponse<Vector = number[]> {
  object: 'list';
  data: { object: 'embedding'; index: number; embedding: Vector }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
}

export type { ResponseConstraint };
