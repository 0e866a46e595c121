// The embedding models of onekv/ai-sdk.
import type { EmbedOptions } from '../api/embed.js';
import type { Model } from '../api/model.js';
import { checkKind, checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import type { EmbeddingCallOptions, EmbeddingModel } from './ai-sdk-types.js';
import { checkPart, inCallersWords } from './openai-request.js';

/** Of providerOptions.onekv. */
type OwnOptions = Pick<EmbedOptions, 'pooling' | 'truncate'>;

const ownNames: NamesOf<OwnOptions> = { pooling: true, truncate: 'boolean' };

/** Any number of texts are one call: the worker does one after the other. */
export function embeddingModelOf(modelId: string, load: () => Promise<Model>): EmbeddingModel {
  return {
    specificationVersion: 'v4', provider: 'onekv', modelId,
    maxEmbeddingsPerCall: Number.POSITIVE_INFINITY, supportsParallelCalls: false,
    doEmbed: async (options: EmbeddingCallOptions) => {
      try {
        checkKind('options', options, 'object');
        const { values, dimensions, abortSignal, providerOptions } = options;
        checkPart('abortSignal', abortSignal, 'AbortSignal');
        const own = checkOptions('providerOptions.onekv',
          (providerOptions?.['onekv'] ?? {}) as OwnOptions, ownNames);
        abortSignal?.throwIfAborted();
        const { vectors, tokens } = await (await load()).embed(values,
          { ...own, dimensions, signal: abortSignal });
        return { embeddings: vectors.map((vector) => Array.from(vector)), warnings: [],
          usage: { tokens: tokens.reduce((sum, count) => sum + count, 0) } };
      } catch (error) {
        throw inCallersWords(error, { texts: 'values' });
      }
    },
  };
}
