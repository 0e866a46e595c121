// What arrives instead of a model is named for what it is, and a cause is said once; the page's
// options of access reach the requests that the worker makes.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { ggufHeader, root, withKeys } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);

let engine;
let folder;
let server;
let url;
/** { statuses: of the next answers, headers: of the requests, tail: answers only from there } */
let site;

function answer({ headers, url: path }, response) {
  site.headers.push({ ...headers, path });
  const status = site.statuses.shift();
  if (status !== undefined) return response.writeHead(status).end();
  const start = Number(/^bytes=(\d+)-/.exec(headers.range)?.[1] ?? 0);
  response.writeHead(206, { etag: '"one"', 'content-length': file.length - start,
    'content-range': `bytes ${start}-${file.length - 1}/${file.length}` });
  const stop = site.breakAt > start ? site.breakAt : file.length;
  response.write(file.subarray(start, stop), () =>
    (stop < file.length ? setTimeout(() => response.destroy(), 50) : response.end()));
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  folder = mkdtempSync(join(tmpdir(), 'onekv-kinds-'));
  server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
});
beforeEach(() => {
  site = { statuses: [], headers: [], breakAt: 0 };
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

const tensors = Buffer.concat([Buffer.from([40, 0, 0, 0, 0, 0, 0, 0]),
  Buffer.from('{"__metadata__":{"format":"pt"}}')]);
const bigEndian = Buffer.concat([Buffer.from('GGUF'), Buffer.from([0, 0, 0, 3]), Buffer.alloc(40)]);
const padded = (text) => Buffer.from(text.padEnd(64));

/** [bytes, code, what the message says] */
const kinds = {
  'a page': [padded('<!DOCTYPE html>\n<html><head><title>Sign  in</title>'), 'NOT_GGUF',
    /found an HTML page \("Sign in"\), expected a GGUF file/],
  'a pointer': [padded('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n'),
    'NOT_GGUF', /found a Git LFS pointer, .*git lfs pull/],
  JSON: [padded('{"error":"Repository not found"}'), 'NOT_GGUF',
    /found JSON that says "Repository not found"/],
  'a zip': [padded('PK\x03\x04'), 'NOT_GGUF', /found a zip archive/],
  gzip: [Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]), 'NOT_GGUF', /found a gzip archive.*unpack/],
  safetensors: [tensors, 'NOT_GGUF', /found a safetensors file, .*convert it/],
  'an older format': [padded('tjgg'), 'NOT_GGUF', /found a GGML file, from before GGUF/],
  text: [padded('Hello, this is a file of text.'), 'NOT_GGUF', /found text \("Hello, this/],
  'other bytes': [Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]), 'NOT_GGUF', /the first bytes are not/],
  'big-endian': [bigEndian, 'UNSUPPORTED_VERSION', /found a big-endian GGUF file/],
  'version 1': [Buffer.from('GGUF\x01\0\0\0'.padEnd(64, '\0')), 'UNSUPPORTED_VERSION',
    /version is 1, expected 2 or 3/],
  nothing: [Buffer.alloc(0), 'TRUNCATED', /ends inside its header, after 0 bytes/],
  'a projector': [ggufHeader([['general.architecture', 'string', 'clip']]).header,
    'UNSUPPORTED_MODEL', /this is a multimodal projector/],
  'an adapter': [ggufHeader([['general.architecture', 'string', 'llama'],
    ['general.type', 'string', 'adapter']]).header, 'MISSING_KEY', /this is a LoRA adapter/],
  'a part': [ggufHeader([['split.no', 'u16', 1], ['split.count', 'u16', 3]]).header,
    'MISSING_KEY', /this is part 2 of 3 of a model: load all parts/],
};

for (const [name, [bytes, code, message]] of Object.entries(kinds)) {
  test(`${name} is named for what it is`, limit, async () => {
    await assert.rejects(loadModel(engine, new Uint8Array(bytes)), { code, message });
    // In pieces as small as a network may give.
    async function* trickle() {
      for (const byte of bytes) yield Uint8Array.of(byte);
    }
    if (bytes.length < 100) await assert.rejects(loadModel(engine, trickle()), { code });
  });
}

test('a key that another reader needs does not make a kind of its own', limit, async () => {
  const path = `${root}models/stories-q-mqa.q8_0.gguf`;
  const model = await loadModel(engine, withKeys(path, [['split.count', 'u16', 1]]));
  model.destroy();
});

const once = (message, part) => assert.equal(message.split(part).length, 2, message);

