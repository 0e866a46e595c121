// The engine against the golden models, at every SIMD level; threads, pieces, memory.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Engine, automaticThreads, hasRelaxedSimd, loadModel }
  from '../../dist/src/engine-entry-node.js';
import { bytesFields, configFields, estimateFields, memoryFields, samplingFields,
  sessionFields } from '../../dist/src/engine/bindings.js';
import { distance, ggufHeader, goldenNames, goldenPath, levels, loadSync, readGolden, tinyLlama,
  tolerance, withEngine } from './support.mjs';

test('bindings: field lists have the names and order of wasm/fields.h', () =>
  withEngine({}, ({ bindings }) => {
    const lists = [configFields, estimateFields, memoryFields, sessionFields, samplingFields,
      bytesFields];
    lists.forEach((list, i) => assert.deepEqual(bindings.fieldNames(i), [...list]));
    assert.deepEqual(bindings.fieldNames(lists.length), []);
  }));

/** Token by token; then the same at once, where the last row must have the same bits. */
function checkSession(name, model, golden) {
  const { tokens, logits, nOutputs } = golden;
  const session = model.openSession();
  let last;
  tokens.forEach((token, i) => {
    session.append([token]);
    last = session.logits();
    const off = distance(last, logits.subarray(i * nOutputs, (i + 1) * nOutputs));
    assert.ok(off <= tolerance(name), `${name}, row ${i}: off by ${off}`);
  });
  session.truncate(0);
  session.append(tokens);
  assert.deepEqual(session.logits(), last, `${name}: prefill and decode differ in bits`);
  session.destroy();
}

function checkEncoder(name, model, golden) {
  const found = model.encode(golden.tokens ?? golden.features);
  assert.deepEqual([found.rows, found.outputs], [golden.nOutRows, golden.nOutputs]);
  const off = distance(found.logits, golden.logits);
  assert.ok(off <= tolerance(name), `${name}: off by ${off}`);
}

for (const simd of levels) {
  test(`golden models: logits, ${simd}`, () => withEngine({ simd, threads: 2 }, (engine) => {
    assert.equal(engine.simd, simd);
    assert.ok(goldenNames.length >= 60);
    for (const name of goldenNames) {
      const model = loadSync(engine, goldenPath(name), { cacheType: 'f32' });
      const golden = readGolden(name);
      assert.equal(model.level, simd);
      if (model.description.causal) checkSession(name, model, golden);
      else checkEncoder(name, model, golden);
      model.destroy();
    }
  }));

  test(`1, 2 and 4 threads: the same bits, ${simd}`, async () => {
    const results = [];
    for (const threads of [1, 2, 4]) {
      await withEngine({ simd, threads }, (engine) => {
        assert.equal(engine.threads, threads, engine.notes.join());
        results.push(['llama-keqv-mqa', 'llama-long', 'gpt2-qkv-gqa', 'type-q8_0'].map((name) => {
          const model = loadSync(engine, goldenPath(name));
          const session = model.openSession({ temperature: 1, seed: 7 });
          session.append(readGolden(name).tokens.subarray(0, 20));
          const logits = session.logits();
          return { logits, tokens: Array.from({ length: 20 }, () => session.next().token) };
        }));
      });
    }
    assert.deepEqual(results[1], results[0]);
    assert.deepEqual(results[2], results[0]);
  });
}

test('two SIMD levels: the same model within tolerance', { skip: levels.length < 2 &&
  'this Node has no relaxed SIMD' }, async () => {
  const logits = [];
  for (const simd of levels) {
    await withEngine({ simd }, (engine) => {
      const session = loadSync(engine, goldenPath('llama-keqv-mqa')).openSession();
      session.append(readGolden('llama-keqv-mqa').tokens);
      logits.push(session.logits());
    });
  }
  assert.ok(distance(logits[0], logits[1]) < 1e-4);
});

test('a file in pieces of any size is the same model', () => withEngine({}, (engine) => {
  const found = [1, 7, 333, 4096, 1 << 20].map((piece) => {
    const model = loadSync(engine, goldenPath('qwen3-keqv-mqa'), {}, piece);
    const session = model.openSession();
    session.append([1, 2, 3]);
    const result = { hash: model.hash, logits: session.logits(), memory: model.memory().weights };
    model.destroy();
    return result;
  });
  for (const other of found) assert.deepEqual(other, found[0]);
}));

test('descriptions are in the words of the paper', () => withEngine({}, (engine) => {
  const words = (name) => {
    const { architecture, projection, heads, sharedRope, position, causal } =
      loadSync(engine, goldenPath(name)).description;
    return [architecture, projection, heads, sharedRope, position, causal];
  };
  assert.deepEqual(words('llama-keqv-mqa'),
    ['llama', 'Q-K=V', 'MQA', 'rotate-at-read', 'rope', true]);
  assert.deepEqual(words('qwen2-qeqkeqv-gqa-unrotate'),
    ['qwen2', 'Q=K=V', 'GQA-2', 'rotate-unrotate', 'rope', true]);
  assert.deepEqual(words('gpt2-erf-qeqk-mha'),
    ['gpt2', 'Q=K-V', 'MHA', undefined, 'learned', true]);
  assert.deepEqual(words('vit-qkv-gqa'),
    ['onekv-vit', 'QKV', 'GQA-2', undefined, 'learned', false]);
}));

