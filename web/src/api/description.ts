// What a model is and what runs it, in the words of models/FORMAT.md and the paper.

import type { Pooling } from './embed.js';

/** Which of a layer's projections are one matrix; '-' separates. */
export type Projection = 'QKV' | 'Q-K=V' | 'Q=K-V' | 'Q=K=V';

/** Element type of the cache; 'i8' has one f32 scale per head and position, 'i4' one f16 scale per
 * 32 numbers of a head. */
export type CacheType = 'f16' | 'f32' | 'i8' | 'i4';

/** How quantised matrices are multiplied: 'int8' (input rows rounded to 7 bits and a sign in blocks
 * of 32 to 256, as other 8-bit runtimes do), 'int16' (to 14 bits and a sign: 128 times finer, half
 * the prefill speed) or 'f32' (matrices decoded, nothing rounded: slowest and smallest). */
export type Arithmetic = 'int8' | 'int16' | 'f32';

/** Instructions of a module; 'relaxed' needs relaxed SIMD. */
export type SimdLevel = 'simd128' | 'relaxed';

export interface ModelDescription {
  /** general.architecture of the file. */
  architecture: string;
  layers: number;
  /** Longest sequence, in tokens. */
  contextWindow: number;
  embedding: number;
  feedForward: number;
  queryHeads: number;
  kvHeads: number;
  /** Of a key; with a latent, of a cached row. */
  headWidth: number;
  /** Latent attention (MLA): how many of a cached row's first elements are the latent, which is the
   * value too. 0: the model has none. */
  latent: number;
  /** Logits per row: the vocabulary, or classes; without a head, `embedding`. */
  outputs: number;
  /** Token ids are below this; 0 when the input is features. */
  vocabulary: number;
  /** Numbers per input row; 0 when the input is tokens. */
  features: number;
  projection: Projection;
  /** 'MHA', 'GQA-g' with g KV heads, or 'MQA'. */
  heads: string;
  /** How one tensor is key and value under RoPE; undefined where this does not arise. */
  sharedRope: 'rotate-at-read' | 'rotate-unrotate' | undefined;
  position: 'none' | 'learned' | 'rope';
  norm: 'LayerNorm' | 'RMSNorm';
  /** The MLP's function; of a gated MLP function and gate together. */
  activation: 'gelu_erf' | 'gelu_tanh' | 'silu' | 'relu_squared' | 'geglu_erf' | 'geglu_tanh'
    | 'swiglu';
  /** Causal models have sessions; bidirectional ones encode whole sequences. */
  causal: boolean;
  /** false: an encoder for text embeddings (Model.embed). */
  head: boolean;
  /** How Model.embed makes one vector of a text's rows, unless it is told otherwise: as the file
   * says; where it does not, the mean of a bidirectional model's, the last of a causal one's. */
  pooling: Pooling;
  /** Logits of position 0 only. */
  poolsFirst: boolean;
  /** false: the head is the token embedding. */
  separateHead: boolean;
  qkNorm: boolean;
  /** (X)+, the paper's 2D encoding. */
  scoreMap: boolean;
  /** Positions that a query sees in the layers that have a window, its own included; 0: all layers
   * see everything. What is behind the window is not cached there. */
  window: number;
  windowedLayers: number;
  /** Layers with a short convolution in attention's place, which cache a few positions only. */
  convolutions: number;
}
