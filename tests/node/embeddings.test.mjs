// Vectors of texts by onekv/openai, onekv/handler and onekv/ai-sdk: shapes, usage, what is refused.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { createOneKV } from '../../dist/src/facades/ai-sdk.js';
import { createHandler } from '../../dist/src/facades/handler.js';
import { openai } from '../../dist/src/facades/openai.js';
import { bertFile, distance } from './support.mjs';

const limit = { timeout: 60_000 };
const texts = ['ab b', 'b c d'];
let model;
let client;
let vectors;

before(async () => {
  model = await OneKV.load(bertFile(), { threads: 1 });
  client = openai(model);
  ({ vectors } = await model.embed(texts));
}, limit);
after(async () => {
  await client.destroy();
  await model.unload();
});

test('lists of numbers, and the same in base64', limit, async () => {
  const { data, object, model: name, usage } =
    await client.embeddings.create({ model: 'bert', input: texts });
  assert.deepEqual([object, name], ['list', 'bert']);
  assert.deepEqual(usage, { prompt_tokens: 10, total_tokens: 10 });
  assert.deepEqual(data.map(({ object: kind, index }) => [kind, index]),
    [['embedding', 0], ['embedding', 1]]);
  assert.deepEqual(data.map(({ embedding }) => Float32Array.from(embedding)), vectors);
  const packed = await client.embeddings.create({ input: texts, encoding_format: 'base64' });
  assert.deepEqual(packed.data.map(({ embedding }) =>
    new Float32Array(Uint8Array.from(Buffer.from(embedding, 'base64')).buffer)), vectors);
});

test('one text, and token ids; fewer dimensions', limit, async () => {
  const ids = [2, 5, 32, 6, 3];
  for (const input of [texts[0], [texts[0]], ids, [ids]]) {
    const { data } = await client.embeddings.create({ input });
    assert.equal(data.length, 1);
    assert.deepEqual(Float32Array.from(data[0].embedding), vectors[0]);
  }
  const { data: [{ embedding }] } = await client.embeddings.create({ input: ids, dimensions: 4 });
  assert.equal(embedding.length, 4);
  const length = Math.hypot(...vectors[0].subarray(0, 4));
  assert.ok(distance(embedding, vectors[0].subarray(0, 4).map((x) => x / length)) < 1e-6);
});

test('what is refused is named as the caller names it', limit, async () => {
  for (const [body, message] of [
    [{}, /^input: found undefined, expected texts or lists of token ids$/],
    [{ input: [] }, /^input: found Array/],
    [{ input: ['a', 5] }, /^input: found Array/],
    [{ input: '' }, /^input\[0\]: found "", expected some text/],
    [{ input: Array.from({ length: 2049 }, () => 'a') }, /^input\.length: found 2049/],
    [{ input: 'a', encoding_format: 'hex' }, /^encoding_format: found "hex", expected float, base/],
    [{ input: 'a', dimensions: 33 }, /^dimensions: found 33, expected an integer from 1 to 32$/],
    [{ input: 'a', dimension: 3 }, /unknown option "dimension"; did you mean dimensions\?/],
    [null, /^body: found null/],
  ]) {
    await assert.rejects(client.embeddings.create(body), { code: 'INVALID_ARGUMENT', message });
  }
  await assert.rejects(client.embeddings.create({ input: ['a', 'ab '.repeat(100)] }),
    { code: 'CONTEXT_FULL', message: /^input\[1\]: found 202 tokens, expected at most 128/ });
});

test('POST /v1/embeddings; an encoder refuses texts that go on', limit, async () => {
  const handle = createHandler({ bert: model });
  const ask = async (path, body) => {
    const response = await handle(new Request(`http://localhost/v1/${path}`,
      { method: 'POST', body: JSON.stringify(body) }));
    return { status: response.status, body: await response.json() };
  };
  const { status, body } = await ask('embeddings', { model: 'bert', input: texts });
  assert.equal(status, 200);
  assert.deepEqual(body.data.map(({ embedding }) => Float32Array.from(embedding)), vectors);
  for (const [path, asked, code, message] of [
    ['embeddings', { input: '' }, 'INVALID_ARGUMENT', /^input\[0\]/],
    ['embeddings', { input: 'a', stream: true }, 'INVALID_ARGUMENT', /"stream"/],
    ['embeddings', null, 'INVALID_ARGUMENT', /^body/],
    ['completions', { prompt: 'a' }, 'WRONG_STATE', /has no sessions: it gives vectors of texts/],
    ['chat/completions', { messages: [{ role: 'user', content: 'a' }] }, 'NO_CHAT_TEMPLATE', /./],
  ]) {
    const refused = await ask(path, asked);
    assert.deepEqual([refused.status, refused.body.error.code], [400, code]);
    assert.match(refused.body.error.message, message);
  }
  const gone = await handle(new Request('http://localhost/v1/embeddings'));
  assert.equal(gone.status, 405);
  await handle.destroy();
});

test('an embedding model of the AI SDK', limit, async () => {
  const onekv = createOneKV({ bert: async () => model });
  const embedding = onekv.embeddingModel('bert');
  const { specificationVersion, provider, modelId } = embedding;
  assert.deepEqual([specificationVersion, provider, modelId], ['v4', 'onekv', 'bert']);
  const { embeddings, usage, warnings } = await embedding.doEmbed({ values: texts });
  assert.deepEqual(embeddings.map((list) => Float32Array.from(list)), vectors);
  assert.deepEqual([usage, warnings], [{ tokens: 10 }, []]);
  const cls = await embedding.doEmbed({ values: ['ab '.repeat(100)], dimensions: 3,
    providerOptions: { onekv: { pooling: 'cls', truncate: true } } });
  assert.deepEqual([cls.embeddings[0].length, cls.usage.tokens], [3, 128]);
  await assert.rejects(embedding.doEmbed({ values: [''] }), /^OneKVError: values\[0\]: found ""/);
  await assert.rejects(embedding.doEmbed({ values: ['a'], providerOptions: {
    onekv: { pool: 'cls' } } }), /providerOptions\.onekv: found the unknown option "pool"/);
  const reason = new Error('enough');
  await assert.rejects(embedding.doEmbed({ values: ['a'],
    abortSignal: AbortSignal.abort(reason) }), reason);
  assert.throws(() => onekv.embeddingModel('other'), /modelId: found "other", expected bert/);
  await onekv.destroy();
});
