// What a number of bytes buys: tokens of context and conversations, for a shape and its variants.
//
// Cache bytes of a token = tensors × KV heads × layers × (head width × element size), where an i8
// row has one f32 scale beside it. The paper's shapes and parameter counts are those of its
// published code; ours are of the shipped files' headers.
import type { CacheType } from 'onekv';

/** One way to attend in a shape. */
export interface Variant {
  name: string;
  /** KV heads × (1 where key and value are one tensor, else 2). */
  cached: number;
  parameters: number;
}

export interface Shape {
  name: string;
  layers: number;
  headWidth: number;
  /** Tokens of a full conversation. */
  context: number;
  variants: readonly Variant[];
}

export interface Bought {
  bytesPerToken: number;
  /** Tokens of context, all of it one conversation's. */
  tokens: number;
  /** Conversations of the shape's whole context. */
  conversations: number;
  /** What is left for the cache when the weights are counted too. */
  cacheBytes: number;
}

const rowBytes: Record<CacheType, (width: number) => number> = {
  f32: (width) => 4 * width,
  f16: (width) => 2 * width,
  i8: (width) => width + 4,
};

/** Bytes of Q8_0: 32 weights of one byte, and a scale of two. */
export const weightBytes = (parameters: number) => Math.ceil(parameters * 34 / 32);

export function bytesPerToken(shape: Shape, variant: Variant, type: CacheType): number {
  return variant.cached * shape.layers * rowBytes[type](shape.headWidth);
}

export function buy(shape: Shape, variant: Variant, type: CacheType, budget: number,
  withWeights: boolean): Bought {
  const perToken = bytesPerToken(shape, variant, type);
  const cacheBytes = Math.max(0, budget - (withWeights ? weightBytes(variant.parameters) : 0));
  return {
    bytesPerToken: perToken, cacheBytes,
    tokens: Math.floor(cacheBytes / perToken),
    conversations: Math.floor(cacheBytes / (perToken * shape.context)),
  };
}

/** The sizes that the slider stops at: 1, 2, 5, 10 … MB. */
export const budgets = Array.from({ length: 14 }, (_, i) =>
  [1, 2, 5][i % 3] as number * 10 ** (6 + Math.floor(i / 3)));

const paper300: Shape = {
  name: 'The paper’s 300M', layers: 20, headWidth: 64, context: 2048,
  variants: [
    { name: 'QKV', cached: 32, parameters: 305_534_976 },
    { name: 'Q-K=V', cached: 16, parameters: 284_542_976 },
    { name: 'GQA-4', cached: 8, parameters: 274_046_976 },
    { name: 'Q-K=V + GQA-4', cached: 4, parameters: 268_798_976 },
    { name: 'MQA', cached: 2, parameters: 266_174_976 },
    { name: 'Q-K=V + MQA', cached: 1, parameters: 264_862_976 },
  ],
};

const paper1200: Shape = {
  name: 'The paper’s 1.2B', layers: 22, headWidth: 64, context: 2048,
  variants: [
    { name: 'QKV', cached: 64, parameters: 1_215_102_976 },
    { name: 'Q-K=V', cached: 32, parameters: 1_122_783_232 },
    { name: 'GQA-8', cached: 16, parameters: 1_076_623_360 },
    { name: 'Q-K=V + GQA-8', cached: 8, parameters: 1_053_543_424 },
    { name: 'MQA', cached: 2, parameters: 1_036_233_472 },
    { name: 'Q-K=V + MQA', cached: 1, parameters: 1_033_348_480 },
  ],
};

interface Header {
  description: { layers: number; headWidth: number; contextWindow: number; kvHeads: number;
    projection: string };
  parameters: number;
}

/** The shipped pair as a shape of two variants. */
export function shippedShape(std: Header, one: Header): Shape {
  const variant = (name: string, { description, parameters }: Header): Variant => ({
    name, parameters,
    cached: description.kvHeads * (description.projection.endsWith('K=V') ? 1 : 2),
  });
  const { layers, headWidth, contextWindow } = one.description;
  return {
    name: 'The two models above', layers, headWidth, context: contextWindow,
    variants: [variant('QKV', std), variant('Q-K=V + MQA', one)],
  };
}

export const paperShapes: readonly Shape[] = [paper300, paper1200];
