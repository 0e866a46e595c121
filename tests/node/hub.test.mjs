// Names on a hub, against a stand-in of one: a list of files in pages, files behind a redirect to
// another origin, a token that must not go there.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { chooseFiles, fileUrl, hubAddress, parseHubName, readTree, treeUrl }
  from '../../dist/src/source/hub.js';
import { listModels } from '../../dist/src/store/models.js';
import { sha256, startHub } from './hub-stand-in.mjs';
import { splitFile } from './split-file.mjs';
import { MapStore, root } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const parts = splitFile(file, 2);

let engine;
let expected;
let hub;
let site;

before(async () => {
  engine = await Engine.open({ threads: 1 });
  hub = await startHub();
  ({ site } = hub);
  const model = await loadModel(engine, file);
  expected = model.hash;
  model.destroy();
});
beforeEach(() => {
  Object.keys(site).forEach((key) => delete site[key]);
  Object.assign(site, { asked: [], files: { 'README.md': Buffer.from('# m'), 'm-Q4_K_M.gguf': file,
    'm-Q8_0.gguf': Buffer.from('no model'.padEnd(2000)), 'mmproj-m.gguf': file } });
});
after(() => {
  engine.destroy();
  hub.close();
});

async function load(name, options = {}) {
  const model = await loadModel(engine, name, { hub: hub.origin, ...options });
  const { hash } = model;
  model.destroy();
  return hash;
}

const fails = (name, options, message, code = 'SOURCE_FAILED') =>
  assert.rejects(load(name, options), { name: 'OneKVError', code, message });

test('names are read, and others refused', () => {
  assert.deepEqual(parseHubName('hf:org/m.o-d_el'),
    { repo: 'org/m.o-d_el', quant: undefined, file: undefined, revision: 'main' });
  assert.deepEqual(parseHubName('HF://org/m:Q4_K_M/sub dir/m.gguf@refs/pr/1'),
    { repo: 'org/m', quant: 'Q4_K_M', file: 'sub dir/m.gguf', revision: 'refs/pr/1' });
  for (const wrong of ['hf:', 'hf:org', 'hf:org/', 'hf:org/m/file.bin', 'hf:../m', 'hf:org/..',
    'hf:org/m/../x.gguf', 'hf:org/m@../x', 'hf:org/m:', 'hf:org/m@', 'hf:org/m?x', 'hf:a/b#c']) {
    assert.throws(() => parseHubName(wrong),
      { code: 'INVALID_ARGUMENT', message: /source/ }, wrong);
  }
  const name = parseHubName('hf:org/m/a b/c#.gguf@refs/pr/1'.replace('#', '+'));
  const at = hubAddress('https://mirror.example/hub');
  assert.equal(treeUrl(name, at).href,
    'https://mirror.example/hub/api/models/org/m/tree/refs%2Fpr%2F1?recursive=true');
  assert.equal(fileUrl(name, name.file, at).href,
    'https://mirror.example/hub/org/m/resolve/refs%2Fpr%2F1/a%20b/c%2B.gguf');
  assert.throws(() => hubAddress('file:///hub'), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => readTree({ error: 'no' }), { code: 'SOURCE_FAILED' });
  // In an address these would lead out of the repository, and on a terminal do other things.
  const paths = ['../m.gguf', 'a/../../m.gguf', '/m.gguf', 'a//m.gguf', './m.gguf', '..', '',
    '\x1b[2Jm.gguf', 'm\n.gguf', '..m/m...gguf', 'a b/ü%2e%2e#?.gguf'];
  assert.deepEqual(readTree(paths.map((path) => ({ type: 'file', path }))).map(({ path }) => path),
    paths.slice(-2));
  assert.deepEqual(readTree([null, 1, { type: 'file' }, { type: 'file', path: 'a', lfs: 1 }]),
    [{ path: 'a', sha256: undefined }]);
});

test('without a quantisation there is a rule', () => {
  const choose = (name, paths) => chooseFiles(parseHubName(name),
    paths.map((path) => ({ path, sha256: undefined }))).map(({ path }) => path);
  const paths = ['a-Q2_K.gguf', 'a-Q8_0.gguf', 'a-IQ4_XS.gguf', 'mmproj-a-f16.gguf',
    'x.imatrix.gguf'];
  const refuses = (name, files, message) => assert.throws(() => choose(name, files), { message });
  assert.deepEqual(choose('hf:o/m', paths), ['a-Q8_0.gguf']);
  assert.deepEqual(choose('hf:o/m', [...paths, 'a.q4_k_m.gguf']), ['a.q4_k_m.gguf']);
  assert.deepEqual(choose('hf:o/m', ['only.gguf', 'mmproj.gguf']), ['only.gguf']);
  assert.deepEqual(choose('hf:o/m:iq4_xs', paths), ['a-IQ4_XS.gguf']);
  assert.deepEqual(choose('hf:o/m/mmproj-a-f16.gguf', paths), ['mmproj-a-f16.gguf']);
  const split = ['Q4_K_M/a-00002-of-00002.gguf', 'Q4_K_M/a-00001-of-00002.gguf'];
  assert.deepEqual(choose('hf:o/m', split), [...split].reverse());
  refuses('hf:o/m', [split[1]], /a-00002-of-00002\.gguf is missing/);
  refuses('hf:o/m:Q4', paths, /no file of Q4; .*a-Q2_K\.gguf, a-Q8/);
  refuses('hf:o/m', ['a-Q2_K.gguf', 'a-Q3_K.gguf'], /say which file/);
  refuses('hf:o/m', ['a.bin'], /there are: none/);
  refuses('hf:o/m:F16', ['a-f16.gguf', 'b-f16.gguf'], /in several/);
});

