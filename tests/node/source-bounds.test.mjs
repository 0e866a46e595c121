// Servers that send more than was asked for or announced, say nonsense of what they send, or fail
// at a file's header: reads end where they should, and what may pass is waited for.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { Engine, loadModel, readHeader, storeModel } from '../../dist/src/engine-entry-node.js';
import { splitFile } from './split-file.mjs';
import { MapStore, root, withKeys } from './support.mjs';

const limit = { timeout: 60_000 };
const file = readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`);
const headBytes = 1 << 20;

let engine;
let server;
let url;
/** { bytes, asked, statuses and resets: of the next answers, answer: instead of the usual one } */
let site;
/** Bytes that were sent of answers without an end. */
let sent;

function reply(request, response) {
  const { range } = request.headers;
  site.asked.push(range);
  if (site.resets-- > 0) return request.socket.resetAndDestroy();
  const status = site.statuses.shift();
  if (status !== undefined) return response.writeHead(status).end();
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range);
  const start = Number(first);
  const total = site.bytes.length;
  const end = last === '' ? total : Math.min(total, Number(last) + 1);
  if (site.answer !== undefined) return site.answer(response, start, end, request);
  response.writeHead(206, { etag: '"one"', 'content-length': end - start,
    'content-range': `bytes ${start}-${end - 1}/${total}` });
  return response.end(site.bytes.subarray(start, end));
}

/** A body that never ends, after `bytes`. */
function sendForever(response, bytes) {
  response.write(bytes);
  const zeros = Buffer.alloc(1 << 16);
  const more = () => {
    while (!response.destroyed && response.write(zeros)) sent += zeros.length;
  };
  response.on('drain', more);
  more();
}

before(async () => {
  engine = await Engine.open({ threads: 1 });
  server = createServer(reply);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `http://127.0.0.1:${server.address().port}/model.gguf`;
});
beforeEach(() => {
  site = { bytes: file, asked: [], statuses: [], resets: 0 };
  sent = 0;
});
after(() => {
  engine.destroy();
  server.closeAllConnections();
  server.close();
});

const load = async (options = {}) => (await loadModel(engine, url, options)).destroy();
const header = (options = {}) => readHeader(engine, url, options, (loader) => loader.fileBytes);

test('a body without an end is refused where the file ends, and not kept', limit, async () => {
  const statuses = {
    'no length': (response) => response.writeHead(200),
    'a range of all': (response) => response.writeHead(206,
      { etag: '"one"', 'content-range': `bytes 0-${file.length - 1}/${file.length}` }),
    'any length': (response) => response.writeHead(206, { 'content-range': 'bytes 0-9/*' }),
  };
  for (const [what, begin] of Object.entries(statuses)) {
    site.answer = (response, start) => {
      begin(response);
      sendForever(response, file.subarray(start));
    };
    sent = 0;
    for (const read of [load, (options) => storeModel(engine, url, options)]) {
      const store = new MapStore();
      await assert.rejects(read({ store }), { code: 'CORRUPT', message: new RegExp(
        `model\\.gguf: found \\d+ bytes and more to come, expected ${file.length}`) }, what);
      assert.equal(store.values.size, 0, what);
    }
    assert.ok(sent < 64 << 20, `${what}: ${sent} bytes`);
  }
});

test('a file may have bytes after its last tensor, if it has an end', limit, async () => {
  site.bytes = Buffer.concat([file, Buffer.alloc(200_000)]);
  await load();
  site.answer = (response) => response.writeHead(200).end(Buffer.concat([file, Buffer.alloc(999)]));
  await load();
});

test('a header needs no more of a body than its header', limit, async () => {
  site.answer = (response) => {
    response.writeHead(200);
    sendForever(response, file);
  };
  assert.equal(await header(), file.length);
  assert.ok(sent < 64 << 20, `${sent} bytes`);
});

/** A model with a header of several ranges. */
const longHeader = () => withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
  [['own.text', 'string', 'x'.repeat(3 * headBytes)]]);

test('a range of a header is not read beyond its end', limit, async () => {
  for (const end of [headBytes, undefined]) {
    site.answer = (response, start) => {
      response.writeHead(206, end === undefined ? {}
        : { 'content-range': `bytes 0-${end - 1}/${1 << 30}` });
      sendForever(response, longHeader().subarray(start));
    };
    sent = 0;
    await assert.rejects(header(), { code: 'SOURCE_FAILED', message:
      new RegExp(`model\\.gguf: found more than ${headBytes} bytes, expected the range`) });
    assert.ok(sent < 64 << 20, `${sent} bytes`);
  }
});