test('no second copy: the heap grows by what the model holds', () => withEngine({}, (engine) => {
  const { keys, tensors } = tinyLlama({ vocabulary: 400_000 });
  const { header, dataBytes } = ggufHeader(keys, tensors);
  const before = engine.memoryBytes;
  const load = () => {
    const loader = engine.openLoader();
    loader.feed(header);
    const piece = new Uint8Array(1 << 20);
    for (let left = dataBytes; left > 0; left -= piece.length) {
      loader.feed(piece.subarray(0, Math.min(left, piece.length)));
    }
    return loader.finish();
  };
  const model = load();
  const { weights, total, heap } = model.memory();
  assert.ok(weights >= 400_000 * 32 * 4 && dataBytes > 50e6);
  // Staging and header are small; growing is by 1 MiB.
  assert.ok(heap - before <= total + (2 << 20), `grew by ${heap - before} for ${total}`);
  model.destroy();
  load().destroy();
  assert.equal(engine.memoryBytes, heap, 'a second model does not reuse the memory');
}));

test('memory reports add up', () => withEngine({}, (engine) => {
  const model = loadSync(engine, goldenPath('llama-keqv-mqa'));
  const session = model.openSession();
  session.append(Array.from({ length: 33 }, (_, i) => i));
  const m = model.memory();
  assert.equal(m.total, m.weights + m.cache + m.scratch + m.sessions + m.tables);
  assert.equal(m.openSessions, 1);
  const s = session.memory();
  const { cache } = model;
  assert.equal(s.tokens, 32, 'the last token waits');
  assert.deepEqual(cache.bytes(32),
    { keys: 0, values: 0, shared: s.cacheUsed, total: s.cacheUsed });
  assert.equal(s.shared, s.cacheUsed);
  // MQA with one tensor against two tensors of four heads.
  const standard = cache.bytes(32, { standardHeads: 4 });
  assert.equal(standard.total, 8 * s.cacheUsed);
  assert.deepEqual([standard.keys, standard.values, standard.shared],
    [4 * s.cacheUsed, 4 * s.cacheUsed, 0]);
  assert.equal(cache.bytes(32, { standardHeads: 1 }).total, 2 * s.cacheUsed);
  assert.equal(cache.bytes(33, { wholePages: true }).total, 2 * s.cacheUsed);
  assert.equal(cache.bytes(32, { cacheType: 'f32' }).total, 2 * s.cacheUsed);
  assert.equal(cache.tokens(s.cacheUsed), 32);
  assert.equal(cache.tokens(s.cacheUsed - 1), 31);
  assert.equal(cache.tokens(s.cacheUsed - 1, { wholePages: true }), 0);
  assert.equal(cache.tokens(1e15), model.description.contextWindow);
  for (const heads of [0, 5, 1.5]) {
    assert.throws(() => cache.bytes(1, { standardHeads: heads }), { code: 'INVALID_ARGUMENT' });
  }
  session.destroy();
  assert.equal(model.memory().cacheUsed, 0);
  assert.ok(model.memory().cachePooled > 0);
  model.trim();
  assert.equal(model.memory().cache, 0);
}));

test('probe, notes and the number of threads', async () => {
  assert.deepEqual([1, 2, 3, 4, 6, 8, 64].map(automaticThreads), [1, 2, 3, 4, 6, 8, 16]);
  const engine = await Engine.open();
  assert.equal(engine.simd, hasRelaxedSimd() ? 'relaxed' : 'simd128');
  assert.equal(engine.notes.some((note) => note.startsWith('simd128: ')), !hasRelaxedSimd());
  assert.ok(engine.threads >= 1 && engine.threads <= 16);
  engine.destroy();
});

test('several engines and models at once', async () => {
  await withEngine({}, (one) => withEngine({ threads: 2 }, async (two) => {
    const models = await Promise.all([loadModel(one, goldenPath('llama-tied')),
      loadModel(two, goldenPath('llama-tied')), loadModel(one, goldenPath('gpt2-head'))]);
    const [a, b] = models.map((model) => {
      const session = model.openSession();
      session.append([5, 6, 7]);
      return session.logits();
    });
    assert.deepEqual(a, b);
  }));
});

test('an engine without shared memory says that it works, and where to read on', async () => {
  const { SharedArrayBuffer: own } = globalThis;
  delete globalThis.SharedArrayBuffer;
  try {
    const alone = await Engine.open({ threads: 2 });
    const { threads, notes } = alone;
    alone.destroy();
    assert.equal(threads, 1);
    assert.match(notes.join('\n'), /^1 thread: .*slower.*web\/docs\/threads-and-headers/m);
  } finally {
    globalThis.SharedArrayBuffer = own;
  }
});
