// The request, items and events of responses.create: the parts of the Open Responses specification
// that a local model can honour.
import type { ChatRequest, JsonSchemaFormat, LogprobEntry } from './openai-types.js';

interface InputTextPart {
  type: 'input_text' | 'output_text' | 'text' | 'reasoning_text' | 'summary_text';
  text: string;
}

/** Of the input: a message; a call, its result and thoughts of earlier answers. */
export interface InputItem {
  /** Default 'message'. */
  type?: 'message' | 'function_call' | 'function_call_output' | 'reasoning' | undefined;
  id?: string | null | undefined;
  status?: string | null | undefined;
  role?: 'system' | 'developer' | 'user' | 'assistant' | undefined;
  content?: string | readonly InputTextPart[] | null | undefined;
  summary?: readonly InputTextPart[] | undefined;
  call_id?: string | undefined;
  name?: string | undefined;
  /** JSON. */
  arguments?: string | undefined;
  output?: string | readonly InputTextPart[] | undefined;
}

export interface FunctionTool {
  type: 'function';
  name: string;
  description?: string | null | undefined;
  parameters?: object | null | undefined;
  strict?: boolean | null | undefined;
}

type TextFormat = { type: 'text' } | { type: 'json_object' } |
  ({ type: 'json_schema' } & JsonSchemaFormat);

type FunctionToolChoice = 'none' | 'auto' | 'required' | { type: 'function'; name: string };

/** The last line of names is not of the specification, as other local servers have them. */
export interface ResponseRequest extends Pick<ChatRequest,
  'seed' | 'top_k' | 'min_p' | 'repetition_penalty' | 'chat_template_kwargs'> {
  input: string | readonly InputItem[];
  model?: string | undefined;
  /** A system message before the input. */
  instructions?: string | null | undefined;
  stream?: boolean | null | undefined;
  tools?: readonly FunctionTool[] | null | undefined;
  tool_choice?: FunctionToolChoice | null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
  max_output_tokens?: number | null | undefined;
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  text?: { format?: TextFormat | null | undefined; verbosity?: string | null | undefined } |
    null | undefined;
  /** effort 'none' and 'minimal': the template is told not to think. */
  reasoning?: { effort?: string | null | undefined; summary?: string | null | undefined } |
    null | undefined;
  /** 'message.output_text.logprobs' is honoured, 'reasoning.encrypted_content' gives none. */
  include?: readonly string[] | null | undefined;
  top_logprobs?: number | null | undefined;
  metadata?: Readonly<Record<string, string>> | null | undefined;
}

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete';

export interface OutputText {
  type: 'output_text';
  text: string;
  annotations: never[];
  logprobs: LogprobEntry[];
}

export interface ReasoningText {
  type: 'reasoning_text';
  text: string;
}

export interface MessageItem {
  type: 'message';
  id: string;
  status: ItemStatus;
  role: 'assistant';
  content: OutputText[];
}

export interface ReasoningItem {
  type: 'reasoning';
  id: string;
  status: ItemStatus;
  summary: never[];
  content: ReasoningText[];
}

export interface FunctionCallItem {
  type: 'function_call';
  id: string;
  status: ItemStatus;
  call_id: string;
  name: string;
  arguments: string;
}

export type OutputItem = MessageItem | ReasoningItem | FunctionCallItem;

export interface ResponseUsage {
  input_tokens: number;
  /** Tokens of the prompt that a session had in its cache already. */
  input_tokens_details: { cached_tokens: number };
  output_tokens: number;
  output_tokens_details: { reasoning_tokens: number };
  total_tokens: number;
}

export interface ResponseObject {
  id: string;
  object: 'response';
  created_at: number;
  completed_at: number | null;
  status: ItemStatus;
  incomplete_details: { reason: 'max_output_tokens' } | null;
  error: null;
  model: string;
  output: OutputItem[];
  usage: ResponseUsage | null;
  /** What the request said, or its defaults. */
  [field: string]: unknown;
}

interface OfItem {
  sequence_number: number;
  output_index: number;
  item_id: string;
}

interface OfContent extends OfItem {
  content_index: 0;
}

export type ResponseStreamEvent =
  | { type: 'response.created' | 'response.in_progress' | 'response.completed' |
    'response.incomplete'; sequence_number: number; response: ResponseObject }
  | { type: 'response.output_item.added' | 'response.output_item.done'; sequence_number: number;
    output_index: number; item: OutputItem }
  | OfContent & { type: 'response.content_part.added' | 'response.content_part.done';
    part: OutputText | ReasoningText }
  | OfContent & { type: 'response.output_text.delta'; delta: string; logprobs: LogprobEntry[] }
  | OfContent & { type: 'response.output_text.done'; text: string; logprobs: LogprobEntry[] }
  | OfContent & { type: 'response.reasoning_text.delta'; delta: string }
  | OfContent & { type: 'response.reasoning_text.done'; text: string }
  | OfItem & { type: 'response.function_call_arguments.delta'; delta: string }
  | OfItem & { type: 'response.function_call_arguments.done'; name: string; arguments: string };
