// How the next token is chosen.
import type { NamesOf } from './options.js';

export type SamplerOrder = 'temperature-first' | 'temperature-last';

/** Everything has a default, and the defaults are greedy decoding without penalties. */
export interface SamplingOptions {
  /** 0 (default): always the likeliest token; above: the higher the more varied. */
  temperature?: number | undefined;
  /** Only the k likeliest tokens; 0 (default): all. */
  topK?: number | undefined;
  /** Only the smallest set of likeliest tokens that has this probability; 0 or 1 (default): all. */
  topP?: number | undefined;
  /** Only tokens of at least this share of the likeliest token's probability; default 0: all. */
  minP?: number | undefined;
  /** Divides positive and multiplies negative logits of tokens seen; 0 or 1 (default): none. */
  repetitionPenalty?: number | undefined;
  /** Subtracted once from the logit of a token seen; default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted for each time a token was seen; default 0. */
  frequencyPenalty?: number | undefined;
  /** "Seen" means among this many last tokens, at most 256; default 0 stands for 64. */
  penaltyWindow?: number | undefined;
  /** Added to the logits of these token ids, at most 64 of them; -Infinity forbids a token. */
  logitBias?: ReadonlyMap<number, number> | Readonly<Record<number, number>> | undefined;
  /** When temperature comes in: before the likeliest tokens are cut out by topK, topP and minP, as
   * in Hugging Face Transformers (default), or after it, as in llama.cpp: what is cut then does not
   * depend on the temperature. */
  samplerOrder?: SamplerOrder | undefined;
  /** 0 to 2^64 - 1; default: random, and told with the result. The same seed gives the same tokens,
   * at any number of threads. */
  seed?: number | bigint | undefined;
}

/** @internal */
export const samplingNames: NamesOf<SamplingOptions> = {
  temperature: true, topK: true, topP: true, minP: true, repetitionPenalty: true,
  presencePenalty: true, frequencyPenalty: true, penaltyWindow: true, logitBias: true,
  samplerOrder: true, seed: true,
};