test('a range that cannot be is told as it was found', limit, async () => {
  const total = file.length;
  const ranges = ['bytes 0-9/-1', `bytes 0-${total - 1}/${'9'.repeat(30)}`, 'bytes 0-99/50',
    `bytes 1-${total - 1}/${total}`, 'bytes */100', 'bytes 9-0/100', 'nonsense', '',
    `items 0-${total - 1}/${total}`];
  for (const range of ranges) {
    site.answer = (response) => response.writeHead(206, { 'content-range': range }).end(file);
    for (const read of [load, header]) {
      await assert.rejects(read(), ({ code, message }) => {
        assert.equal(code, 'SOURCE_FAILED', message);
        assert.ok(message.includes(`model.gguf: found "${range}" as Content-Range, expected ` +
          '"bytes 0-LAST/TOTAL"'), message);
        return true;
      }, range);
    }
  }
  assert.equal(site.asked.length, 2 * ranges.length, 'once each');
});

test('a range without a total is as good', limit, async () => {
  site.answer = (response, start, end) => response.writeHead(206,
    { etag: '"one"', 'content-range': `bytes ${start}-${end - 1}/*` })
    .end(site.bytes.subarray(start, end));
  await load();
  site.bytes = longHeader();
  assert.equal(await header(), site.bytes.length);
});

test('a header in several ranges, of a server that gives less than is asked for', limit,
  async () => {
    site.bytes = longHeader();
    site.answer = (response, start, end) => {
      const last = Math.min(end, start + 500_000);
      response.writeHead(206, { etag: '"one"',
        'content-range': `bytes ${start}-${last - 1}/${site.bytes.length}` });
      response.end(site.bytes.subarray(start, last));
    };
    assert.equal(await header(), site.bytes.length);
    assert.ok(site.asked.length > 4);
  });

test('a range of another total is of another file, which is read anew', limit, async () => {
  site.bytes = longHeader();
  const usual = (response, start, end, total) => {
    response.writeHead(206, { etag: '"one"', 'content-length': end - start,
      'content-range': `bytes ${start}-${end - 1}/${total}` });
    response.end(site.bytes.subarray(start, end));
  };
  let others = 1;
  site.answer = (response, start, end) =>
    usual(response, start, end, site.bytes.length + (start > 0 && others-- > 0 ? 1 : 0));
  assert.equal(await header(), site.bytes.length);
  assert.equal(site.asked.filter((range) => range.startsWith('bytes=0-')).length, 2);
});

test('a header is asked for again as a body is', limit, async () => {
  site.statuses = [503, 429];
  assert.equal(await header(), file.length);
  assert.equal(site.asked.length, 3);
  site.resets = 2;
  assert.equal(await header(), file.length);
  site.resets = 1;
  await load();
  site.resets = 99;
  site.asked.length = 0;
  await assert.rejects(header(), { code: 'SOURCE_FAILED' });
  assert.equal(site.asked.length, 5);
});

test('a header that breaks off goes on where it was', limit, async () => {
  site.bytes = longHeader();
  let breaks = 2;
  site.answer = (response, start, end) => {
    if (start > 0 && breaks-- > 0) return response.socket.resetAndDestroy();
    response.writeHead(206, { etag: '"one"', 'content-length': end - start,
      'content-range': `bytes ${start}-${end - 1}/${site.bytes.length}` });
    const isWhole = start > 0;
    if (isWhole) return response.end(site.bytes.subarray(start, end));
    return response.write(site.bytes.subarray(0, 300_000), () => response.destroy());
  };
  assert.equal(await header(), site.bytes.length);
  assert.match(site.asked[1], /^bytes=300000-/);
  breaks = 99;
  await assert.rejects(header(), { code: 'SOURCE_FAILED',
    message: /model\.gguf: broke off after 300000 bytes: / });
});

test('an abort ends the pause before a header is asked for again', limit, async () => {
  for (const fault of ['statuses', 'resets']) {
    site.statuses = fault === 'statuses' ? Array(9).fill(503) : [];
    site.resets = fault === 'resets' ? 9 : 0;
    site.asked.length = 0;
    const controller = new AbortController();
    const reading = header({ signal: controller.signal });
    while (site.asked.length < 3) await new Promise((resolve) => { setTimeout(resolve, 20); });
    const started = performance.now();
    controller.abort(new Error('enough'));
    await assert.rejects(reading, { message: 'enough' });
    assert.ok(performance.now() - started < 500, fault);
  }
});

test('a part of a split file that does not end is refused at its end', limit, async () => {
  const parts = splitFile(file, 2);
  site.answer = (response, start, _, { url: path, headers: { range } }) => {
    const bytes = parts[Number(path[7]) - 1];
    const isHead = !range.endsWith('-');
    const end = isHead ? Math.min(headBytes, bytes.length) : bytes.length;
    response.writeHead(206, { etag: `"${path}"`,
      'content-range': `bytes ${start}-${end - 1}/${bytes.length}` });
    if (isHead) return response.end(bytes.subarray(start, end));
    return sendForever(response, bytes.subarray(start));
  };
  const first = new URL('m-00001-of-00002.gguf', url).href;
  await assert.rejects(loadModel(engine, first), { code: 'CORRUPT',
    message: /of its parts, .*00001-of-00002\.gguf: found more than \d+ bytes, as were/ });
  assert.ok(sent < 64 << 20, `${sent} bytes`);
});
