// Models in several files: by paths, addresses and arrays; what is missing or foreign is named.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel, readHeader } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { parseHeader } from '../../dist/src/source/gguf-header.js';
import { partNames } from '../../dist/src/source/split.js';
import { listModels } from '../../dist/src/store/models.js';
import { splitFile } from './split-file.mjs';
import { MapStore, goldenFolder, root, withKeys } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const nameOf = (part, count = 3) => `m-0000${part}-of-0000${count}.gguf`;
const parts = splitFile(file, 3);

let engine;
let folder;
let server;
let origin;
let expected;
/** { files: bytes by name, asked, breakAt: of the first answer to each, by name } */
let site;

function answer({ url, headers }, response) {
  const name = url.slice(1).split('?')[0];
  const bytes = site.files[name];
  site.asked.push(`${name} ${headers.range}`);
  if (bytes === undefined) return response.writeHead(404).end();
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range);
  const end = last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1);
  response.writeHead(206, { etag: `"${bytes.length}"`, 'content-length': end - first,
    'content-range': `bytes ${first}-${end - 1}/${bytes.length}` });
  const stop = last === '' ? site.breakAt[name] ?? end : end;
  if (last === '') delete site.breakAt[name];
  return response.write(bytes.subarray(first, stop), () => (stop < end
    ? setTimeout(() => response.destroy(), 50) : response.end()));
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  const model = await loadModel(engine, file);
  expected = model.hash;
  model.destroy();
  folder = mkdtempSync(join(tmpdir(), 'onekv-split-'));
  parts.forEach((bytes, i) => writeFileSync(join(folder, nameOf(i + 1)), bytes));
  server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  origin = `http://127.0.0.1:${server.address().port}`;
});
beforeEach(() => {
  site = { asked: [], breakAt: {},
    files: Object.fromEntries(parts.map((bytes, i) => [nameOf(i + 1), bytes])) };
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

async function hashOf(source, options) {
  const model = await loadModel(engine, source, options);
  const { hash } = model;
  model.destroy();
  return hash;
}

const fails = (source, code, message) =>
  assert.rejects(loadModel(engine, source), { name: 'OneKVError', code, message });

test('one name stands for all', () => {
  assert.deepEqual(partNames('a/m-00002-of-00003.GGUF'), ['a/m-00001-of-00003.GGUF',
    'a/m-00002-of-00003.GGUF', 'a/m-00003-of-00003.GGUF']);
  for (const name of ['m.gguf', 'm-00001-of-00001.gguf', 'm-1-of-2.gguf', 'm-00001-of-99999.gguf',
    'm-00001-of-00003.gguf.txt']) {
    assert.equal(partNames(name), undefined);
  }
});

test('split files are the model that the whole file is, from anywhere', limit, async () => {
  assert.equal(await hashOf(join(folder, nameOf(1))), expected);
  assert.equal(await hashOf(join(folder, nameOf(3))), expected);
  assert.equal(await hashOf(`${origin}/${nameOf(2)}?signed=1`), expected);
  const files = parts.map((bytes, i) => new File([bytes], nameOf(i + 1)));
  assert.equal(await hashOf([files[2], files[0], files[1]]), expected);
  assert.equal(await hashOf([parts[1], new Blob([parts[0]]), `${origin}/${nameOf(3)}`]), expected);
  const model = await OneKV.load(files, { threads: 1 });
  assert.equal(model.hash, expected);
  await model.unload();
  const { fileBytes } = await OneKV.estimate(join(folder, nameOf(1)));
  assert.ok(Math.abs(fileBytes - file.length) < 64);
});

test('the header takes a short request of each', limit, async () => {
  const found = await readHeader(engine, `${origin}/${nameOf(1)}`, {}, (loader) =>
    loader.describe().layers);
  assert.equal(found, 8);
  assert.deepEqual(site.asked, [1, 2, 3].map((part) => `${nameOf(part)} bytes=0-1048575`));
});

test('parts are stored, broken ones go on, and all are used again', limit, async () => {
  const store = new MapStore();
  site.breakAt = { [nameOf(2)]: 500_000 };
  const seen = [];
  const onProgress = ({ loaded, total }) => seen.push([loaded, total]);
  assert.equal(await hashOf(`${origin}/${nameOf(1)}`, { store, onProgress }), expected);
  assert.equal(seen.at(-1)[0], seen.at(-1)[1]);
  assert.ok(site.asked.includes(`${nameOf(2)} bytes=500000-`));
  const models = await listModels({ store });
  assert.deepEqual(models.map(({ key, complete }) => [key, complete]),
    [1, 2, 3].map((part) => [`${origin}/${nameOf(part)}`, true]));
  site.asked.length = 0;
  assert.equal(await hashOf(`${origin}/${nameOf(1)}`, { store }), expected);
  assert.deepEqual(site.asked, []);
  // One that is damaged is fetched again, and no other.
  const damaged = models[1].key;
  const { idOf } = await import('../../dist/src/store/record.js');
  const part = [...store.values.keys()].find((key) => key.startsWith(`${idOf(damaged)}-`));
  store.values.set(part, store.values.get(part).subarray(1));
  assert.equal(await hashOf(`${origin}/${nameOf(1)}`, { store }), expected);
  assert.deepEqual(site.asked.filter((line) => line.endsWith('bytes=0-')),
    [`${nameOf(2)} bytes=0-`]);
});

test('what is missing or foreign is named', limit, async () => {
  delete site.files[nameOf(2)];
  await fails(`${origin}/${nameOf(1)}`, 'SOURCE_FAILED',
    /of its parts, http:\S+m-00002-of-00003\.gguf: found HTTP status 404/);
  rmSync(join(folder, nameOf(3)));
  await fails(join(folder, nameOf(1)), 'SOURCE_FAILED', /m-00003-of-00003\.gguf: there is no such/);
  const files = parts.map((bytes, i) => new File([bytes], nameOf(i + 1)));
  await fails(files.slice(0, 2), 'CORRUPT', /m-00001-of-00003\.gguf is part 1 of 3, expected one/);
  await fails([files[0], files[1], files[1]], 'CORRUPT',
    /m-00002-of-00003\.gguf and m-00002-of-00003\.gguf are both part 2 of 3/);
  await fails([files[0], files[1], new File([file], 'whole.gguf')], 'CORRUPT',
    /whole\.gguf is a whole file, expected a part/);
  const foreign = splitFile(readFileSync(`${root}models/stories-qkv.q8_0.gguf`), 3);
  const third = new File([foreign[2]], 'f.gguf');
  await fails([files[0], files[1], third], 'CORRUPT',
    /the parts have \d+ tensors, expected \d+|f\.gguf/);
  await fails(files[1], 'MISSING_KEY', /this is part 2 of 3 of a model: load all parts/);
  await fails([files[0], files[1], new File(['<!doctype html>'.padEnd(64)], 'p.gguf')], 'NOT_GGUF',
    /of its parts, p\.gguf: found an HTML page, expected a GGUF file/);
  const short = new File([parts[1].subarray(0, -64)], nameOf(2));
  await fails([files[0], short, files[2]], 'TRUNCATED', new RegExp(`of its parts, ` +
    `m-00002-of-00003\\.gguf: the file ends after ${parts[1].length - 64} of \\d+ bytes`));
  for (const source of [[], [new Blob([file]).stream()], [new Response(file)], [5]]) {
    await fails(source, 'INVALID_ARGUMENT', /source/);
    await assert.rejects(OneKV.load(source), { code: 'INVALID_ARGUMENT', message: /source/ });
  }
  await assert.rejects(loadModel(engine, files, { integrity: '0'.repeat(64) }),
    { code: 'INVALID_ARGUMENT', message: /integrity/ });
});

test('a part that is another one whenever it is read ends the loading', limit, async () => {
  const other = splitFile(withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
    [['own.note', 'string', 'another']]), 3);
  let reads = 0;
  // Its header is asked for, then all of it.
  Object.defineProperty(site.files, nameOf(1), { get: () => (reads++ % 2 ? other : parts)[0] });
  await fails(`${origin}/${nameOf(1)}`, 'SOURCE_FAILED',
    /of its parts, http:\S+m-00001-of-00003\.gguf: the file was replaced while/);
  assert.equal(reads, 6);
});

test('the end of a file is known from its header, whatever its types', () => {
  const folders = [goldenFolder, `${root}models/`];
  const paths = folders.flatMap((from) => readdirSync(from)
    .filter((name) => name.endsWith('.gguf')).map((name) => from + name));
  for (const path of paths) {
    const bytes = readFileSync(path);
    const { fileBytes } = parseHeader(bytes);
    const padding = bytes.length - fileBytes;
    assert.ok(padding >= 0 && padding < 4096, `${path}: ${fileBytes} of ${bytes.length}`);
  }
  assert.ok(paths.length > 9);
});

test('headers that are damaged anywhere are refused, and read no further than they are', () => {
  const head = parts[1].subarray(0, parseHeader(parts[1]).bytes);
  for (let at = 0; at < head.length; at += 3) {
    assert.equal(parseHeader(head.subarray(0, at)), undefined);
    const changed = Buffer.from(head);
    changed[at] ^= 0xff;
    try {
      parseHeader(changed);
    } catch (error) {
      assert.equal(error.name, 'OneKVError', error.stack);
    }
  }
});
