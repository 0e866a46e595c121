// onekv serve in a process of its own: who may ask, limits, a client that leaves, and its end; curl
// where there is one.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { UsageError, parse } from '../../dist/cli/arguments.js';
import { serve } from '../../dist/cli/serve.js';
import { chatFile, root, withWindow } from './support.mjs';

const limit = { timeout: 120_000 };
const folder = mkdtempSync(join(tmpdir(), 'onekv-serve-'));
const file = join(folder, 'tiny.gguf');
writeFileSync(file, new Uint8Array(withWindow(chatFile())));
const children = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

/** A server and its address; `log()` is what it has written to stderr. */
async function started(args, env = {}) {
  const child = spawn(process.execPath, [join(root, 'dist/cli/onekv.js'), 'serve', file,
    '--port', '0', '--threads', '1', ...args], { env: { ...process.env, ...env } });
  children.push(child);
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { log += text; });
  const ended = once(child, 'exit');
  const [line] = await Promise.race([once(child.stdout.setEncoding('utf8'), 'data'),
    ended.then(() => assert.fail(log))]);
  return { child, ended, url: line.trim(), log: () => log };
}

const body = { model: 'any', messages: [{ role: 'user', content: 'Tim had a' }], temperature: 0,
  max_tokens: 4 };
const endless = { ...body, max_tokens: null, logit_bias: { 0: -100 }, stream: true };
const post = (url, value, more = {}) => fetch(`${url}/chat/completions`, { method: 'POST',
  body: JSON.stringify(value), ...more });

let server;
before(async () => {
  server = await started(['--cors', 'http://localhost:5173', '--max-requests', '2',
    '--max-bytes', '10KB']);
}, limit);

test('answers, whole and as a stream, and tells what it is', limit, async () => {
  const { data: [{ id }] } = await (await fetch(`${server.url}/models`)).json();
  assert.equal(id, 'tiny');
  const { choices } = await (await post(server.url, body)).json();
  const stream = await (await post(server.url, { ...body, stream: true })).text();
  const text = stream.split('\n\n').filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice(6)).choices[0].delta.content ?? '').join('');
  assert.equal(text, choices[0].message.content);
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+\/v1$/);
  assert.match(server.log(), /tiny: .*cache per token/);
  assert.match(server.log(), /POST \/v1\/chat\/completions 200/);
});

test('who opens the address in a browser reads what is there', limit, async () => {
  for (const path of ['/', '/v1', '/v1/']) {
    const response = await fetch(new URL(path, server.url));
    assert.match(response.headers.get('content-type'), /^text\/plain/);
    assert.match(await response.text(), /onekv serves tiny .*\n.*GET  \/v1\/models\n/);
  }
  assert.equal((await fetch(new URL('/other', server.url))).status, 404);
});

test('curl', limit, async (t) => {
  const { stdout } = await promisify(execFile)('curl', ['-sN', `${server.url}/completions`, '-d',
    '{"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "stream": true}'])
    .catch((error) => ({ stdout: error.code === 'ENOENT' ? undefined : assert.fail(error) }));
  if (stdout === undefined) t.skip('no curl');
  else assert.match(stdout, /^data: \{"id":"cmpl-.*\n\ndata: \[DONE\]\n\n$/s);
});

/** The status for a request with these headers (fetch sets its own Host). */
async function statusOf(headers, method = 'GET') {
  const asked = request(`${server.url}/models`, { headers, method }).end();
  const [response] = await once(asked, 'response');
  response.resume();
  return [response.statusCode, response.headers['access-control-allow-origin']];
}

test('pages of other origins and other names of this machine are refused', limit, async () => {
  const allowed = 'http://localhost:5173';
  assert.deepEqual(await statusOf({}), [200, undefined]);
  assert.deepEqual(await statusOf({ origin: allowed }), [200, allowed]);
  assert.deepEqual(await statusOf({ origin: 'https://example.org' }), [403, undefined]);
  assert.deepEqual(await statusOf({ origin: 'null' }), [403, undefined]);
  assert.deepEqual(await statusOf({ host: 'example.org' }), [403, undefined]);
  assert.deepEqual(await statusOf({ host: 'localhost:1' }), [200, undefined]);
  const asks = { 'access-control-request-method': 'POST',
    'access-control-request-headers': 'x-stainless-os, content-type' };
  assert.deepEqual(await statusOf({ origin: allowed, ...asks }, 'OPTIONS'), [204, allowed]);
  assert.deepEqual(await statusOf({ origin: 'https://example.org', ...asks }, 'OPTIONS'),
    [403, undefined]);
});

test('too many requests, one too long, and a client that leaves', limit, async () => {
  const controllers = [new AbortController(), new AbortController()];
  const streams = await Promise.all(controllers.map(({ signal }) =>
    post(server.url, endless, { signal })));
  const busy = await post(server.url, body);
  assert.equal(busy.status, 503);
  assert.equal(busy.headers.get('retry-after'), '1');
  for (const controller of controllers) controller.abort();
  await Promise.all(streams.map((stream) => assert.rejects(stream.text())));
  // Their answers end: there is room again.
  let again = busy;
  while (again.status === 503) {
    await new Promise((resolve) => { setTimeout(resolve, 20); });
    again = await post(server.url, body);
  }
  assert.equal(again.status, 200);
  const long = await post(server.url, { ...body, user: 'x'.repeat(10_001) });
  assert.equal(long.status, 413);
});

test('a key, and an end that waits for the answers that run, or for the time it has', limit,
  async () => {
    const own = await started(['--grace', '60', '--quiet'], { ONEKV_API_KEY: 'secret' });
    assert.equal((await post(own.url, body)).status, 401);
    const headers = { authorization: 'Bearer secret' };
    const running = await post(own.url, { ...endless, max_tokens: 300 }, { headers });
    own.child.kill('SIGINT');
    assert.match(await running.text(), /data: \[DONE\]\n\n$/);
    assert.deepEqual(await own.ended, [0, null]);
    assert.equal(own.log(), '');
    const hasty = await started(['--grace', '0.2']);
    const cut = await post(hasty.url, endless);
    hasty.child.kill('SIGTERM');
    assert.match(await cut.text(), /event: error\ndata: .*the server ends.*\n\n$/);
    assert.deepEqual(await hasty.ended, [0, null]);
  });

test('what does not fit is refused before a model is loaded', limit, async () => {
  for (const [args, message] of [[['--cors', 'localhost'], /--cors: .*expected an origin/],
    [['--cors', 'http://a/b'], /--cors/], [['--max-bytes', 'lots'], /--max-bytes/],
    [['--port', '70000'], /--port/], [['--max-requests', '0'], /--max-requests/]]) {
    await assert.rejects(async () => serve.run(parse(serve, [file, ...args])),
      (error) => error instanceof UsageError && message.test(error.message));
  }
});
