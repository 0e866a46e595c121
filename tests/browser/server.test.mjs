// The server of the browser tests: what it serves, what it refuses, and the headers it sends.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve, strictPolicy } from './server.mjs';

const folder = mkdtempSync(join(tmpdir(), 'onekv-server-'));
let plain;
let guarded;

before(async () => {
  writeFileSync(join(folder, 'a.bin'), '0123456789');
  writeFileSync(join(folder, 'empty.wasm'), '');
  writeFileSync(join(folder, 'index.html'), '<!doctype html>');
  plain = await serve({ mounts: { '/files/': folder } });
  guarded = await serve({ mounts: { '/': folder }, isolated: true, strict: true });
});

after(async () => {
  await Promise.all([plain.close(), guarded.close()]);
  rmSync(folder, { recursive: true });
});

const get = (path, range) =>
  fetch(`${plain.origin}${path}`, { headers: range ? { Range: range } : {} });

test('a whole file, its type, an index', async () => {
  const whole = await get('/files/a.bin');
  assert.equal(whole.status, 200);
  assert.equal(whole.headers.get('content-type'), 'application/octet-stream');
  assert.equal(whole.headers.get('cross-origin-opener-policy'), null);
  assert.equal(await whole.text(), '0123456789');
  const module = await get('/files/empty.wasm');
  assert.equal(module.headers.get('content-type'), 'application/wasm');
  assert.equal(await module.text(), '');
  assert.match((await get('/files/')).headers.get('content-type'), /^text\/html/);
});

test('byte ranges', async () => {
  for (const [range, text, where] of [['bytes=2-4', '234', '2-4'], ['bytes=7-', '789', '7-9'],
    ['bytes=-3', '789', '7-9'], ['bytes=8-99', '89', '8-9']]) {
    const part = await get('/files/a.bin', range);
    assert.equal(part.status, 206);
    assert.equal(part.headers.get('content-range'), `bytes ${where}/10`);
    assert.equal(await part.text(), text);
  }
  assert.equal((await get('/files/a.bin', 'bytes=10-')).status, 416);
});

test('nothing outside the mounts', async () => {
  for (const path of ['/a.bin', '/files/none', '/files/%2e%2e/a', '/files/..%2f..%2fetc/passwd']) {
    assert.equal((await get(path)).status, 404, path);
  }
  assert.equal((await get('/files/%')).status, 400);
  const post = await fetch(`${plain.origin}/files/a.bin`, { method: 'POST' });
  assert.equal(post.status, 405);
});

test('the headers of an isolated page and of a strict one', async () => {
  const { headers } = await fetch(`${guarded.origin}/`);
  assert.equal(headers.get('cross-origin-opener-policy'), 'same-origin');
  assert.equal(headers.get('cross-origin-embedder-policy'), 'require-corp');
  assert.equal(headers.get('content-security-policy'), strictPolicy);
});
