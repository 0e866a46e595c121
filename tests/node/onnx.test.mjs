// The ONNX files of bench:peers hold the weights of the GGUF files: ONNX Runtime's logits are
// those of the engine, in prefill and in steps that follow.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as ort from 'onnxruntime-web';
import { randomIds, randomModel } from '../../dist/src/bench/random-model.js';
import { shapedModel } from '../../dist/src/bench/shapes.js';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { writeOnnx } from '../bench/onnx-model.mjs';

const folder = mkdtempSync(join(tmpdir(), 'onekv-onnx-'));
after(() => rmSync(folder, { recursive: true }));
ort.env.wasm.numThreads = 1;

const shape = { layers: 3, width: 64, heads: 4, feedForward: 96, vocabulary: 600, context: 128 };

/** ONNX Runtime's logits after a prompt and after each of the tokens that follow one by one. */
async function logitsOf(path, ids, prompt) {
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(path)));
  const integer = (value) => new ort.Tensor('int32', Int32Array.of(value), [1]);
  const found = [];
  let cache = Object.fromEntries(session.inputMetadata.filter(({ name }) => /^past_/.test(name))
    .map(({ name, shape: [, heads, , h] }) =>
      [name.slice(5), new ort.Tensor('float32', new Float32Array(0), [1, heads, 0, h])]));
  for (let from = 0, to = prompt; to <= ids.length; from = to, to++) {
    const read = BigInt64Array.from(ids.subarray(from, to), BigInt);
    const past = Object.entries(cache).map(([name, tensor]) => [`past_${name}`, tensor]);
    const { logits, ...next } = await session.run({ ids: new ort.Tensor('int64', read,
      [1, to - from]), last: integer(to - 1), total: integer(to), ...Object.fromEntries(past) });
    found.push(Float32Array.from(logits.data));
    cache = next;
  }
  await session.release();
  return found;
}

for (const [title, variant] of [['QKV MHA', {}], ['Q-K=V MQA', { projection: 'Q-K=V',
  kvHeads: 1 }], ['QKV GQA-2', { kvHeads: 2 }]]) {
  test(`the same model: ${title}`, async () => {
    const model = shapedModel(`onnx-${title.replace(/\W+/g, '')}`, { ...shape, ...variant });
    const ids = randomIds(24, model.vocabulary);
    const engine = await Engine.open({ threads: 1 });
    const own = await loadModel(engine, randomModel(model), { cacheType: 'f32',
      arithmetic: 'f32' });
    const session = own.openSession();
    const expected = [];
    for (let to = 20, from = 0; to <= ids.length; from = to, to++) {
      session.append(ids.subarray(from, to));
      expected.push(session.logits());
    }
    engine.destroy();
    const largest = Math.max(...expected.flatMap((row) => [...row].map(Math.abs)));
    // Blocks as they are: what is left is rounding. One scale a row: close enough to be the model.
    for (const [matrices, most] of [['nbits', 2e-3], ['f32', 2e-3], ['int8', 0.15]]) {
      const found = await logitsOf(await writeOnnx(model, matrices, folder, 64), ids, 20);
      const off = Math.max(...found.flatMap((row, i) =>
        [...row].map((value, j) => Math.abs(value - expected[i][j]))));
      assert.ok(off < most * largest, `${matrices}: ${off} of ${largest}`);
      assert.equal(found.length, 5);
    }
  });
}
