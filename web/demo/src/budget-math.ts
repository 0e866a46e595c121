// What a number of bytes buys: tokens of context and conversations, for a shape and its variants.
//
// Bytes are core's to say, of the files' headers (build/facts.mjs); here they divide a budget.
import type { CacheType } from 'onekv';
import type { CacheFacts, ShapeFacts, ShippedFacts } from 'virtual:facts';

/** One way to attend in a shape. */
type Variant = ShapeFacts['variants'][number];

interface Bought extends CacheFacts {
  /** Tokens of context, all of it one conversation's. */
  tokens: number;
  /** Conversations of the shape's whole context. */
  conversations: number;
  /** What is left for the cache when the weights are counted too. */
  cacheBytes: number;
}

export function buy({ cache, weightBytes }: Variant, type: CacheType, budget: number,
  withWeights: boolean): Bought {
  const { token, full } = cache[type];
  const cacheBytes = Math.max(0, budget - (withWeights ? weightBytes : 0));
  return {
    token, full, cacheBytes,
    tokens: Math.floor(cacheBytes / token),
    conversations: Math.floor(cacheBytes / full),
  };
}

/** The sizes that the slider stops at: 1, 2, 5, 10 … MB. */
export const budgets = Array.from({ length: 14 }, (_, i) =>
  [1, 2, 5][i % 3] as number * 10 ** (6 + Math.floor(i / 3)));

/** The shipped pair as a shape of two variants. */
export function shippedShape(std: ShippedFacts, one: ShippedFacts): ShapeFacts {
  const variant = (name: string, { weightBytes, cache }: ShippedFacts): Variant => ({
    name, weightBytes,
    cache: { f32: cache.f32.own, f16: cache.f16.own, i8: cache.i8.own },
  });
  return {
    name: 'The two models above', context: one.description.contextWindow,
    variants: [variant('QKV', std), variant('Q-K=V + MQA', one)],
  };
}
