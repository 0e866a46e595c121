// Per-layer embeddings (Gemma 4) that stay in the file: a token's row is read when it runs.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync }
  from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { loadModel, readHeader } from '../../dist/src/engine-entry-node.js';
import { goldenPath, withEngine } from './support.mjs';

/** Bytes of the tables: vocabulary × layers × width, as f32. */
const tables = { 'gemma4-shared': 64 * 10 * 8 * 4, 'gemma4-kv-shared': 64 * 6 * 4 * 4 };
const prompt = Array.from({ length: 110 }, (_, i) => (7 * i) % 64);

function logitsOf(model) {
  const session = model.openSession();
  session.append(prompt);
  const logits = session.logits().slice();
  session.destroy();
  return logits;
}

for (const [family, tableBytes] of Object.entries(tables)) {
  test(`${family}: read from the file, the same bits in less memory`, () =>
    withEngine({}, async (engine) => {
      const notes = [];
      const onNote = (note) => notes.push(note);
      const left = await loadModel(engine, goldenPath(family), { onNote });
      const held = await loadModel(engine, readFileSync(goldenPath(family)), { onNote });
      assert.match(notes[0], /^per-layer embeddings, 0\.0 MB: left where the file is, and read/);
      assert.match(notes[1], /^per-layer embeddings, 0\.0 MB: held in memory/);
      assert.equal(held.memory().weights - left.memory().weights, tableBytes);
      assert.equal(held.estimate.weightBytes - left.estimate.weightBytes, tableBytes);
      assert.deepEqual([held.estimate.rowBytes, left.estimate.rowBytes], [tableBytes, tableBytes]);
      assert.deepEqual(logitsOf(left), logitsOf(held));
      const estimate = await readHeader(engine, goldenPath(family), {}, (loader) =>
        loader.estimate());
      assert.deepEqual(estimate, left.estimate);
    }));
}

test('other models have no such table, and nothing is said of one', () =>
  withEngine({}, async (engine) => {
    const notes = [];
    const model = await loadModel(engine, goldenPath('gemma4-kv'),
      { onNote: (note) => notes.push(note) });
    assert.equal(model.estimate.rowBytes, 0);
    assert.deepEqual(notes, []);
  }));

test('a file that is changed, cut or gone is an error; the session goes on when it is back', () =>
  withEngine({}, async (engine) => {
    const folder = mkdtempSync(join(tmpdir(), 'onekv-rows-'));
    const path = join(folder, 'model.gguf');
    const kept = join(folder, 'kept.gguf');
    copyFileSync(goldenPath('gemma4-shared'), path);
    utimesSync(path, 1e9, 1e9);
    const model = await loadModel(engine, path);
    const expected = logitsOf(model);
    const session = model.openSession();
    session.append(prompt.slice(0, 20));
    session.logits();
    const fails = (message) => {
      assert.throws(() => session.append(prompt.slice(20)),
        { name: 'OneKVError', code: 'SOURCE_FAILED', message });
      assert.equal(session.length, 20);
    };
    renameSync(path, kept);
    fails(/per_layer_token_embd\.weight: a token's row could not be read: .*no such file/);
    writeFileSync(path, readFileSync(kept).subarray(0, 1000));
    fails(/it is another file now/);
    rmSync(path);
    renameSync(kept, path);
    session.append(prompt.slice(20));
    assert.deepEqual(session.logits().slice(), expected);
    rmSync(folder, { recursive: true });
  }));

test('in a worker: the memory that is told is without the table', async () => {
  const weights = async (source) => {
    const model = await OneKV.load(source);
    try {
      return { bytes: (await model.memory()).weights, notes: model.engine.notes };
    } finally {
      await model.unload();
    }
  };
  const left = await weights(goldenPath('gemma4-shared'));
  const held = await weights(new Uint8Array(readFileSync(goldenPath('gemma4-shared'))));
  assert.equal(held.bytes - left.bytes, tables['gemma4-shared']);
  assert.ok(left.notes.some((note) => /left where the file is/.test(note)), String(left.notes));
});
