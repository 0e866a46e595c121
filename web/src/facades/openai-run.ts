// What the answers of onekv/openai have in common: a session of the pool that generates, the
// usage, log probabilities, ids.
//
// A request is checked and its prompt encoded before a session is taken, so that what is wrong with
// it is known before a stream begins; a session goes back when its answer is whole, read or not.
import type { Model } from '../api/model.js';
import type { SamplingOptions } from '../api/sampling.js';
import type { GeneratedPart, Generation, GenerationResult, PromptOptions } from
  '../api/session.js';
import type { SignalOptions } from '../api/options.js';
import type { ToolCall } from '../api/tools.js';
import { checkFields, messagesOf, promptOptionsOf, samplingOf, templateArgumentsOf, toolsOf } from
  './openai-request.js';
import type { ChatRequest, ChoiceLogprobs, CompletionFinishReason, LogprobEntry,
  RequestToolCall, TokenLogprobEntry, Usage } from './openai-types.js';
import type { SessionPool } from './session-pool.js';

/** A model and the sessions of its client. */
export interface Place {
  model: Model;
  pool: SessionPool;
}

export interface Question {
  /** The whole prompt, [tokens]. */
  tokens: readonly number[];
  options: PromptOptions;
  sampling: SamplingOptions;
}

export interface Started {
  generation: Generation;
  usage(result: GenerationResult): Usage;
  /** The session is the pool's again. */
  isBack: Promise<void>;
}

/** Takes a session and begins to answer. */
export async function start({ pool }: Place, { tokens, options, sampling }: Question):
Promise<Started> {
  const { signal } = options;
  const { session, cached } = await pool.take(tokens, signal);
  try {
    await session.setSampling(sampling, { signal });
  } catch (error) {
    await pool.giveBack(session);
    throw error;
  }
  const generation = session.generate({ tokens: tokens.slice(cached) }, options);
  const back = () => pool.giveBack(session);
  const isBack = generation.result.then(back, back);
  const usage = ({ tokens: made }: GenerationResult) => ({
    prompt_tokens: tokens.length,
    completion_tokens: made.length,
    total_tokens: tokens.length + made.length,
    prompt_tokens_details: { cached_tokens: cached },
  });
  return { generation, usage, isBack };
}

/** The question that a chat's request asks. Errors: as createSession and prompt, by the caller's
 * names for the most part (inCallersWords does the rest). */
export async function chatQuestion(model: Model, body: ChatRequest,
  { signal }: SignalOptions): Promise<Question> {
  checkFields(body);
  const tools = toolsOf(body);
  const options = { ...promptOptionsOf(body, tools), signal };
  const tokens = await model.tokenize(messagesOf(body), { signal, tools,
    toolChoice: options.toolChoice, templateArguments: templateArgumentsOf(body),
    atMost: model.contextWindow });
  return { tokens, options, sampling: samplingOf(body) };
}

/** What an answer says of itself. */
export const headOf = (model: Model, kind: string, name: string | undefined) => ({
  id: newId(kind),
  created: seconds(),
  model: name ?? model.name ?? 'onekv',
  system_fingerprint: model.hash,
});

export const seconds = (): number => Math.floor(Date.now() / 1000);

/** Where a page is not secure there is no randomUUID. */
export const newId = (kind: string): string =>
  `${kind}${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;

export function requestCall({ id, name, arguments: given }: ToolCall): RequestToolCall {
  return { id, type: 'function', function: { name, arguments: JSON.stringify(given) } };
}

const finishReasons: Record<GenerationResult['reason'], CompletionFinishReason> = {
  end: 'stop', stop: 'stop', length: 'length', context: 'length',
};

export const finishOf = ({ reason, toolCalls }: GenerationResult): CompletionFinishReason =>
  (toolCalls.length > 0 ? 'tool_calls' : finishReasons[reason]);

/** Log probabilities with the tokens' texts, which are asked for once each. */
export class LogprobWriter {
  readonly #model: Model;
  readonly #texts = new Map<number, string>();
  readonly #encoder = new TextEncoder();

  constructor(model: Model) {
    this.#model = model;
  }

  async write(part: GeneratedPart): Promise<ChoiceLogprobs | null> {
    const { token, logprob, top = [] } = part;
    if (token === undefined || logprob === undefined) return null;
    const entry: LogprobEntry = { ...await this.#entry(token, logprob), top_logprobs: [] };
    for (const { token: id, logprob: value } of top) {
      entry.top_logprobs.push(await this.#entry(id, value));
    }
    return { content: [entry], refusal: null };
  }

  async #entry(id: number, logprob: number): Promise<TokenLogprobEntry> {
    const known = this.#texts.get(id);
    const token = known ?? await this.#model.detokenize([id], { special: true });
    this.#texts.set(id, token);
    return {
      token, logprob, bytes: token.includes('\ufffd') ? null : [...this.#encoder.encode(token)],
    };
  }
}
