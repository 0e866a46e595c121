// embeddings.create of onekv/openai: vectors of texts.
import { unknownName } from '../api/options.js';
import type { SignalOptions } from '../api/options.js';
import { checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';
import type { EmbedInput } from '../api/embed.js';
import { ignored, inCallersWords, isNothing } from './openai-request.js';
import type { Place } from './openai-run.js';
import type { EmbeddingRequest, EmbeddingResponse } from './openai-types.js';

const honoured = ['input', 'encoding_format', 'dimensions'];
/** As OpenAI's. */
const mostTexts = 2048;

/** The texts of a request: one or many, each as text or as token ids. */
function textsOf({ input }: EmbeddingRequest): readonly EmbedInput[] {
  if (typeof input === 'string') return [input];
  const isIds = (list: unknown): list is readonly number[] => Array.isArray(list) &&
    list.length > 0 && list.every((id) => Number.isInteger(id));
  if (isIds(input)) return [input];
  const isList = Array.isArray(input) && input.length > 0 &&
    input.every((one: unknown) => typeof one === 'string' || isIds(one));
  if (!isList) throw invalidArgument('input', input, 'texts or lists of token ids');
  checkInteger('input.length', input.length, 1, mostTexts);
  return input as readonly EmbedInput[];
}

function check(body: EmbeddingRequest): void {
  if (typeof body !== 'object' || body === null) throw invalidArgument('body', body, 'an object');
  for (const [field, value] of Object.entries(body)) {
    if (isNothing(value) || honoured.includes(field) || ignored.includes(field)) continue;
    throw unknownName('create', field, honoured);
  }
}

/** f32, little-endian, in base64. */
function base64Of(vector: Float32Array): string {
  const bytes = new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

/** Error: in the caller's words. */
export async function createEmbeddings({ model }: Place, body: EmbeddingRequest,
  { signal }: SignalOptions): Promise<EmbeddingResponse<number[] | string>> {
  try {
    check(body);
    const format = checkOneOf('encoding_format', body.encoding_format ?? 'float',
      ['float', 'base64']);
    const { vectors, tokens } = await model.embed(textsOf(body),
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
    throw inCallersWords(error, { texts: 'input' });
  }
}
