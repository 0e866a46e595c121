// A model's description in the words of models/FORMAT.md and the paper, from core's numbers.
import type { Arithmetic, CacheType, ModelDescription } from '../api/description.js';
import type { Pooling } from '../api/embed.js';
import type { Bindings, Row, configFields } from './bindings.js';

/** In the order of core/net/kv_cache.h. */
export const cacheTypes = ['f16', 'f32', 'i8', 'i4'] as const satisfies readonly CacheType[];

/** In the order of core/onekv.h. */
export const arithmetics = ['int8', 'int16', 'f32'] as const satisfies readonly Arithmetic[];

/** From number 1 on of onekv_pooling in core/onekv_types.h. */
export const poolings = ['mean', 'cls', 'last'] as const satisfies readonly Pooling[];

// In the order of the enums of core/net/config.h.
export const projections = ['QKV', 'Q-K=V', 'Q=K-V', 'Q=K=V'] as const;
const keyTimes = [undefined, 'rotate-at-read', 'rotate-unrotate'] as const;
const positions = ['none', 'learned', 'rope'] as const;
const norms = ['LayerNorm', 'RMSNorm'] as const;
const activations = ['gelu_erf', 'gelu_tanh', 'silu', 'relu_squared'] as const;
const gatedActivations = ['geglu_erf', 'geglu_tanh', 'swiglu'] as const;

/** The name of that many KV heads under that many query heads. */
export function headsName(queryHeads: number, kvHeads: number): string {
  if (kvHeads === queryHeads) return 'MHA';
  return kvHeads === 1 ? 'MQA' : `GQA-${kvHeads}`;
}

/** What files are compared with beside all heads and one: 8, 4 or 3 KV heads, where they share the
 * query heads evenly. */
export const standardGroups = (queryHeads: number): number[] =>
  [8, 4, 3].filter((kvHeads) => kvHeads < queryHeads && queryHeads % kvHeads === 0);

function pick<T>(names: readonly T[], index: number): T {
  if (index in names) return names[index] as T;
  throw new RangeError(`core's enum value ${index} has no name here`);
}

export function describe(config: Row<typeof configFields>, architecture: string): ModelDescription {
  const position = pick(positions, config.position);
  return {
    architecture,
    layers: config.layers,
    contextWindow: config.contextWindow,
    embedding: config.embedding,
    feedForward: config.feedForward,
    queryHeads: config.queryHeads,
    kvHeads: config.kvHeads,
    headWidth: config.headWidth,
    latent: config.latent,
    outputs: config.outputs,
    vocabulary: config.vocabulary,
    features: config.features,
    projection: pick(projections, config.projection),
    heads: headsName(config.queryHeads, config.kvHeads),
    sharedRope: position === 'rope' ? pick(keyTimes, config.keyTime) : undefined,
    position,
    norm: pick(norms, config.norm),
    activation: config.gated !== 0 ? pick(gatedActivations, config.activation)
      : pick(activations, config.activation),
    causal: config.causal !== 0,
    head: config.head !== 0,
    pooling: pick(poolings, config.pooling - 1),
    poolsFirst: config.poolsFirst !== 0,
    separateHead: config.separateHead !== 0,
    qkNorm: config.qkNorm !== 0,
    scoreMap: config.scoreMap !== 0,
    window: config.window,
    windowedLayers: config.windowedLayers,
    convolutions: config.convolutions,
  };
}

/** The architecture's name behind a pointer to an onekv_config. */
export function architectureOf(bindings: Bindings, config: number): string {
  return bindings.text(bindings.exports._js_architecture(config));
}
