// Text embeddings: texts whose vectors are close mean similar things.
import { signalNames } from './options.js';
import type { NamesOf, SignalOptions } from './options.js';

/** How the rows of a text, one for each token, become its vector: their mean, the first of them
 * (that of BERT's [CLS]) or the last. */
export type Pooling = 'mean' | 'cls' | 'last';

/** Text; or token ids, which are taken as they are, without a beginning or an end. */
export type EmbedInput = string | ArrayLike<number>;

export interface EmbedOptions extends SignalOptions {
  /** Default: the file's, ModelDescription.pooling. */
  pooling?: Pooling | undefined;
  /** The vectors have length 1, so that their dot product is their cosine; default true. */
  normalize?: boolean | undefined;
  /** Only the first so many numbers, for models that were trained to allow it (Matryoshka); 1 to
   * ModelDescription.embedding, which is the default. */
  dimensions?: number | undefined;
  /** What does not fit in contextWindow is left out; default false: the error CONTEXT_FULL. */
  truncate?: boolean | undefined;
}

/** @internal */
export const embedNames: NamesOf<EmbedOptions> = { ...signalNames, pooling: true,
  normalize: 'boolean', dimensions: true, truncate: 'boolean' };

/** In the order of the texts. */
export interface Embeddings {
  /** Of each text, [dimensions]. */
  vectors: Float32Array[];
  /** How many tokens of each text were read, those that stand before and behind it included. */
  tokens: number[];
}