test('a name loads its file, checked, with the token to the hub alone', limit, async () => {
  site.token = 'secret';
  const names = new Set();
  const onProgress = ({ name }) => names.add(name);
  assert.equal(await load('hf:org/model', { token: 'secret', onProgress }), expected);
  assert.deepEqual([...names], ['hf:org/model/m-Q4_K_M.gguf']);
  const bearer = 'Bearer secret';
  const tree = '/api/models/org/model/tree/main';
  assert.deepEqual(site.asked, [...Array(3).fill(['hub', tree, bearer, undefined]),
    ['hub', '/org/model/resolve/main/m-Q4_K_M.gguf', bearer, 'bytes=0-'],
    ['cdn', 'm-Q4_K_M.gguf', undefined, 'bytes=0-']]);
  site.asked.length = 0;
  site.token = undefined;
  assert.equal(await load('hf:org/model', { headers: { 'x-own': 'mine' } }), expected);
  assert.deepEqual(site.asked.filter(([who, , own]) => who === 'cdn' && own), []);
  await fails('hf:org/model:Q8_0', {}, /^hf:org\/model\/m-Q8_0\.gguf: found text/, 'NOT_GGUF');
  site.wrongDigest = '0'.repeat(64);
  await fails('hf:org/model', {}, /expected 0{64}/, 'INTEGRITY_FAILED');
  await fails('hf:org/model', { integrity: sha256(file) }, /found bytes of SHA-256 0{64}/,
    'INTEGRITY_FAILED');
});

test('refusals of the hub are in words of who asked', limit, async () => {
  site.token = 'secret';
  await fails('hf:org/model', {}, /^hf:org\/model: the hub shows org\/model to nobody without a/);
  await fails('hf:org/model', { token: 'other' }, /to nobody of this token/);
  site.token = undefined;
  await fails('hf:org/none', {}, /the hub has no org\/none, or no main of it/);
  await fails('hf:org/model:Q6_K', {}, /no file of Q6_K; of GGUF files there are: m-Q4_K_M/);
  await fails('hf:org/model', { refresh: () => undefined }, /refresh/, 'INVALID_ARGUMENT');
});

test('what is stored is used, and without the hub too', limit, async () => {
  const store = new MapStore();
  assert.equal(await load('hf:org/model', { store }), expected);
  const [{ key, from, complete }] = await listModels({ store });
  assert.deepEqual([key, from, complete],
    [`sha256-${sha256(file)}`, 'hf:org/model/m-Q4_K_M.gguf', true]);
  site.asked.length = 0;
  assert.equal(await load('hf:org/model:Q4_K_M', { store }), expected);
  assert.deepEqual(site.asked.filter(([, path]) => path.includes('gguf')), []);
  site.isDown = true;
  const notes = [];
  assert.equal(await load('hf:org/model', { store, onNote: (note) => notes.push(note) }), expected);
  assert.match(notes.join(), /^hub: .*; what is stored is used$/);
  await fails('hf:org/model@other', { store }, /fetch failed/);
  await fails('hf:org/model', {}, /fetch failed/);
});

test('a name stands for all parts of a split model', limit, async () => {
  site.files = { 'Q4_K_M/m-00002-of-00002.gguf': parts[1],
    'Q4_K_M/m-00001-of-00002.gguf': parts[0] };
  const store = new MapStore();
  assert.equal(await load('hf:org/model', { store }), expected);
  assert.deepEqual((await listModels({ store })).map(({ from }) => from).sort(),
    [1, 2].map((part) => `hf:org/model/Q4_K_M/m-0000${part}-of-00002.gguf`));
  site.isDown = true;
  assert.equal(await load('hf:org/model', { store }), expected);
});

test('the package takes names, in a worker', limit, async () => {
  const options = { hub: hub.origin, threads: 1 };
  let source;
  const model = await OneKV.load('hf:org/model', { ...options, monitor: (m) =>
    m.addEventListener('downloadprogress', (event) => { source = event.source; }) });
  assert.equal(model.hash, expected);
  assert.equal(source, 'hf:org/model/m-Q4_K_M.gguf');
  await model.unload();
  assert.equal((await OneKV.estimate('hf:org/model', options)).fileBytes, file.length);
});
