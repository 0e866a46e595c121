// Downloads and stores: interrupted, resumed, replaced, damaged, full. The server does what a test
// tells it to, and counts what it sent.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel, readHeader } from '../../dist/src/engine-entry-node.js';
import { deleteModel, listModels } from '../../dist/src/store/models.js';
import { MapStore, root } from './support.mjs';

const file = readFileSync(`${root}models/stories-qkv.q8_0.gguf`);
const hex = (bytes) => createHash('sha256').update(bytes).digest('hex');
const digest = hex(file);
const partBytes = 2 << 20;

let engine;
let expected;
let server;
let url;
/** What the server does; reset before each test. */
let site;

/** Breaks the connection once the client has read what there is before the break: what comes
 * with the news of a break may be dropped. */
function hasRead(bytes) {
  if (bytes >= site.breaking?.at) site.breaking.response.destroy();
}

/** { bytes, tag, ranges, breakAfter: bytes of each answer after which it breaks off } */
function answer(request, response) {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const total = site.bytes.length;
  site.asked.push(request.headers.range ?? 'all');
  if (site.down) return response.destroy();
  const start = range && site.ranges ? Number(range[1]) : 0;
  const end = range && site.ranges && range[2] ? Math.min(Number(range[2]), total - 1) : total - 1;
  response.writeHead(range && site.ranges ? 206 : 200, {
    'content-length': end - start + 1,
    ...(site.tag ? { etag: site.tag } : {}),
    ...(range && site.ranges ? { 'content-range': `bytes ${start}-${end}/${total}` } : {}),
  });
  const limit = site.breakAfter.shift() ?? total;
  const body = site.bytes.subarray(start, Math.min(end + 1, start + limit));
  site.sent += body.length;
  const at = start + body.length;
  site.breaking = at < end + 1 ? { at, response } : undefined;
  response.write(body);
  if (site.breaking === undefined) response.end();
  else if (body.length === 0) response.destroy();
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
  const model = await loadModel(engine, file);
  expected = model.hash;
  model.destroy();
});
beforeEach(() => {
  site = { bytes: file, tag: '"one"', ranges: true, breakAfter: [], asked: [], sent: 0 };
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
});

/** Loads from the server, checks that it is the model, and gives the notes. */
async function load(options = {}) {
  const notes = [];
  const model = await loadModel(engine, url, { onNote: (note) => notes.push(note),
    onProgress: ({ loaded }) => hasRead(loaded), ...options });
  assert.equal(model.hash, expected);
  model.destroy();
  return notes;
}

const dies = (options, error) => assert.rejects(load(options), error);
/** Breaks off for good after that many bytes. */
function breakAfter(bytes) {
  site.breakAfter = [bytes, 0, 0, 0, 0, 0];
}

test('what was stored whole is used without the network', { timeout: 60_000 }, async () => {
  const store = new MapStore();
  assert.deepEqual(await load({ store }), []);
  const [entry] = await listModels({ store });
  assert.deepEqual({ ...entry, storedAt: 0 }, { key: url, from: url, bytes: file.length,
    totalBytes: file.length, complete: true, sha256: digest, storedAt: 0, superseded: false });
  site.down = true;
  await load({ store });
  await load({ store, integrity: digest });
  await load({ store, integrity: `sha256-${Buffer.from(digest, 'hex').toString('base64')}` });
  assert.equal(await readHeader(engine, url, { store }, (loader) => loader.fileBytes), file.length);
  assert.deepEqual(site.asked, ['bytes=0-']);
  assert.equal(await deleteModel(url, { store }), true);
  assert.equal(await deleteModel(url, { store }), false);
  assert.equal(store.values.size, 0);
  await dies({ store }, { code: 'SOURCE_FAILED' });
});

test('a download that breaks off goes on by range, in the same load', { timeout: 60_000 },
  async () => {
    site.breakAfter = [1_000_000, 500_000];
    const store = new MapStore();
    assert.deepEqual(await load({ store, integrity: digest }), []);
    assert.deepEqual(site.asked, ['bytes=0-', 'bytes=1000000-', 'bytes=1500000-']);
    assert.equal(site.sent, file.length);
    assert.equal((await listModels({ store }))[0].complete, true);
  });

test('the next load goes on from what was stored', { timeout: 60_000 }, async () => {
  const store = new MapStore();
  const controller = new AbortController();
  await assert.rejects(loadModel(engine, url, { store, signal: controller.signal,
    onProgress: ({ loaded }) => { if (loaded > 4_500_000) controller.abort(); } }),
  { name: 'AbortError' });
  const [entry] = await listModels({ store });
  assert.equal(entry.bytes, 2 * partBytes);
  assert.equal(entry.complete, false);
  site.asked.length = 0;
  assert.deepEqual(await load({ store, integrity: digest }), []);
  assert.deepEqual(site.asked, [`bytes=${2 * partBytes}-`]);
  const [whole] = await listModels({ store });
  assert.equal(whole.sha256, digest);
});

