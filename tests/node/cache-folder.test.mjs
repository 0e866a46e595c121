// The cache folder as other programs and full disks leave it: what was to be kept and could not be
// is an error, and one bad entry is shown and removed like any other.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync,
  symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, storeModel } from '../../dist/src/engine-entry-node.js';
import { folderStore } from '../../dist/src/store/folder-node.js';
import { MapStore, root, runOneKV } from './support.mjs';

const limit = { timeout: 120_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const partBytes = 2 << 20;

let engine;
let server;
let url;
let cache;
let asked;
/** Of the next answers: not before this is resolved. */
let gate;

async function answer({ headers: { range } }, response) {
  asked.push(range);
  await gate;
  const start = Number(/^bytes=(\d+)-/.exec(range)[1]);
  response.writeHead(206, { etag: '"one"', 'content-length': file.length - start,
    'content-range': `bytes ${start}-${file.length - 1}/${file.length}` });
  response.end(file.subarray(start));
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
});
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'onekv-cache-'));
  asked = [];
  gate = undefined;
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
});

const onekv = (...args) => runOneKV(args, { ONEKV_CACHE: cache });

async function succeeds(...args) {
  const { status, stdout, stderr } = await onekv(...args);
  assert.equal(status, 0, stderr);
  return stdout;
}

/** Fails with status 1 and one line. */
async function fails(pattern, ...args) {
  const { status, stderr } = await onekv(...args);
  assert.match(stderr, pattern);
  assert.match(stderr, /^onekv: .*\n$/);
  assert.equal(status, 1);
}

test('pull fails where the folder cannot be, and other commands go on', limit, async () => {
  rmSync(cache, { recursive: true });
  writeFileSync(cache, '');
  await fails(/the folder .*: it is not a folder/, 'pull', url);
  await fails(/the folder .*: it is not a folder/, 'list');
  await fails(/the folder .*: it is not a folder/, 'remove', url);
  const args = ['generate', url, '-p', 'Once', '--max-tokens', '2'];
  const { status, stderr } = await onekv(...args);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /store: the model was not stored: .*it is not a folder/);
});

test('what cannot be kept is an error of storeModel at once, and a try later goes on',
  limit, async () => {
    for (const [failing, stored] of [['00000', 0], ['00001', 1]]) {
      const store = new MapStore();
      const { put } = store;
      store.put = (key, value) => (key.endsWith(failing)
        ? Promise.reject(new Error('no room is left')) : put(key, value));
      await assert.rejects(storeModel(engine, url, { store }), { code: 'SOURCE_FAILED',
        message: /model\.gguf: store: the model was not stored: no room is left$/ });
      store.put = put;
      asked = [];
      await storeModel(engine, url, { store });
      assert.deepEqual(asked, [`bytes=${stored * partBytes}-`]);
    }
    for (const method of ['keys', 'put']) {
      const store = new MapStore();
      store[method] = () => Promise.reject(new Error(`${method} is broken`));
      await assert.rejects(storeModel(engine, url, { store }), { code: 'SOURCE_FAILED',
        message: new RegExp(`not stored: ${method} is broken`) });
    }
    await assert.rejects(storeModel(engine, url, { store: 'none' }), { code: 'SOURCE_FAILED',
      message: /not stored: there is no store/ });
  });

test('what somebody else removes on its way is fetched again', limit, async () => {
  const store = new MapStore();
  const { put } = store;
  store.put = async (key, value) => {
    await put(key, value);
    if (!key.endsWith('-00001') || asked.length > 1) return;
    store.values.clear();
  };
  await storeModel(engine, url, { store });
  assert.equal(asked.length, 2);
  assert.equal(JSON.parse(Buffer.from([...store.values].find(([key]) =>
    key.endsWith('.json'))[1])).totalBytes, file.length);
});

test('two processes that pull a file at once both have it in the end', limit, async () => {
  let open;
  gate = new Promise((resolve) => { open = resolve; });
  const both = [onekv('pull', url), onekv('pull', url)];
  while (asked.length < 2) await new Promise((resolve) => { setTimeout(resolve, 10); });
  open();
  for (const { status, stderr } of await Promise.all(both)) assert.equal(status, 0, stderr);
  const models = JSON.parse(await succeeds('list', '--json'));
  assert.deepEqual(models.map(({ complete }) => complete), [true]);
});

const isRoot = process.getuid?.() === 0;

