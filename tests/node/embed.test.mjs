// Vectors of texts: what pooling, length and cutting make of the rows of an encoder and of a causal
// model, and what is refused.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { bertFile, distance, goldenPath, levels, loadSync, readGolden, root, withEngine } from
  './support.mjs';

const golden = readGolden('bert-mean');
const width = golden.nOutputs;
const story = `${root}models/stories-q-mqa.q8_0.gguf`;
const floats = { arithmetic: 'f32', cacheType: 'f32' };
const exact = { threads: 1, ...floats };
let model;

before(async () => { model = await OneKV.load(bertFile(), exact); });
after(() => model.unload());

const rowOf = (i) => golden.logits.subarray(i * width, (i + 1) * width);
const lengthOf = (vector) => Math.hypot(...vector);
const scaled = (vector, by) => vector.map((x) => x / by);

/** Of the rows of transformers. */
const expected = {
  cls: rowOf(0),
  last: rowOf(golden.nOutRows - 1),
  mean: new Float32Array(width).map((_, c) =>
    Array.from({ length: golden.nOutRows }, (__, i) => rowOf(i)[c])
      .reduce((sum, x) => sum + x, 0) / golden.nOutRows),
};

test('pooled rows are those of transformers, at every SIMD level', async () => {
  for (const simd of levels) {
    await withEngine({ simd }, (engine) => {
      const plain = loadSync(engine, goldenPath('bert-mean'), floats);
      const { head, pooling, causal, outputs, embedding } = plain.description;
      assert.deepEqual({ head, pooling, causal, outputs, embedding },
        { head: false, pooling: 'mean', causal: false, outputs: width, embedding: width });
      for (const [name, vector] of Object.entries(expected)) {
        const found = plain.embed(golden.tokens, name);
        assert.ok(distance(found, vector) <= 1e-4, `${simd} ${name}`);
      }
      assert.deepEqual(plain.embed(golden.tokens), plain.embed(golden.tokens, 'mean'));
    });
  }
});

const recorded = JSON.parse(readFileSync(`${root}tests/real/embeddings.json`, 'utf8'));
const cosine = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0) / lengthOf(a) / lengthOf(b);

test('llama.cpp gives the golden encoders the same vectors', () => withEngine({}, (engine) => {
  assert.ok(recorded.golden.length >= 2);
  for (const { name, ids, ...vectors } of recorded.golden) {
    const plain = loadSync(engine, goldenPath(name), floats);
    for (const [pooling, vector] of Object.entries(vectors)) {
      const off = 1 - cosine(plain.embed(ids, pooling), vector);
      assert.ok(off < 1e-5, `${name}, ${pooling}: ${off}`);
    }
    plain.destroy();
  }
}));

const minilm = process.env.ONEKV_MINILM;
test('MiniLM: ids and vectors of texts are those of llama.cpp', {
  skip: minilm === undefined ? 'ONEKV_MINILM names no file (tests/real/README.md)' : false,
}, async () => {
  const real = await OneKV.load(minilm, exact);
  const texts = recorded.minilm.map(({ text }) => text);
  const { vectors, tokens } = await real.embed(texts);
  for (const [i, { text, ids, mean }] of recorded.minilm.entries()) {
    assert.equal(tokens[i], ids.length);
    assert.deepEqual(await real.tokenize(text, { begin: true }), ids.slice(0, -1));
    const off = 1 - cosine(vectors[i], mean);
    assert.ok(off < 1e-4, `${text}: ${off}`);
  }
  // Of two sentences that say the same in other words, and one of something else.
  assert.ok(cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.3);
  await real.unload();
});

test('the same through a worker: pooling, length 1, fewer dimensions', async () => {
  const { tokens } = golden;
  for (const pooling of ['mean', 'cls', 'last']) {
    const { vectors: [raw], tokens: [count] } =
      await model.embed([tokens], { pooling, normalize: false });
    assert.ok(distance(raw, expected[pooling]) <= 1e-4, pooling);
    assert.equal(count, tokens.length);
    const { vectors: [unit] } = await model.embed([tokens], { pooling });
    assert.ok(Math.abs(lengthOf(unit) - 1) < 1e-6);
    assert.ok(distance(unit, scaled(raw, lengthOf(raw))) < 1e-6);
    const { vectors: [short] } = await model.embed([tokens], { pooling, dimensions: 5 });
    assert.equal(short.length, 5);
    assert.ok(Math.abs(lengthOf(short) - 1) < 1e-6);
    assert.ok(distance(short, scaled(raw.subarray(0, 5), lengthOf(raw.subarray(0, 5)))) < 1e-6);
  }
});

test('a text begins with [CLS] and ends with [SEP]; many texts are many vectors', async () => {
  const ids = [2, 5, 32, 6, 3];
  assert.deepEqual(await model.tokenize('ab b', { begin: true }), ids.slice(0, -1));
  const texts = ['ab b', 'b', ids];
  const { vectors, tokens } = await model.embed(texts);
  assert.deepEqual(tokens, [5, 3, 5]);
  assert.deepEqual(vectors[0], vectors[2]);
  for (const [i, text] of texts.entries()) {
    assert.deepEqual((await model.embed([text])).vectors[0], vectors[i]);
  }
  assert.ok(distance(vectors[0], vectors[1]) > 1e-3);
  assert.deepEqual((await model.embed('b')).vectors, [vectors[1]]);
  assert.deepEqual(await model.embed([]), { vectors: [], tokens: [] });
});

