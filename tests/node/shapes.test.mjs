// Random-weight files: the engine loads every variant, an expanded file is the same model as the
// shared one, and the same seed gives the same bytes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { randomIds, randomModel, textOfIds } from '../../dist/src/bench/random-model.js';
import { halfBits } from '../../dist/src/bench/random-rows.js';
import { fileNameOf, shapedModel, titleOf } from '../../dist/src/bench/shapes.js';
import { hashBits, summarise } from '../../dist/src/bench/statistics.js';
import { distance } from './support.mjs';

const tiny = { layers: 2, width: 64, heads: 4, feedForward: 96, vocabulary: 600, context: 64 };
const paper = { ...tiny, architecture: 'gpt2' };
const projections = ['QKV', 'Q-K=V', 'Q=K-V', 'Q=K=V'];

async function bytesOf(model) {
  const source = randomModel(model);
  const parts = [];
  for await (const chunk of source.chunks) parts.push(chunk);
  const bytes = Buffer.concat(parts);
  assert.equal(bytes.length, source.totalBytes);
  return bytes;
}

async function logitsOf(engine, model) {
  const loaded = await loadModel(engine, randomModel(model), { cacheType: 'f32' });
  const session = loaded.openSession();
  session.append(randomIds(40, model.vocabulary));
  const logits = session.logits();
  const { description } = loaded;
  loaded.destroy();
  return { logits, description };
}

async function withEngine(use) {
  const engine = await Engine.open({ threads: 1 });
  try {
    await use(engine);
  } finally {
    engine.destroy();
  }
}

test('every variant loads, and expands to the same model', () => withEngine(async (engine) => {
  for (const dimensions of [tiny, paper]) {
    for (const projection of projections) {
      for (const kvHeads of [4, 2, 1]) {
        const options = { ...dimensions, projection, kvHeads, type: 'f32' };
        const shared = await logitsOf(engine, shapedModel('tiny', options));
        const standard = await logitsOf(engine, shapedModel('tiny', { ...options, expand: true }));
        const name = titleOf(shapedModel('tiny', options));
        assert.equal(shared.description.projection, projection, name);
        assert.equal(shared.description.kvHeads, kvHeads, name);
        assert.equal(standard.description.projection, 'QKV', name);
        // Keys are rotated when they are read or before they are cached: not the same roundings.
        const off = distance(shared.logits, standard.logits);
        assert.ok(off < 1e-4, `${name}: off by ${off}`);
      }
    }
  }
}));

test('every element type gives logits of a sane size', () => withEngine(async (engine) => {
  for (const type of ['q8_0', 'q4_0', 'f16', 'f32']) {
    for (const dimensions of [tiny, { ...paper, layers: 12 }]) {
      const { logits } = await logitsOf(engine, shapedModel('tiny', { ...dimensions, type }));
      const deviation = Math.sqrt(logits.reduce((sum, x) => sum + x * x, 0) / logits.length);
      assert.ok(deviation > 0.5 && deviation < 2, `${type}: ${deviation}`);
    }
  }
}));

test('a seed is a file', async () => {
  const model = shapedModel('tiny', { ...tiny, type: 'q8_0' });
  const bytes = await bytesOf(model);
  assert.ok(bytes.equals(await bytesOf(model)));
  assert.ok(!bytes.equals(await bytesOf({ ...model, seed: 2 })));
});

test('a text of n characters is n tokens', () => withEngine(async (engine) => {
  const model = shapedModel('tiny', tiny);
  const { tokenizer } = await loadModel(engine, randomModel(model));
  const ids = randomIds(50, model.vocabulary);
  assert.deepEqual(tokenizer.encode(textOfIds(ids)), [...ids]);
}));

test('names, and dimensions that do not fit', () => {
  const model = shapedModel('M', { projection: 'Q-K=V', kvHeads: 1, expand: true });
  assert.equal(titleOf(model), 'M Q-K=V MQA q8_0 expanded');
  assert.equal(fileNameOf(model), 'm-keqv-mqa-expanded.q8_0.gguf');
  const refused = [['S', { width: 290 }], ['S', { kvHeads: 4 }], ['none', {}],
    ['M', { projection: 'QK=V' }], ['M', { type: 'q5_0' }]];
  for (const [shape, options] of refused) {
    assert.throws(() => shapedModel(shape, options), { code: 'INVALID_ARGUMENT' });
  }
});

test('halves are rounded as everybody rounds them', () => {
  const cases = [[1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [2 ** -14, 0x0400],
    [2 ** -24, 0x0001], [0, 0], [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [0.1, 0x2e66]];
  for (const [value, bits] of cases) assert.equal(halfBits(value), bits, String(value));
});

test('a hash is of all bits, and goes on', () => {
  const numbers = Float32Array.of(1, -0, 3);
  assert.notEqual(hashBits(numbers), hashBits(Float32Array.of(1, 0, 3)));
  assert.equal(hashBits(numbers), hashBits(numbers.subarray(1), hashBits(numbers.subarray(0, 1))));
});

test('a summary is of the middle', () => {
  const { median, least, most, spread } = summarise([5, 1, 2, 4, 3]);
  assert.deepEqual([median, least, most, spread], [3, 1, 5, 1 / 3]);
  assert.equal(summarise([2, 4]).median, 3);
});
