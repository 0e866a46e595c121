// Sources in three browsers: names on a hub, split files, servers that misbehave. The files come
// from other origins, as they do in life.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { root } from '../../wasm/toolchain/shell.mjs';
import { splitFile } from '../node/split-file.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

const limit = { timeout: 180_000 };
const file = readFileSync(join(root, 'models/stories-q-mqa.q8_0.gguf'));
const sha256 = createHash('sha256').update(file).digest('hex');
const [one, two] = splitFile(file, 2);
const files = { 'm.gguf': file, 'short.gguf': file, 'page.gguf': Buffer.from('<!doctype html>'),
  'm-00001-of-00002.gguf': one, 'm-00002-of-00002.gguf': two };

/** What the server of files does, and what it was asked: [path, range, authorization]. */
let site;
let hub;
let cdn;
let pages;

const cors = { 'access-control-allow-origin': '*', 'cache-control': 'no-store',
  'access-control-allow-headers': 'authorization, range',
  'access-control-expose-headers': 'etag, content-range, link' };
const originOf = (server) => `http://127.0.0.1:${server.address().port}`;

function answerHub({ method, url, headers: { authorization } }, response) {
  if (method === 'OPTIONS') return response.writeHead(204, cors).end();
  site.hub.push(authorization);
  if (url.startsWith('/api/models/org/model/tree/main')) {
    return response.writeHead(200, cors).end(JSON.stringify([{ type: 'file', path: 'm.gguf',
      lfs: { oid: sha256 } }]));
  }
  return response.writeHead(302, { ...cors, location: `${originOf(cdn)}/m.gguf?signed=1` }).end();
}

function answerFile({ method, url, headers }, response) {
  if (method === 'OPTIONS') return response.writeHead(204, cors).end();
  const path = new URL(url, originOf(cdn)).pathname.slice(1);
  site.asked.push([path, headers.range, headers.authorization]);
  const bytes = site.short === path ? files[path].subarray(0, 3_000_000) : files[path];
  if (bytes === undefined) return response.writeHead(404, cors).end();
  if (site.gzip) {
    const packed = gzipSync(bytes, { level: 1 });
    return response.writeHead(200, { ...cors, 'content-encoding': 'gzip',
      'content-length': packed.length }).end(packed);
  }
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range) ?? [0, 0, ''];
  if (site.refuse && Number(first) > 0 && !url.includes('fresh')) {
    return response.writeHead(403, cors).end();
  }
  const end = last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
  response.writeHead(206, { ...cors, etag: '"one"', 'content-length': end - first,
    'content-range': `bytes ${first}-${end - 1}/${bytes.length}` });
  const cut = site.cutAt !== undefined && Number(first) === 0 ? site.cutAt : end;
  return response.write(bytes.subarray(first, cut), () => {
    if (cut === end) response.end();
    else if (!site.isSilent) setTimeout(() => response.destroy(), 100);
  });
}

before(async () => {
  [hub, cdn] = [createServer(answerHub), createServer(answerFile)];
  await Promise.all([hub, cdn].map((server) =>
    new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); })));
  pages = await serve({ mounts: { '/dist/': join(root, 'dist'),
    '/': join(root, 'tests/browser/page') } });
});
after(async () => {
  for (const server of [hub, cdn]) {
    server.closeAllConnections();
    server.close();
  }
  await pages.close();
});

const prelude = () => `
  const { OneKV } = await import('/dist/src/onekv.js');
  const hub = '${originOf(hub)}', cdn = '${originOf(cdn)}';
  const load = async (source, options = {}) => {
    try {
      const model = await OneKV.load(source, { threads: 1, ...options });
      const { hash } = model;
      await model.unload();
      return hash;
    } catch ({ code, message }) {
      return { code, message };
    }
  };
  const fetched = async (name) => new Uint8Array(await (await fetch(cdn + '/' + name))
    .arrayBuffer());
`;

async function tests(browser) {
  const step = async (body, faults = {}) => {
    site = { hub: [], asked: [], ...faults };
    return browser.evaluate(`(async () => { ${prelude()} ${body} })()`);
  };
  await browser.open(`${pages.origin}/empty.html`);
  // The first look keeps the store open: private windows of WebKit forget it else.
  await step('globalThis.kept = await OneKV.models.list();');
  const hash = await step("return load(cdn + '/m.gguf', { store: 'none' });");
  assert.match(hash, /^[0-9a-f]{16}$/, JSON.stringify(hash));

  assert.equal(await step("return load('hf:org/model', { hub, token: 'secret' });"), hash);
  assert.deepEqual(site.hub, ['Bearer secret', 'Bearer secret']);
  assert.deepEqual(site.asked, [['m.gguf', 'bytes=0-', undefined]]);
  assert.equal(await step("return load('hf:org/model', { hub });"), hash);
  assert.deepEqual(site.asked, [], 'it is stored');

  assert.equal(await step("return load(cdn + '/m-00002-of-00002.gguf');"), hash);
  assert.equal(await step(`const files = [new File([await fetched('m-00002-of-00002.gguf')], 'b'),
    new File([await fetched('m-00001-of-00002.gguf')], 'a')]; return load(files);`), hash);

  const short = await step("return load(cdn + '/short.gguf');", { short: 'short.gguf' });
  assert.equal(short.code, 'TRUNCATED');
  assert.equal(await step("return load(cdn + '/short.gguf');"), hash);
  assert.match((await step("return load(cdn + '/page.gguf');")).message, /found an HTML page/);
  assert.equal(await step("return load(cdn + '/m.gguf?a=1', { store: 'none' });", { gzip: true }),
    hash);
  assert.deepEqual(await step(`return Promise.all([load(cdn + '/m.gguf?b=2', { key: 'two' }),
    load(cdn + '/m.gguf?b=2', { key: 'two' })]);`), [hash, hash]);
  assert.equal(site.asked.length, 1);
  assert.equal(await step(`const bytes = await fetched('m.gguf');
    class Lazy extends Blob {
      constructor() { super([]); }
      get size() { return bytes.length; }
      stream() { return new Blob([bytes]).stream(); }
    }
    return load(new Lazy());`), hash);
  assert.equal(await step("return load(await fetch(cdn + '/m.gguf'));"), hash);
  assert.equal(await step(`return load(cdn + '/m.gguf?c=3', { key: 'three', refresh: ({ status }) =>
    status === 403 ? cdn + '/m.gguf?fresh=1' : undefined });`, { refuse: true, cutAt: 2_500_000 }),
  hash);
  assert.equal(await step("return load(cdn + '/m.gguf?d=4', { key: 'four', stallSeconds: 1 });",
    { cutAt: 2_500_000, isSilent: true }), hash);
  const texts = await step(`const model = await OneKV.load(cdn + '/m.gguf?b=2',
    { key: 'two', threads: 1, unloadAfter: 0.1 });
    const session = await model.createSession({ temperature: 0 });
    const first = await session.prompt('Once', { maxTokens: 4 });
    while (model.isLoaded) await new Promise((resolve) => setTimeout(resolve, 20));
    const second = await session.prompt(' and', { maxTokens: 4 });
    await model.unload();
    return [first, second];`);
  assert.deepEqual(texts.map((text) => text.length > 0), [true, true]);
}

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let browser;

    before(async () => {
      browser = await launch(name);
    });
    after(() => browser?.close());
    test('sources of all kinds', limit, () => tests(browser));
  });
}
