// The worker's end of the protocol against hostile messages: nothing but clear errors comes back,
// and a session that was there before goes on.
//
// The server runs in this thread, so that a failure shows where it happened. Messages are made at
// random from names and values that mean something here and some that do not; the seed is printed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { WorkerServer } from '../../dist/src/worker/server.js';
import { loadModel, readHeader } from '../../dist/src/engine-entry-node.js';
import { root } from './support.mjs';

const bytes = new Uint8Array(readFileSync(`${root}models/stories-q-mqa.q8_0.gguf`));
/** Long enough to meet every pair of a call and a kind of value many times. */
const rounds = 3000;
const seed = Number(process.env.ONEKV_SEED ?? Date.now() % 2 ** 31);

/** xorshift32. */
function randomOf(state) {
  let x = state | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** A server with a model, whose answers are promises by id. */
async function startServer() {
  const waiting = new Map();
  const server = new WorkerServer({ loadModel, readHeader }, (messages) => {
    for (const message of structuredClone(messages)) {
      if (message.kind !== 'notice') waiting.get(message.id)?.(message);
    }
  });
  let next = 1;
  const send = (message) => server.receive(structuredClone(message));
  const call = (name, args) => new Promise((resolve) => {
    const id = next++;
    waiting.set(id, (answer) => {
      waiting.delete(id);
      resolve(answer);
    });
    send({ kind: 'call', id, name, args });
  });
  await call('open', { threads: 1 });
  const { result } = await call('load', { source: bytes, options: {} });
  assert.equal(result.perToken.used, 512);
  return { call, send, lastId: () => next - 1 };
}

const names = ['open', 'load', 'estimate', 'memory', 'watchMemory', 'trim', 'tokenize',
  'detokenize', 'vocabulary', 'embed', 'classify', 'createSession', 'restore', 'generate', 'append',
  'measure', 'clone', 'truncate', 'tokens', 'setSampling', 'save', 'sessionMemory', 'attention',
  'destroy', 'constructor', '__proto__', 'toString', '', 'Generate', 7, null, undefined];

const keys = ['session', 'input', 'options', 'count', 'sampling', 'format', 'layer', 'head',
  'bytes', 'tokens', 'text', 'messages', 'special', 'begin', 'initial', 'chat', 'contextWindow',
  'contextBytes', 'overflow', 'temperature', 'topK', 'seed', 'logitBias', 'width', 'height',
  'data', 'source', 'store', 'threads', 'lock', 'maxTokens', 'stop', 'logprobs', 'constrained',
  'on', 'cacheType', 'texts', 'pooling', 'dimensions', '__proto__', 'length'];

const values = [undefined, null, true, false, 0, 1, -1, 3, 0.5, 1e9, 2 ** 31, 2 ** 53, -0,
  Number.NaN, Number.POSITIVE_INFINITY, 10n, -1n, 2n ** 70n, '', 'Once upon a time', 'cache',
  'tokens', 'slide', 'error', '\ud800', '</s>'.repeat(50), [], [1, 2, 3], ['a'], {},
  { text: 'A' }, { text: 7 }, { tokens: [1, 2] }, { tokens: new Int32Array([1, 2, 3]) },
  { tokens: new Int32Array([-1]) }, { tokens: new Float64Array([1.5]) }, { messages: [] },
  [new Int32Array([1, 2])], [, 'a'], 'mean',
  { messages: [null] }, { messages: [{ role: 'user', content: 'Hi' }] }, { length: 1e12 },
  { maxTokens: 2 }, { maxTokens: -1 }, { maxTokens: 2, logprobs: 3, stop: ['a', ''] },
  { maxTokens: 1, stop: 'x' }, { maxTokens: 1, stop: [7] }, { maxTokens: 2, constrained: 1 },
  { maxTokens: 1, logprobs: 1e6 }, new Map([[1, 2]]), new Map([['a', {}]]), { 5: 'b' },
  new Date(0), /x/u, new Error('x'), new Uint8Array(0), new Uint8Array(40), new Int32Array(3),
  new Float32Array(784), new Uint8ClampedArray(16), new ArrayBuffer(8), new Blob(['GGUF'])];

const sessionCalls = new Set(names.slice(names.indexOf('generate'),
  names.indexOf('destroy') + 1));

function randomArgs(random, name, session) {
  if (random(12) === 0) return values[random(values.length)];
  const args = {};
  for (let n = random(6); n > 0; n--) {
    const value = values[random(values.length)];
    // Not an assignment: one of the keys is __proto__.
    Object.defineProperty(args, keys[random(keys.length)],
      { value, enumerable: true, configurable: true, writable: true });
  }
  // Most calls get as far as the session.
  if (sessionCalls.has(name) && random(4) > 0) args.session = session;
  if (name === 'generate' && !('options' in args)) args.options = { maxTokens: 1 };
  return args;
}

/** Calls without an end of their own are ended. */
async function ended(server, answer) {
  const id = server.lastId();
  const late = setTimeout(() => server.send({ kind: 'abort', id }), 200);
  const message = await answer;
  clearTimeout(late);
  return message;
}

test(`hostile messages (ONEKV_SEED=${seed})`, async () => {
  const random = randomOf(seed);
  const server = await startServer();
  const { result: { id: safe } } = await server.call('createSession', { seed: 1 });
  const created = [];
  const codes = new Map();
  for (let round = 0; round < rounds; round++) {
    const name = names[random(names.length)];
    const session = created.at(-1) ?? 1000;
    const args = randomArgs(random, name, session);
    if (args?.session === safe) continue;
    const answer = await ended(server, server.call(name, args));
    const said = `round ${round}: ${String(name)} answered ${answer.message}`;
    if (answer.kind === 'error') {
      assert.notEqual(answer.code, 'INTERNAL', said);
      assert.notEqual(answer.code, 'WASM_FAILED', said);
      codes.set(answer.code, (codes.get(answer.code) ?? 0) + 1);
    }
    const opened = answer.kind === 'result' && ['createSession', 'clone', 'restore'].includes(name);
    if (opened) created.push(answer.result.id);
    if (name === 'destroy' && answer.kind === 'result') created.pop();
    if (created.length > 20) await server.call('destroy', { session: created.shift() });
  }
  assert.ok(codes.get('INVALID_ARGUMENT') > 100, [...codes].join(' '));
  const generated = await server.call('generate',
    { session: safe, input: { text: 'Once upon a time' }, options: { maxTokens: 5 } });
  assert.equal(generated.result.tokens.length, 5, generated.message);
});

test('what is not a call is dropped', async () => {
  const server = await startServer();
  const dropped = [undefined, null, 0, 'call', [], {}, { kind: 'call' }, { kind: 'call', id: 'x' },
    { kind: 'call', id: 0.5, name: 'memory', args: {} }, { kind: 'abort', id: 999 },
    { kind: 'allowed', id: 999 }, { kind: 'other', id: 4 }, new Map(), new Uint8Array(4)];
  for (const message of dropped) server.send(message);
  const answer = await server.call('memory', {});
  assert.equal(answer.kind, 'result');
  // An id that is taken: the first call goes on.
  const long = server.call('createSession', { initial: { text: 'A '.repeat(400) } });
  server.send({ kind: 'call', id: server.lastId(), name: 'memory', args: {} });
  assert.equal((await long).result.length, 401);
});
