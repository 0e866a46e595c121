// Vectors of texts by client libraries: over onekv/handler, and with onekv/ai-sdk without it. The
// model is a golden encoder of random weights with a tokenizer of letters.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { OpenAIEmbeddings } from '@langchain/openai';
import { cosineSimilarity, embed, embedMany } from 'ai';
import { OneKV } from 'onekv';
import { createOneKV } from 'onekv/ai-sdk';
import { createHandler } from 'onekv/handler';
import { bertFile } from '../../tests/node/support.mjs';
import { fetchOf } from './model.mjs';

const limit = { timeout: 60_000 };
const baseURL = 'http://localhost/v1';
const texts = ['a dog', 'a cat', 'some rain'];
let model;
let vectors;
let handle;
let fetch;

before(async () => {
  model = await OneKV.load(bertFile(), { threads: 1 });
  vectors = (await model.embed(texts)).vectors.map((vector) => Array.from(vector));
  handle = createHandler({ bert: model });
  fetch = fetchOf(handle);
}, limit);
after(async () => {
  await handle.destroy();
  await model.unload();
});

test('openai: base64 by itself, numbers where they are asked for', limit, async () => {
  const { embeddings } = new OpenAI({ apiKey: 'none', baseURL, fetch, maxRetries: 0 });
  for (const more of [{}, { encoding_format: 'float' }]) {
    const { data, usage } = await embeddings.create({ model: 'bert', input: texts, ...more });
    assert.deepEqual(data.map(({ embedding }) => Array.from(embedding)), vectors);
    assert.equal(usage.total_tokens, 4 + 4 + 8 + 3 * 2);
  }
  const { data: [short] } = await embeddings.create({ model: 'bert', input: texts[0],
    dimensions: 5 });
  assert.equal(short.embedding.length, 5);
  await assert.rejects(embeddings.create({ model: 'bert', input: '' }),
    (error) => error instanceof OpenAI.BadRequestError && /input\[0\]/.test(error.message));
});

test('ai: embed and embedMany, in the page and over the handler', limit, async () => {
  const onekv = createOneKV({ bert: () => model });
  const compatible = createOpenAICompatible({ name: 'onekv', baseURL, fetch });
  for (const encoder of [onekv.embeddingModel('bert'), compatible.embeddingModel('bert')]) {
    const { embeddings, usage } = await embedMany({ model: encoder, values: texts, maxRetries: 0 });
    assert.deepEqual(embeddings, vectors);
    assert.equal(usage.tokens, 22);
    const { embedding } = await embed({ model: encoder, value: texts[1], maxRetries: 0 });
    assert.ok(Math.abs(cosineSimilarity(embedding, vectors[1]) - 1) < 1e-6);
  }
  const cut = await embed({ model: onekv.embeddingModel('bert'), value: 'ab '.repeat(100),
    providerOptions: { onekv: { truncate: true, pooling: 'cls' } } });
  assert.equal(cut.usage.tokens, 128);
  await onekv.destroy();
});

test('@langchain/openai: documents and a question', limit, async () => {
  const embeddings = new OpenAIEmbeddings({ model: 'bert', apiKey: 'none', maxRetries: 0,
    configuration: { baseURL, fetch } });
  assert.deepEqual(await embeddings.embedDocuments(texts), vectors);
  assert.deepEqual(await embeddings.embedQuery(texts[2]), vectors[2]);
});