test('what is too long is refused, or cut in front of its end', async () => {
  const long = 'ab '.repeat(100);
  await assert.rejects(model.embed(['b', long]), { code: 'CONTEXT_FULL',
    message: 'texts[1]: found 202 tokens, expected at most 128; with truncate the rest is left out',
  });
  const { vectors: [cut], tokens: [count] } = await model.embed(long, { truncate: true });
  assert.equal(count, 128);
  const ids = [...(await model.tokenize(long, { begin: true })).slice(0, 127), 3];
  assert.deepEqual(cut, (await model.embed([ids])).vectors[0]);
  await assert.rejects(model.embed([new Int32Array(129)]), { code: 'CONTEXT_FULL' });
  const narrow = await OneKV.load(bertFile(), { ...exact, contextWindow: 4 });
  assert.equal((await narrow.embed('ab b', { truncate: true })).tokens[0], 4);
  await assert.rejects(narrow.embed('ab b'), /found 5 tokens, expected at most 4/);
  await narrow.unload();
});

test('a text of a megabyte is refused or cut in reasonable time', async () => {
  for (const text of ['a'.repeat(1 << 20), 'ab '.repeat(1 << 19), ' '.repeat(1 << 20),
    '\u{1f600}'.repeat(1 << 18)]) {
    const started = performance.now();
    const { vectors: [vector], tokens: [count] } = await model.embed(text, { truncate: true });
    assert.ok(vector.every(Number.isFinite) && count <= 128);
    assert.ok(performance.now() - started < 30_000);
  }
});

test('what is asked amiss is refused by its name', async () => {
  const refused = (texts, options, message, code = 'INVALID_ARGUMENT') =>
    assert.rejects(model.embed(texts, options), { code, message });
  await refused(7, {}, 'texts: found 7, expected text or a list of texts');
  await refused(['a', ''], {}, 'texts[1]: found "", expected some text, or its token ids');
  await refused('', {}, /^texts\[0\]: found "", expected some text/);
  await refused([null], {}, /^texts\[0\]: found null, expected some text/);
  await refused([[]], {}, /^texts\[0\]: found Int32Array, expected some text/);
  await refused([[64]], {}, 'texts[0]: token 0: found 64, expected 0 to 63',
    'TOKEN_OUT_OF_RANGE');
  await refused('a', { pooling: 'max' }, 'pooling: found "max", expected mean, cls, last');
  await refused('a', { dimensions: 33 }, /^dimensions: found 33, expected an integer from 1 to 32/);
  await refused('a', { dimensions: 0 }, /^dimensions: found 0/);
  await refused('a', { normalise: true }, /unknown option "normalise"; did you mean normalize\?/);
});

test('an encoder has no sessions, and says what it has', async () => {
  await assert.rejects(model.createSession(), { code: 'WRONG_STATE',
    message: 'a bidirectional model has no sessions: it gives vectors of texts, by embed' });
  assert.equal(model.description.head, false);
});

test('an abort between two texts ends the call, and the model goes on', async () => {
  const controller = new AbortController();
  const many = Array.from({ length: 5000 }, () => 'ab '.repeat(60));
  const call = model.embed(many, { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('enough')), 50);
  await assert.rejects(call, /enough/);
  assert.equal((await model.embed('b')).tokens[0], 3);
  await assert.rejects(model.embed('b', { signal: AbortSignal.abort(new Error('no')) }), /no/);
});

test('a causal model pools too, beside its sessions', async () => {
  const causal = await OneKV.load(story, { threads: 1 });
  assert.equal(causal.description.pooling, 'last');
  assert.equal(causal.description.head, true);
  const text = 'Once upon a time there was a little dog.';
  const session = await causal.createSession({ temperature: 0 });
  const alone = await session.prompt(text, { maxTokens: 12 });
  const other = await causal.createSession({ temperature: 0 });
  const [beside, first, mean, last] = await Promise.all([
    other.prompt(text, { maxTokens: 12 }),
    causal.embed(text, { pooling: 'cls' }),
    causal.embed(text, { pooling: 'mean' }),
    causal.embed(text),
  ]);
  assert.equal(beside, alone);
  assert.ok(distance(first.vectors[0], last.vectors[0]) > 1e-3);
  assert.ok(distance(mean.vectors[0], last.vectors[0]) > 1e-3);
  // The first row does not see what comes behind it.
  const { vectors: [again] } = await causal.embed('Once upon', { pooling: 'cls' });
  assert.ok(distance(again, first.vectors[0]) < 1e-6);
  await causal.unload();
});

test('a vision model has no vectors, a file without a tokenizer those of token ids', async () => {
  const vision = await OneKV.load(goldenPath('vit-qkv-mqa'), { threads: 1 });
  await assert.rejects(vision.embed([[1]]), { code: 'WRONG_STATE' });
  await vision.unload();
  const bare = await OneKV.load(goldenPath('bert-mean'), exact);
  await assert.rejects(bare.embed('a'), { code: 'UNSUPPORTED_TOKENIZER' });
  assert.ok(distance((await bare.embed([golden.tokens], { normalize: false })).vectors[0],
    expected.mean) <= 1e-4);
  await bare.unload();
});
