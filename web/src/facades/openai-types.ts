// The request and response bodies of onekv/openai: the parts of OpenAI's chat completions that a
// local model can honour, under their names.
import type { ResponseConstraint } from '../api/session.js';

export interface TextPart {
  type: 'text';
  text: string;
}

export interface RequestMessage {
  role: 'system' | 'developer' | 'user' | 'assistant';
  content: string | readonly TextPart[];
  name?: string;
}

export type ResponseFormat = { type: 'text' } | { type: 'json_object' } |
  { type: 'json_schema'; json_schema: { name?: string; schema: object; strict?: boolean } } |
  /** Not OpenAI's. */
  { type: 'regex'; regex: RegExp };

export interface ChatRequest {
  messages: readonly RequestMessage[];
  /** Any name: there is one model. */
  model?: string;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  max_completion_tokens?: number | null;
  max_tokens?: number | null;
  /** Default 1, as OpenAI's. */
  temperature?: number | null;
  top_p?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  logit_bias?: Readonly<Record<string, number>> | null;
  /** Default: another one each time. */
  seed?: number | null;
  stop?: string | readonly string[] | null;
  logprobs?: boolean | null;
  /** 0 to 20. */
  top_logprobs?: number | null;
  response_format?: ResponseFormat | null;
  /** Only 1. */
  n?: 1 | null;
  /** Not OpenAI's, as other local servers have them. */
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
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
export type FinishReason = 'stop' | 'length';

export interface ChatCompletion {
  id: string;
  object: 'chat.completion';
  created: number;
  model: string;
  /** Fingerprint of the model's file. */
  system_fingerprint: string;
  choices: {
    index: 0;
    message: { role: 'assistant'; content: string; refusal: null };
    logprobs: ChoiceLogprobs | null;
    finish_reason: FinishReason;
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
    delta: { role?: 'assistant'; content?: string };
    logprobs: ChoiceLogprobs | null;
    finish_reason: FinishReason | null;
  }[];
  /** In the last chunk, which has no choices, when stream_options.include_usage asked for it. */
  usage?: Usage | null;
}

export type { ResponseConstraint };
