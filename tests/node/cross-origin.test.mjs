// Files that all sites share, against a stand-in of Cross-Origin Storage.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { MapStore, root } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const integrity = createHash('sha256').update(file).digest('hex');

let engine;
let server;
let url;
let requests;
/** Of the stand-in: bytes by digest, and what was asked. */
let shared;
let asked;
let waiting;

/** As the proposal has it; a file is there once its writer was closed. */
const crossOriginStorage = {
  async getFileHandle({ algorithm, value }, { create = false, origins } = {}) {
    assert.equal(algorithm, 'SHA-256');
    asked.push([create ? 'create' : 'get', value, origins]);
    if (!create && !shared.has(value)) throw new DOMException('none', 'NotFoundError');
    return {
      getFile: async () => new Blob([shared.get(value)]),
      createWritable: async () => {
        const parts = [];
        return {
          write: async (chunk) => { parts.push(Buffer.from(chunk)); },
          close: async () => {
            shared.set(value, Buffer.concat(parts));
            waiting?.();
          },
        };
      },
    };
  },
};

before(async () => {
  Object.defineProperty(globalThis, 'navigator',
    { value: { hardwareConcurrency: 2, crossOriginStorage }, configurable: true });
  engine = await Engine.open({ threads: 1 });
  server = createServer((request, response) => {
    requests += 1;
    response.writeHead(200, { 'content-length': file.length }).end(file);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
});
beforeEach(() => {
  requests = 0;
  asked = [];
  shared = new Map();
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
});

async function load(options) {
  const model = await loadModel(engine, url, { integrity, store: new MapStore(), ...options });
  model.destroy();
}

test('a file of another site is used, and nothing is downloaded', limit, async () => {
  shared.set(integrity, file);
  await load();
  const model = await OneKV.load(url, { integrity, threads: 1, store: new MapStore() });
  await model.unload();
  assert.equal(requests, 0);
  assert.deepEqual(asked, Array(2).fill(['get', integrity, undefined]));
});

test('loading goes on without a file that is not what its digest says', limit, async () => {
  shared.set(integrity, file.subarray(0, -1));
  await load();
  assert.equal(requests, 1);
  shared.set(integrity, Buffer.from('something else'));
  await load();
  assert.equal(requests, 2);
});

test('what anybody may download is given to all sites, in a worker too', limit, async () => {
  const given = () => new Promise((resolve) => { waiting = resolve; });
  let coming = given();
  await load();
  await coming;
  assert.deepEqual(shared.get(integrity), file);
  shared.clear();
  coming = given();
  const model = await OneKV.load(url, { integrity, threads: 1, store: new MapStore() });
  await coming;
  await model.unload();
  assert.deepEqual(shared.get(integrity), file);
  assert.deepEqual(asked.at(-1), ['create', integrity, '*']);
});

test('what needed a key is not, nor what has no digest, nor without a store', limit, async () => {
  await load({ token: 'secret' });
  await load({ headers: { cookie: 'a' } });
  await load({ store: 'none' });
  const model = await loadModel(engine, url, { store: new MapStore() });
  model.destroy();
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  assert.equal(requests, 4);
  assert.deepEqual(asked.filter(([kind]) => kind === 'create'), []);
  assert.equal(shared.size, 0);
});