test('a beginning of another version is never used', { timeout: 60_000 }, async () => {
  const abortedAt = async (store) => {
    const controller = new AbortController();
    await assert.rejects(loadModel(engine, url, { store, signal: controller.signal,
      onProgress: ({ loaded }) => { if (loaded > 4_500_000) controller.abort(); } }));
  };
  for (const [first, second] of [['"one"', '"two"'], ['W/"one"', 'W/"one"'], ['', '']]) {
    const store = new MapStore();
    site.bytes = Buffer.alloc(file.length);
    file.copy(site.bytes, 0, 0, partBytes);
    site.tag = first;
    await abortedAt(store);
    site.bytes = file;
    site.tag = second;
    site.sent = 0;
    assert.deepEqual(await load({ store }), []);
    assert.ok(site.sent >= file.length);
    assert.equal((await listModels({ store }))[0].sha256, digest);
  }
});

test('a file replaced in the middle of its download is read from its beginning',
  { timeout: 60_000 }, async () => {
    site.breakAfter = [3_000_000];
    const seen = [];
    const model = loadModel(engine, url, { store: new MapStore(), onProgress: ({ loaded }) => {
      seen.push(loaded);
      site.tag = '"two"';
      hasRead(loaded);
    } });
    assert.equal((await model).hash, expected);
    assert.deepEqual(site.asked, ['bytes=0-', 'bytes=3000000-', `bytes=${partBytes}-`,
      'bytes=0-']);
    (await model).destroy();
  });

test('a server without ranges or tags: no resuming, and no harm', { timeout: 60_000 }, async () => {
  site.tag = '';
  breakAfter(3_000_000);
  const store = new MapStore();
  await dies({ store }, { code: 'SOURCE_FAILED', message: /broke off after 3000000 bytes/ });
  site.breakAfter = [];
  site.ranges = false;
  // With a digest the pieces may be joined, if the server gives pieces.
  await load({ store, integrity: digest });
  assert.deepEqual(site.asked, ['bytes=0-', `bytes=${partBytes}-`]);
  assert.equal((await listModels({ store }))[0].complete, true);
});

test('a digest makes up for a missing tag', { timeout: 60_000 }, async () => {
  site.tag = '';
  breakAfter(3_000_000);
  const store = new MapStore();
  await dies({ store }, { code: 'SOURCE_FAILED' });
  site.breakAfter = [];
  await load({ store, integrity: digest });
  assert.deepEqual(site.asked, ['bytes=0-', `bytes=${partBytes}-`]);
  // And finds out when the pieces do not fit.
  const other = new MapStore();
  site.bytes = Buffer.from(file);
  site.bytes[100_000] ^= 1;
  breakAfter(3_000_000);
  await dies({ store: other }, { code: 'SOURCE_FAILED' });
  site.breakAfter = [];
  site.bytes = file;
  site.asked.length = 0;
  await load({ store: other, integrity: digest });
  assert.deepEqual(site.asked, [`bytes=${partBytes}-`, 'bytes=0-']);
});

test('a wrong byte is found, and not kept', { timeout: 60_000 }, async () => {
  const store = new MapStore();
  site.bytes = Buffer.from(file);
  site.bytes[file.length - 5] ^= 1;
  await dies({ store, integrity: digest }, { code: 'INTEGRITY_FAILED',
    message: new RegExp(`found bytes of SHA-256 ${hex(site.bytes)}, expected ${digest}`) });
  assert.equal(store.values.size, 0);
  await dies({ integrity: digest }, { code: 'INTEGRITY_FAILED' });
  for (const source of [site.bytes, new Blob([site.bytes])]) {
    await assert.rejects(loadModel(engine, source, { integrity: digest }),
      { code: 'INTEGRITY_FAILED' });
  }
  await assert.rejects(loadModel(engine, file, { integrity: 'sha256-abc' }),
    { code: 'INVALID_ARGUMENT' });
  // Stored unchecked, then asked for with a digest: fetched anew.
  const wrong = await loadModel(engine, url, { store });
  wrong.destroy();
  site.bytes = file;
  await load({ store, integrity: digest });
});

