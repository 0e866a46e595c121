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

/** Tokens that so many bytes hold, with points as CacheFacts has them. */
export function tokensOf({ token, points = [[0, 0], [1, token]] }: CacheFacts,
  bytes: number): number {
  const before = [0, 0] as const;
  const at = points.findIndex(([, most]) => most > bytes);
  const to = at < 0 ? points.length - 1 : at;
  const [n, there] = points[to] as [number, number];
  const [from, here] = points[to - 1] ?? before;
  return Math.floor(from + (bytes - here) * (n - from) / (there - here));
}

export function buy({ cache, weightBytes }: Variant, type: CacheType, budget: number,
  withWeights: boolean): Bought {
  const { token, full } = cache[type];
  const cacheBytes = Math.max(0, budget - (withWeights ? weightBytes : 0));
  return {
    token, full, cacheBytes,
    tokens: tokensOf(cache[type], cacheBytes),
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
    cache: { f32: cache.f32.own, f16: cache.f16.own, i8: cache.i8.own, i4: cache.i4.own },
  });
  return {
    name: 'The two models above', context: one.description.contextWindow,
    variants: [variant('QKV', std), variant('Q-K=V MQA', one)],
  };
}