test('a cause is said once, and where', limit, async () => {
  const path = join(folder, 'none.gguf');
  await assert.rejects(OneKV.load(path), ({ code, message }) => {
    assert.equal(code, 'SOURCE_FAILED');
    once(message, path);
    return message.endsWith('there is no such file');
  });
  for (const simd of ['simd128', 'relaxed']) {
    cpSync(`${root}dist/wasm/onekv-${simd}.mjs`, join(folder, `onekv-${simd}.mjs`));
    writeFileSync(join(folder, `onekv-${simd}.wasm`), 'no module');
  }
  const wasmUrl = `${pathToFileURL(folder).href}/`;
  await assert.rejects(OneKV.load(path, { wasmUrl, simd: 'simd128' }), ({ code, message }) => {
    assert.equal(code, 'WASM_FAILED');
    once(message, 'magic word');
    once(message, folder);
    return !message.includes('ASSERTIONS');
  });
  rmSync(join(folder, 'onekv-simd128.wasm'));
  await assert.rejects(OneKV.load(path, { wasmUrl, simd: 'simd128' }), ({ message }) => {
    once(message, 'ENOENT');
    return !message.includes('Aborted');
  });
  await assert.rejects(OneKV.load('http://127.0.0.1:9/model.gguf', { stallSeconds: 5 }),
    ({ message }) => {
      once(message, '127.0.0.1:9/');
      return message.includes('fetch failed: bad port');
    });
});

test('a host that cannot be reached is named in plain words', limit, async () => {
  const gone = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => gone.on('listening', resolve));
  const closed = `127.0.0.1:${gone.address().port}`;
  await new Promise((resolve) => gone.close(resolve));
  for (const host of [closed, 'no.such.host.invalid']) {
    await assert.rejects(OneKV.load(`http://${host}/m.gguf`, { stallSeconds: 5 }),
      ({ message }) => {
        once(message, `${host}/`);
        assert.ok(message.includes(`: no connection to ${host} (fetch failed: `), message);
        return !message.includes('hub');
      });
  }
});

test('headers and token reach the requests of the worker', limit, async () => {
  const model = await OneKV.load(url, { threads: 1, token: 'secret', headers: { 'x-one': 'two' } });
  await model.unload();
  await OneKV.estimate(url, { token: 'secret' });
  assert.deepEqual(site.headers.map(({ authorization, 'x-one': one }) => [authorization, one]),
    [['Bearer secret', 'two'], ['Bearer secret', undefined]]);
});

test('a fetch and a refresh of the page are called, and the download goes on', limit, async () => {
  const fetched = [];
  const refused = [];
  site.breakAt = 1_000_000;
  const model = await OneKV.load(url, {
    threads: 1,
    fetch: (input, init) => {
      fetched.push(init.headers.range);
      if (fetched.length === 2) site.statuses.push(403);
      return fetch(input, init);
    },
    refresh: (what) => {
      refused.push(what);
      site.breakAt = 0;
      return new URL(`${url}?sig=new`);
    },
  });
  await model.unload();
  // A connection that breaks may take with it what was on its way.
  const [{ offset }] = refused;
  assert.ok(offset > 0 && offset <= 1_000_000, `${offset}`);
  assert.deepEqual(fetched, ['bytes=0-', `bytes=${offset}-`, `bytes=${offset}-`]);
  assert.deepEqual(refused, [{ url, status: 403, offset }]);
  assert.equal(site.headers.at(-1).path, '/model.gguf?sig=new');
});

test('an abort reaches the fetch of the page', limit, async () => {
  const controller = new AbortController();
  let reason;
  await assert.rejects(OneKV.load(url, {
    threads: 1,
    signal: controller.signal,
    fetch: (_, { signal }) => new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        reason = signal.reason;
        reject(reason);
      });
      setTimeout(() => controller.abort(new Error('enough')), 50);
    }),
  }), { message: 'enough' });
  assert.equal(reason.name, 'AbortError');
});

test('options of access that are none are refused', limit, async () => {
  const wrong = [{ headers: 'x: y' }, { headers: { x: 1 } }, { token: 'a b' }, { token: 1 },
    { fetch: 'fetch' }, { refresh: 1 }, { stallSeconds: 0 }, { key: '' }];
  for (const options of wrong) {
    await assert.rejects(OneKV.load(url, options), { code: 'INVALID_ARGUMENT',
      message: new RegExp(Object.keys(options)[0]) });
  }
  await assert.rejects(OneKV.load(url, { fetch: () => 'no response' }),
    { code: 'SOURCE_FAILED', message: /fetch: found "no response"/ });
  assert.deepEqual(site.headers, []);
});