test('bad entries hide no others, are shown, and can be removed', limit, async () => {
  await succeeds('pull', url);
  const downloads = join(cache, 'downloads');
  const record = readdirSync(downloads).find((name) => name.endsWith('.json'));
  const good = JSON.parse(readFileSync(join(downloads, record), 'utf8'));
  const own = readdirSync(downloads).length;
  const bad = {
    '0000000000000000.json': mkdirSync,
    '1111111111111111.json': (path) => symlinkSync('/nowhere/at/all', path),
    '2222222222222222.json': (path) => symlinkSync(path, path),
    '3333333333333333.json': (path) => writeFileSync(path, '{"version":2,'),
    '4444444444444444.json': (path) => writeFileSync(path, JSON.stringify(good)),
    '5555555555555555.json': (path) => writeFileSync(path, Buffer.alloc(100, 0xff)),
    ...(isRoot ? {} : { '6666666666666666.json': (path) => {
      writeFileSync(path, '{}');
      chmodSync(path, 0);
    } }),
  };
  for (const [name, make] of Object.entries(bad)) make(join(downloads, name));
  const listed = JSON.parse(await succeeds('list', '--json'));
  assert.deepEqual(listed.filter(({ damaged }) => damaged).map(({ key }) => key),
    Object.keys(bad));
  assert.deepEqual(listed.filter(({ damaged }) => !damaged).map(({ key }) => key), [url]);
  assert.match(await succeeds('list'), /^0000000000000000\.json +0 B +damaged/m);
  for (const name of Object.keys(bad)) await succeeds('remove', name);
  assert.equal(readdirSync(downloads).length, own);
  await succeeds('remove', url);
  assert.deepEqual(readdirSync(downloads), []);
});

test('a record with values of other kinds is damaged, and is downloaded again', limit, async () => {
  await succeeds('pull', url);
  const downloads = join(cache, 'downloads');
  const name = readdirSync(downloads).find((key) => key.endsWith('.json'));
  const path = join(downloads, name);
  const good = JSON.parse(readFileSync(path, 'utf8'));
  const changes = [{ storedAt: Number.MAX_SAFE_INTEGER }, { storedAt: '1' }, { key: 7 },
    { generation: [good.generation] }, { sha256: [good.sha256] }, { totalBytes: '9' },
    { partBytes: 1e300 }, { from: null }, { validator: {} }, { isOwn: 1 }];
  for (const change of changes) {
    writeFileSync(path, JSON.stringify({ ...good, ...change }));
    const [model, ...others] = JSON.parse(await succeeds('list', '--json'));
    assert.deepEqual([model.key, model.damaged, others], [name, true, []],
      JSON.stringify(change));
  }
  for (const text of ['null', '[]', '"text"', '7']) writeFileSync(path, text);
  await succeeds('pull', url);
  assert.match(await succeeds('list'), /model\.gguf +[\d.]+ MB +complete/);
});

test('a folder where a record or a part should be is replaced by a pull', limit, async () => {
  for (const ending of ['.json', '-00000']) {
    await succeeds('pull', url);
    const downloads = join(cache, 'downloads');
    const path = join(downloads, readdirSync(downloads).find((name) => name.endsWith(ending)));
    rmSync(path);
    mkdirSync(path);
    writeFileSync(join(path, 'inside'), '');
    await succeeds('pull', url);
    assert.match(await succeeds('list'), /model\.gguf +[\d.]+ MB +complete/);
    await succeeds('remove', url);
  }
});

test('bad entries among fetched models are shown and removed, too', limit, async () => {
  const folder = join(cache, 'models');
  mkdirSync(join(folder, 'folder.gguf'), { recursive: true });
  symlinkSync('/nowhere', join(folder, 'link.gguf'));
  writeFileSync(join(folder, 'good.gguf'), file);
  const models = JSON.parse(await succeeds('list', '--json'));
  assert.deepEqual(models.map(({ from, damaged = false }) => [from, damaged]),
    ['folder', 'good', 'link'].map((name) => [join(folder, `${name}.gguf`), name !== 'good']));
  for (const { from } of models) await succeeds('remove', from);
  assert.deepEqual(readdirSync(folder), []);
  rmSync(folder, { recursive: true });
  writeFileSync(folder, 'no folder');
  assert.deepEqual(JSON.parse(await succeeds('list', '--json')), []);
});

test('what a process left that was ended while it wrote is swept', limit, async () => {
  const [old, young, living] = ['.99999999-a-00000', '.99999998-a-00000',
    `.${process.pid}-a-00000`].map((name) => join(cache, name));
  for (const path of [old, young, living]) writeFileSync(path, 'x');
  for (const path of [old, living]) utimesSync(path, 1, 1);
  await folderStore(cache).put('key', new Uint8Array(1));
  assert.deepEqual([old, young, living].map(existsSync), [false, true, true]);
});
