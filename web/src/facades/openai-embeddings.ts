// embeddings.create of onekv/openai: text embeddings.
import type { SignalOptions } from '../api/options.js';
import { checkOneOf } from '../api/errors.js';
import { checkBody, ignored, inCallersWords, textsOf } from './openai-request.js';
import type { Place } from './openai-run.js';
import type { EmbeddingRequest, EmbeddingResponse } from './openai-types.js';

const honoured = { input: true, encoding_format: 'string', dimensions: 'number' } as const;
/** As OpenAI's. */
const mostTexts = 2048;

/** f32, little-endian, in base64. */
function base64Of(vector: Float32Array): string {
  const bytes = new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

/** Error: in the caller's words. */
export async function createEmbeddings({ model }: Place, body: EmbeddingRequest,
  { signal }: SignalOptions): Promise<EmbeddingResponse<number[] | string>> {
  try {
    checkBody(body, honoured, ignored);
    const format = checkOneOf('encoding_format', body.encoding_format ?? 'float',
      ['float', 'base64']);
    const { vectors, tokens } = await model.embed(textsOf('input', body.input, mostTexts),
      { signal, dimensions: body.dimensions ?? undefined });
    const total = tokens.reduce((sum, count) => sum + count, 0);
    return {
      object: 'list',
      data: vectors.map((vector, index) => ({ object: 'embedding', index,
        embedding: format === 'base64' ? base64Of(vector) : Array.from(vector) })),
      model: body.model ?? model.name ?? 'onekv',
      usage: { prompt_tokens: total, total_tokens: total },
    };
  } catch (error) {
    throw inCallersWords(error, { texts: 'input', input: 'input' });
  }
}