test('a stored copy that was damaged is fetched again', { timeout: 60_000 }, async () => {
  const damages = {
    'a byte': (store, key) => { store.values.get(key)[7] ^= 1; },
    'a torn part': (store, key) => store.values.set(key, store.values.get(key).subarray(1)),
    'a missing part': (store, key) => store.values.delete(key),
    'no record': (store) => store.values.delete(
      [...store.values.keys()].find((key) => key.endsWith('.json'))),
    'a record of nonsense': (store) => store.values.set(
      [...store.values.keys()].find((key) => key.endsWith('.json')), Buffer.from('{"version":1')),
  };
  for (const [what, damage] of Object.entries(damages)) {
    const store = new MapStore();
    await load({ store });
    damage(store, [...store.values.keys()].find((key) => key.endsWith('-00001')));
    site.sent = 0;
    await load({ store, integrity: digest });
    assert.ok(site.sent > 0, what);
    site.sent = 0;
    await load({ store, integrity: digest });
    assert.equal(site.sent, 0, what);
  }
});

test('a value deleted before it is read is fetched again', { timeout: 60_000 }, async () => {
  const store = new MapStore();
  await load({ store });
  /** As a file system gives it when another tab deletes it between the asking and the reading. */
  const gone = (name) => Object.assign(new Blob(['gone']), {
    arrayBuffer: () => Promise.reject(new DOMException('not there', name)) });
  // A record is looked for a second time, among all of them.
  for (const [ending, asked, listed, error] of [['.json', 0, 0, 'NotFoundError'],
    ['00001', 1, 1, 'NotFoundError'], ['00001', 1, 1, 'AbortError']]) {
    const late = new MapStore();
    late.values = new Map(store.values);
    const get = late.get;
    let first = true;
    late.get = async (key) => {
      if (!key.endsWith(ending) || !first) return get(key);
      first = false;
      return gone(error);
    };
    site.asked.length = 0;
    assert.deepEqual(await load({ store: late }), []);
    assert.equal(site.asked.length, asked, ending);
    first = true;
    const readable = (await listModels({ store: late })).filter(({ damaged }) => !damaged);
    assert.equal(readable.length, listed);
  }
});

test('a header whose stored copy is gone is read from the network', async () => {
  const store = new MapStore();
  await load({ store });
  const { get } = store;
  // Listed, and deleted by another tab before it is read.
  store.get = async (key) => (key.endsWith('-00000') ? undefined : get(key));
  site.asked.length = 0;
  assert.equal(await readHeader(engine, url, { store }, (loader) => loader.fileBytes), file.length);
  assert.equal(site.asked.length, 1);
});

test('loading goes on without a stored copy that can be neither read nor deleted', async () => {
  const broken = () => Promise.reject(new Error('broken'));
  for (const how of ['get', 'blob']) {
    const store = new MapStore();
    await load({ store });
    const { get } = store;
    const unreadable = Object.assign(new Blob(['?']), { arrayBuffer: broken });
    store.get = (key) => {
      if (key.endsWith('.json')) return get(key);
      return how === 'get' ? broken() : unreadable;
    };
    store.delete = broken;
    site.asked.length = 0;
    await load({ store });
    assert.equal(site.asked.length, 1, how);
  }
});

test('a full or failing store is told of, and the model runs', { timeout: 60_000 }, async () => {
  const full = new MapStore();
  const { put } = full;
  full.put = (key, value) => (key.endsWith('-00001')
    ? Promise.reject(new DOMException('8 MB are left', 'QuotaExceededError')) : put(key, value));
  assert.deepEqual(await load({ store: full }),
    ['store: the model was not stored: no room is left for this site (8 MB are left)']);
  assert.equal(full.values.size, 0, 'the room was given back');
  for (const method of ['get', 'keys', 'put', 'delete']) {
    const failing = new MapStore();
    failing[method] = () => Promise.reject(new Error(`${method} is broken`));
    const notes = await load({ store: failing });
    // Nothing is deleted when there was nothing before.
    if (method !== 'delete') assert.match(notes.join(), new RegExp(`${method} is broken`));
    assert.ok(notes.length <= 1);
  }
});

test('without a store that is there: a note, and the model runs', { timeout: 60_000 }, async () => {
  assert.deepEqual(await load({ store: 'auto' }), [], 'in Node nobody expects one');
  assert.deepEqual(await load({ store: 'opfs' }), ['store: opfs: the engine has none; ' +
    'cache-api: the engine has none; nothing is kept']);
  await assert.rejects(load({ store: 'disk' }), { code: 'INVALID_ARGUMENT' });
  await assert.rejects(load({ store: { get() {} } }),
    { code: 'INVALID_ARGUMENT', message: /store\.put/ });
});

test('a header is read by range, and no further', { timeout: 60_000 }, async () => {
  const bytes = await readHeader(engine, url, {}, (loader) => loader.fileBytes);
  assert.equal(bytes, file.length);
  assert.deepEqual(site.asked, ['bytes=0-1048575']);
  site.ranges = false;
  assert.equal(await readHeader(engine, url, {}, (loader) => loader.fileBytes), file.length);
});
