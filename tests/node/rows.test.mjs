// Per-layer embeddings (Gemma 4) that stay in the file: a token's row is read when it runs.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync }
  from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { loadModel, readHeader } from '../../dist/src/engine-entry-node.js';
import { folderStore } from '../../dist/src/store/folder-node.js';
import { splitFile } from './split-file.mjs';
import { MapStore, goldenPath, withEngine } from './support.mjs';

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

/** A server of these files, whole or from a place on, while `use` runs; counts what was asked. */
async function withServer(files, use) {
  const asked = [];
  const server = createServer(({ url, headers: { range } }, response) => {
    const bytes = files[url.slice(1)];
    asked.push(url.slice(1));
    const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    const end = last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    response.writeHead(206, { etag: `"${bytes.length}"`, 'content-length': end - first,
      'content-range': `bytes ${first}-${end - 1}/${bytes.length}` });
    response.end(bytes.subarray(Number(first), end));
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  try {
    return await use(`http://127.0.0.1:${server.address().port}/`, asked);
  } finally {
    server.close();
  }
}

const whole = () => readFileSync(goldenPath('gemma4-shared'));
const parts = () => splitFile(whole(), 2);
const partName = (i) => `m-0000${i + 1}-of-00002.gguf`;
const withFolder = async (use) => {
  const folder = mkdtempSync(join(tmpdir(), 'onekv-rows-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** What a load says of the table, and that its logits are those of the whole file. */
async function load(engine, source, options = {}) {
  const notes = [];
  const model = await loadModel(engine, source, { ...options, onNote: (note) => notes.push(note) });
  const reference = await loadModel(engine, whole());
  assert.deepEqual(logitsOf(model), logitsOf(reference));
  const left = reference.memory().weights - model.memory().weights;
  [model, reference].forEach((one) => one.destroy());
  return { isLeft: left === tables['gemma4-shared'], notes };
}

test('a URL, loaded first: rows are read from the copy that was stored meanwhile', () =>
  withEngine({}, (engine) => withFolder((folder) =>
    withServer({ 'm.gguf': whole() }, async (origin, asked) => {
      const store = folderStore(folder);
      const estimate = () => readHeader(engine, `${origin}m.gguf`, { store }, (loader) =>
        loader.estimate());
      const before = await estimate();
      asked.length = 0;
      assert.ok((await load(engine, `${origin}m.gguf`, { store })).isLeft);
      assert.ok((await load(engine, `${origin}m.gguf`, { store })).isLeft);
      assert.deepEqual(await estimate(), before);
      assert.equal(await readHeader(engine, `${origin}m.gguf`, {}, (loader) =>
        loader.estimate().weightBytes) - before.weightBytes, tables['gemma4-shared']);
      asked.pop();
      assert.deepEqual(asked, ['m.gguf']);
      // A store that has no files, and none at all.
      assert.ok(!(await load(engine, `${origin}m.gguf`, { store: new MapStore() })).isLeft);
      assert.ok(!(await load(engine, `${origin}m.gguf`)).isLeft);
    }))));

test('a copy that could not be stored: the file is read again and its rows are held', () =>
  withEngine({}, (engine) => withFolder((folder) =>
    withServer({ 'm.gguf': whole() }, async (origin, asked) => {
      const store = { ...folderStore(folder), put: async () => { throw new Error('disk full'); } };
      const { isLeft, notes } = await load(engine, `${origin}m.gguf`, { store });
      assert.ok(!isLeft);
      assert.match(notes.join('\n'), /was not stored: disk full/);
      assert.match(notes.at(-1), /held in memory/);
      assert.deepEqual(asked, ['m.gguf', 'm.gguf']);
    }))));

test('several files: rows are read from the parts, on disk or as they were stored', () =>
  withEngine({}, (engine) => withFolder(async (folder) => {
    parts().forEach((bytes, i) => writeFileSync(join(folder, partName(i)), bytes));
    assert.ok((await load(engine, join(folder, partName(0)))).isLeft);
    assert.ok(!(await load(engine, parts())).isLeft);
    const files = Object.fromEntries(parts().map((bytes, i) => [partName(i), bytes]));
    await withServer(files, async (origin) => {
      const store = folderStore(join(folder, 'store'));
      for (let visit = 0; visit < 2; visit++) {
        assert.ok((await load(engine, `${origin}${partName(0)}`, { store })).isLeft);
      }
      const failing = { ...store, put: async () => { throw new Error('disk full'); },
        keys: async () => [], get: async () => undefined };
      assert.ok(!(await load(engine, `${origin}${partName(0)}`, { store: failing })).isLeft);
    });
  })));

test('in a worker, with a store of files', () => withFolder((folder) =>
  withServer({ 'm.gguf': whole() }, async (origin) => {
    const model = await OneKV.load(`${origin}m.gguf`, { store: folderStore(folder) });
    assert.match(model.engine.notes.join('\n'), /per-layer embeddings.*left where the file is/);
    const { vectors: [vector] } = await model.embed([prompt]);
    assert.ok(vector.every(Number.isFinite) && vector.some((value) => value !== 0));
    await model.unload();
  })));
