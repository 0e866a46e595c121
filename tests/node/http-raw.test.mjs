// The server of onekv serve on raw sockets: what is no request gets an answer too, and who sends
// slowly keeps nobody from asking.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { doorOf } from '../../dist/cli/http.js';

const limit = { timeout: 30_000 };
const most = 2;
let door, port;
/** Of the requests that are being answered: what ends each. */
const answers = [];

before(async () => {
  const handle = async (request) => {
    if (request.method !== 'POST') return Response.json({ method: request.method });
    const text = await request.text();
    const length = Number(request.headers.get('content-length') ?? text.length);
    if (Math.max(text.length, length) > 1000) return Response.json({}, { status: 413 });
    if (text === 'wait') await new Promise((resolve) => { answers.push(resolve); });
    return new Response(`got ${text}`);
  };
  door = doorOf(handle, { origins: [], key: undefined, isLocal: true, most, maxBytes: 1000,
    about: 'here' }, () => {});
  door.server.listen(0, '127.0.0.1');
  await once(door.server, 'listening');
  port = door.server.address().port;
});
after(() => {
  door.server.close();
  door.server.closeAllConnections();
});

async function opened(text) {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** The status that raw text is answered by. */
async function statusOf(text) {
  const socket = await opened(text);
  let answer = '';
  socket.setEncoding('latin1').on('data', (piece) => { answer += piece; });
  while (!answer.includes('\r\n\r\n') && !socket.closed) {
    await Promise.race([once(socket, 'data'), once(socket, 'close')]);
  }
  socket.destroy();
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? Number.NaN);
}

const host = 'Host: localhost\r\n';
const get = `GET /v1/models HTTP/1.1\r\n${host}\r\n`;
const post = (body, length = body.length) =>
  `POST /v1/x HTTP/1.1\r\n${host}content-length: ${length}\r\n\r\n${body}`;

test('what is no request, or none of ours, has a status', limit, async () => {
  for (const [text, status] of [[get, 200], [post('a'), 200],
    [`TRACE /v1/models HTTP/1.1\r\n${host}\r\n`, 405], [`CONNECT a:1 HTTP/1.1\r\n${host}\r\n`, 405],
    ['nonsense\r\n\r\n', 400], ['GET\r\n\r\n', 400], [`FOO /v1 HTTP/1.1\r\n${host}\r\n`, 400],
    [`GET http://[ HTTP/1.1\r\n${host}\r\n`, 400], [`GET //[x HTTP/1.1\r\n${host}\r\n`, 400],
    [`POST //[x HTTP/1.1\r\n${host}content-length: 1\r\n\r\na`, 400],
    ['GET / HTTP/1.1\r\n\r\n', 400], [`GET / HTTP/1.1\r\n${host}bad header\r\n\r\n`, 400],
    [`GET / HTTP/1.1\r\n${host}x: ${'y'.repeat(40_000)}\r\n\r\n`, 431],
    [post('x'.repeat(1001)), 413], [post('x', 1e6), 413],
    [`POST /v1/x HTTP/1.1\r\n${host}transfer-encoding: chunked\r\n\r\n3e9\r\n` +
      `${'y'.repeat(1001)}\r\n`, 413]]) {
    assert.equal(await statusOf(text), status, JSON.stringify(text.slice(0, 40)));
  }
});

test('requests that come slowly hold no place, those that are answered do', limit, async () => {
  const slow = await Promise.all(Array.from({ length: 9 }, () => opened(post('half', 100))));
  const silent = await Promise.all(Array.from({ length: 9 }, () => opened('POST /v1')));
  assert.equal(await statusOf(get), 200);
  assert.equal(await statusOf(post('a')), 200);
  const running = await Promise.all(Array.from({ length: most }, () => opened(post('wait'))));
  while (answers.length < most) await new Promise((resolve) => { setTimeout(resolve, 5); });
  assert.equal(await statusOf(post('a')), 503);
  assert.equal(await statusOf(get), 200, 'what computes nothing needs no place');
  // One that came slowly, and is here while there is no place.
  const [first, second] = slow;
  const isRefused = once(first, 'data');
  first.write('x'.repeat(96));
  assert.match(String(await isRefused), /^HTTP\/1\.1 503/);
  for (const end of answers) end();
  for (const socket of running) assert.match(String(await once(socket, 'data')), /200 OK/);
  const isAnswered = once(second, 'data');
  second.write('x'.repeat(96));
  assert.match(String(await isAnswered), /200 OK/);
  const idle = door.idle();
  for (const socket of [...slow, ...silent, ...running]) socket.destroy();
  await idle;
});
