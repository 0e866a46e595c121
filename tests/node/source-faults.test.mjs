// Sources that misbehave: short files, refusals in the middle, silence, two loads at once. What a
// fault must not do is lose bytes that are of use, or keep bytes that are of none.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { deleteModel, listModels } from '../../dist/src/store/models.js';
import { MapStore, root } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-qkv.q8_0.gguf`);
const digest = createHash('sha256').update(file).digest('hex');
const partBytes = 2 << 20;

let engine;
let server;
let url;
/** { bytes, statuses: of the next answers, retryAfter, silentAfter, asked } */
let site;

function answer(request, response) {
  const { range } = request.headers;
  site.asked.push(range);
  const status = site.statuses.shift();
  if (status !== undefined) {
    return response.writeHead(status, site.retryAfter === undefined ? {}
      : { 'retry-after': site.retryAfter }).end();
  }
  const start = Number(/^bytes=(\d+)-/.exec(range)?.[1] ?? 0);
  const total = site.bytes.length;
  if (start >= total) {
    return response.writeHead(416, { 'content-range': `bytes */${total}` }).end();
  }
  response.writeHead(206, { etag: site.tag, 'content-length': total - start,
    'content-range': `bytes ${start}-${total - 1}/${total}` });
  const { silentAfter } = site;
  site.silentAfter = undefined;
  if (silentAfter === undefined) return response.end(site.bytes.subarray(start));
  return response.write(site.bytes.subarray(start, start + silentAfter));
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
});
beforeEach(() => {
  site = { bytes: file, tag: '"one"', statuses: [], asked: [] };
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
});

async function load(options = {}, from = url) {
  const model = await loadModel(engine, from, options);
  model.destroy();
}

/** A store with the first two parts of the file, as an abort leaves it. */
async function beginning() {
  const store = new MapStore();
  const controller = new AbortController();
  await assert.rejects(load({ store, signal: controller.signal,
    onProgress: ({ loaded }) => { if (loaded > 4_500_000) controller.abort(); } }));
  site.asked.length = 0;
  return store;
}

test('a short file is not kept as whole, and the repaired one is fetched', limit, async () => {
  const store = new MapStore();
  site.bytes = file.subarray(0, 3_000_000);
  await assert.rejects(load({ store }), { code: 'TRUNCATED' });
  assert.deepEqual(await listModels({ store }), []);
  assert.equal(store.values.size, 0);
  site.bytes = file;
  site.tag = '"two"';
  await load({ store });
  assert.equal((await listModels({ store }))[0].complete, true);
});

test('a stored copy that core refuses is fetched anew, once', limit, async () => {
  const store = new MapStore();
  await load({ store });
  const first = [...store.values.keys()].find((key) => key.endsWith('-00000'));
  store.values.get(first).fill(0, 0, 4);
  site.asked.length = 0;
  await load({ store });
  assert.deepEqual(site.asked, ['bytes=0-']);
  store.values.get([...store.values.keys()].find((key) => key.endsWith('-00000'))).fill(0, 0, 4);
  site.bytes = Buffer.alloc(100, 'x');
  site.asked.length = 0;
  await assert.rejects(load({ store }), { code: 'NOT_GGUF' });
  assert.deepEqual(site.asked, ['bytes=0-']);
  assert.equal(store.values.size, 0);
});

test('two loads of one address at once are one download and one copy', limit, async () => {
  const store = new MapStore();
  await Promise.all([load({ store }), load({ store })]);
  assert.deepEqual(site.asked, ['bytes=0-']);
  assert.equal((await listModels({ store })).length, 1);
  const parts = [...store.values.keys()].map((key) => key.split('-')[1] ?? 'record');
  assert.equal(new Set(parts).size, 2, 'a record and the parts of one download');
});

test('parts that no record names are swept by the next download', limit, async () => {
  const store = new MapStore();
  const lost = '0123456789abcdef-01234567-00000';
  store.values.set(lost, new Uint8Array(10));
  await load({ store });
  assert.equal(store.values.has(lost), false);
});

test('a refusal throws nothing away, and ends at once', limit, async () => {
  for (const status of [401, 403, 404]) {
    const store = await beginning();
    site.statuses = [status];
    await assert.rejects(load({ store }), { code: 'SOURCE_FAILED', message:
      new RegExp(`status ${status}, expected 200 after ${2 * partBytes} bytes; the address may`) });
    assert.deepEqual(site.asked, [`bytes=${2 * partBytes}-`]);
    assert.equal((await listModels({ store }))[0].bytes, 2 * partBytes);
    await load({ store });
    assert.equal(site.asked.at(-1), `bytes=${2 * partBytes}-`);
  }
});

test('a busy server is waited for, as long as it asks for', limit, async () => {
  for (const status of [408, 429, 503]) {
    const store = await beginning();
    site.statuses = [status];
    site.retryAfter = '1';
    const started = performance.now();
    await load({ store });
    assert.ok(performance.now() - started > 950);
    assert.deepEqual(site.asked, Array(2).fill(`bytes=${2 * partBytes}-`));
  }
  site.statuses = [429];
  site.retryAfter = '3600';
  await assert.rejects(load(), { code: 'SOURCE_FAILED', message: /HTTP status 429/ });
});

test('what is not a model does not cost the beginning that is there', limit, async () => {
  const store = await beginning();
  const { bytes } = site;
  site.bytes = Buffer.from('<!doctype html><title>Sign in</title>');
  await assert.rejects(load({ store }), { code: 'NOT_GGUF' });
  assert.equal((await listModels({ store }))[0].bytes, 2 * partBytes);
  site.bytes = bytes;
  site.asked.length = 0;
  await load({ store });
  assert.deepEqual(site.asked, [`bytes=${2 * partBytes}-`]);
});

test('silence counts as a break', limit, async () => {
  site.silentAfter = 3_000_000;
  await load({ stallSeconds: 0.3 });
  assert.deepEqual(site.asked, ['bytes=0-', 'bytes=3000000-']);
  await assert.rejects(load({ stallSeconds: -1 }), { code: 'INVALID_ARGUMENT' });
});

test('what cannot be asked for again is not stored; failures leave no record', limit, async () => {
  const store = new MapStore();
  const blobUrl = URL.createObjectURL(new Blob([file]));
  await load({ store }, new URL(blobUrl));
  URL.revokeObjectURL(blobUrl);
  site.statuses = [404];
  await assert.rejects(load({ store }), { code: 'SOURCE_FAILED' });
  assert.equal(store.values.size, 0);
});

test('a second signature uses the copy; another file of the path does not', limit, async () => {
  const store = new MapStore();
  await load({ store }, `${url}?X-Amz-Signature=one&X-Amz-Expires=60`);
  site.asked.length = 0;
  await load({ store }, `${url}?X-Amz-Signature=two&X-Amz-Expires=60`);
  assert.deepEqual(site.asked, []);
  // The server is asked whether it is the same file, and says no.
  site.tag = '"other"';
  await load({ store }, `${url}?model=b`);
  assert.deepEqual(site.asked, ['bytes=0-']);
  const [{ key, from }] = await listModels({ store });
  assert.deepEqual([key, from], [url, url]);
});

test('a copy that no address leads to any more is found, and can be deleted', limit, async () => {
  const store = new MapStore();
  await load({ store, integrity: digest });
  // The server has another file there now, which the caller knows by its digest too.
  site.bytes = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
  site.tag = '"new"';
  const newer = createHash('sha256').update(site.bytes).digest('hex');
  await load({ store, integrity: newer });
  const listed = async () => (await listModels({ store }))
    .map(({ sha256, superseded }) => [sha256, superseded]).sort();
  assert.deepEqual(await listed(), [[digest, true], [newer, false]].sort());
  const old = (await listModels({ store })).find(({ superseded }) => superseded);
  assert.equal(await deleteModel(old.key, { store }), true);
  assert.deepEqual(await listed(), [[newer, false]]);
});

test('a copy is deleted by its key, or by where it came from', limit, async () => {
  const store = new MapStore();
  for (const name of [`sha256-${digest}`, url]) {
    await load({ store, integrity: digest });
    assert.equal(await deleteModel(`${url}/other`, { store }), false);
    assert.equal(await deleteModel(name, { store }), true);
    assert.equal(store.values.size, 0);
  }
});

test('a fresh address is asked for, and the download goes on', limit, async () => {
  const store = await beginning();
  site.statuses = [403];
  const told = [];
  await load({ store, refresh: async (refused) => {
    told.push(refused);
    return { url: new URL(`${url}?sig=new`), headers: {} };
  } });
  assert.deepEqual(told, [{ url, status: 403, offset: 2 * partBytes }]);
  assert.deepEqual(site.asked, Array(2).fill(`bytes=${2 * partBytes}-`));
});

test('lazy blobs and responses are read in a worker', limit, async () => {
  class Lazy extends Blob {
    constructor() { super([]); }
    get size() { return file.length; }
    stream() { return new Blob([file]).stream(); }
  }
  const { hash } = await loadModel(engine, file);
  for (const source of [new Lazy(), new Response(file), new Blob([file])]) {
    const model = await OneKV.load(source, { threads: 1 });
    assert.equal(model.hash, hash);
    await model.unload();
  }
  await assert.rejects(OneKV.load(new Response('no', { status: 404 })),
    { code: 'SOURCE_FAILED', message: /status 404/ });
});

test('a module that is not there has one code', limit, async () => {
  for (let i = 0; i < 5; i++) {
    await assert.rejects(OneKV.load(new Blob([file]), { wasmUrl: 'file:///no/such/folder' }),
      { code: 'WASM_FAILED' });
  }
});
