// The life of a worker: what its end does to those that wait, what it reads from the page, and that
// a program ends that has left one open.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { OneKV } from '../../dist/src/onekv-node.js';
import { endless, root, withWindow } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const bytes = readFileSync(path);
const workerUrl = new URL('workers/failing.mjs', import.meta.url);
const settle = (promise) => promise.then((value) => ({ value }), (error) => ({ error }));

let server;
let origin;
before(async () => {
  server = createServer((request, response) => {
    response.setHeader('content-length', bytes.length);
    response.setHeader('etag', '"1"');
    response.end(bytes);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  origin = `http://127.0.0.1:${server.address().port}`;
});
after(() => server.close());

for (const [end, said] of [['exit', /the worker ended/], ['throw', /out of order/]]) {
  test(`a worker ends (${end}): what was pending rejects, another can be had`, async () => {
    const model = await OneKV.load(withWindow(bytes), { workerUrl, threads: 1 });
    let lost = 0;
    model.addEventListener('lost', () => { lost += 1; });
    const [session, other] = await Promise.all([0, 1].map(() => model.createSession(endless)));
    const answers = [session.generate('Once'), other.generate('Two')];
    const pending = [...answers.map(({ result }) => result), session.append('x')].map(settle);
    // Both are on their way.
    for (const answer of answers) await answer[Symbol.asyncIterator]().next();
    const fatal = settle(other.append(end));
    for (const { error } of [...await Promise.all(pending), await fatal]) {
      assert.equal(error.code, 'WORKER_LOST');
      assert.match(error.message, said);
    }
    assert.equal(lost, 1);
    await assert.rejects(model.createSession(), { code: 'WORKER_LOST' });
    await session.destroy();
    await model.unload();
    const again = await OneKV.load(path, { threads: 1 });
    await again.unload();
  });
}

test('a worker that cannot be started says so', async () => {
  const missing = new URL('workers/missing.mjs', import.meta.url);
  await assert.rejects(OneKV.load(path, { workerUrl: missing }), { code: 'WORKER_LOST' });
  const { available } = await OneKV.availability({ workerUrl: missing });
  assert.equal(available.value, false);
  assert.match(available.reason, /missing/);
});

test('unload rejects what was pending, and a second one is nothing', async () => {
  const model = await OneKV.load(withWindow(bytes), { threads: 2 });
  const session = await model.createSession(endless);
  const pending = settle(session.prompt('Once'));
  await model.unload();
  await model.unload();
  assert.equal((await pending).error.code, 'DESTROYED');
  await assert.rejects(model.memory(), { code: 'DESTROYED' });
});

test('a page\'s own store is used from the worker', async () => {
  const kept = new Map();
  const store = {
    get: async (key) => kept.get(key),
    put: async (key, value) => { kept.set(key, value.slice()); },
    delete: async (key) => { kept.delete(key); },
    keys: async () => [...kept.keys()],
  };
  const first = await OneKV.load(`${origin}/m.gguf`, { store, threads: 1 });
  await first.unload();
  const [stored] = await OneKV.models.list({ store });
  assert.equal(stored.complete, true);
  assert.equal(stored.bytes, bytes.length);
  server.removeAllListeners('request');
  // Not 500, which is asked anew for eight seconds.
  server.on('request', (request, response) => response.writeHead(403).end());
  const second = await OneKV.load(`${origin}/m.gguf`, { store, threads: 1 });
  assert.equal(second.hash, first.hash);
  await second.unload();
  const failing = { ...store, get: async () => { throw new Error('no disk'); } };
  const { error } = await settle(OneKV.load(`${origin}/m.gguf`, { store: failing, threads: 1 }));
  assert.equal(error.code, 'SOURCE_FAILED');
  assert.equal(await OneKV.models.delete(stored.key, { store }), true);
  assert.equal(kept.size, 0);
});

test('a stream is read no faster than it is used, and its error is told', async () => {
  let pulled = 0;
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += 1 << 18) {
      pulled += 1;
      yield new Uint8Array(bytes.subarray(at, at + (1 << 18)));
      if (pulled === 5) throw new Error('the line is cut');
    }
  }
  await assert.rejects(OneKV.load(chunks(), { threads: 1 }), { code: 'SOURCE_FAILED',
    message: /the line is cut/ });
  assert.equal(pulled, 5);
  await assert.rejects(OneKV.load(new Blob(['no model']), { threads: 1 }), { code: 'NOT_GGUF' });
  let leave;
  const left = new Promise((resolve) => { leave = resolve; });
  async function* nonsense() {
    try {
      for (;;) yield new Uint8Array(1000).fill(7);
    } finally {
      leave('who stops reading says so');
    }
  }
  await assert.rejects(OneKV.load(nonsense(), { threads: 1 }), { code: 'NOT_GGUF' });
  assert.ok(await left);
});

test('a bundle that has lost the worker says that the package has to stay outside', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'onekv-bundle-'));
  try {
    await build({ entryPoints: [join(root, 'dist/src/onekv-node.js')], bundle: true, format: 'esm',
      platform: 'node', outfile: join(folder, 'bundle.mjs'), logLevel: 'error' });
    const bundle = await import(pathToFileURL(join(folder, 'bundle.mjs')));
    await assert.rejects(bundle.OneKV.load(path), { code: 'WORKER_LOST',
      message: /main-node\.js.*; where a bundler took .*serverExternalPackages/ });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('estimate tells what a file takes; availability what there is', async () => {
  const estimate = await OneKV.estimate(path, { cacheType: 'f32' });
  assert.equal(estimate.bytesPerToken, 1024);
  assert.equal(estimate.standardBytesPerToken.MHA, 32 * 1024);
  assert.equal(estimate.fileBytes, bytes.length);
  const { weightBytes, scratchBytes } = estimate;
  assert.equal(estimate.contextFor(weightBytes + scratchBytes + 1024 * 10), 10);
  assert.equal(estimate.contextFor(weightBytes), 0);
  assert.equal(estimate.contextFor(1e12), 4096);
  const there = await OneKV.availability({ threads: 2 });
  assert.equal(there.available.value, true);
  assert.equal(there.threads.value, 2);
  assert.equal(there.store.value, 'none');
});

test('a program that leaves its model open ends by itself', () => {
  execFileSync(process.execPath, ['--input-type=module', '-e', `
    import { OneKV } from 'onekv';
    const model = await OneKV.load(${JSON.stringify(path)}, { threads: 2 });
    const session = await model.createSession();
    await session.prompt('Once', { maxTokens: 3 });`], { cwd: root, timeout: 60_000 });
});
