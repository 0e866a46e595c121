// Sessions in a worker: the order of calls, aborts at every stage, batches, windows that slide, and
// memory that stays what it was.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { writeSaved } from '../../dist/src/worker/saved-session.js';
import { SessionHost } from '../../dist/src/worker/session-calls.js';
import { endless, root, withWindow } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const prompt = 'Once upon a time';
const longText = 'The cat sat on the mat. '.repeat(60);
/** Takes minutes: it is over when it is aborted. */
const longInput = { tokens: new Int32Array(100_000).fill(7) };

let model;

before(async () => {
  model = await OneKV.load(withWindow(readFileSync(path)), { threads: 1, batch: 32 });
});
after(() => model.unload());

const textOf = async (session) => model.detokenize(await session.tokens());
const settle = (promise) => promise.then((value) => ({ value }), (error) => ({ error }));

test('calls on a session run in their order', async () => {
  const session = await model.createSession();
  const results = await Promise.all([
    session.prompt(prompt, { maxTokens: 8 }), session.prompt(', said', { maxTokens: 8 }),
    session.append(' the end.'), session.tokens()]);
  assert.equal(await textOf(session), `${prompt}${results[0]}, said${results[1]} the end.`);
  assert.equal(results[3].length, session.contextUsage);
  await session.destroy();
});

test('a long input holds up no other session', async () => {
  const [long, short] = [await model.createSession(), await model.createSession()];
  const controller = new AbortController();
  let done = 0;
  const first = settle(long.append(longInput,
    { signal: controller.signal, onPrefill: (count) => { done = count; } }));
  while (done === 0) await new Promise((resolve) => { setTimeout(resolve, 1); });
  assert.equal((await short.prompt(prompt, { maxTokens: 3 })).length > 0, true);
  assert.ok(done < longInput.tokens.length / 2, `${done} tokens of the long one came first`);
  controller.abort();
  assert.equal((await first).error.name, 'AbortError');
  await Promise.all([long.destroy(), short.destroy()]);
});

test('an abort before the turn of a call does nothing, the calls around it run', async () => {
  const session = await model.createSession(endless);
  const [stop, controller] = [new AbortController(), new AbortController()];
  // Without an end, so that the others wait, however late the abort is heard.
  const answer = session.generate(prompt, { signal: stop.signal });
  const begun = answer[Symbol.asyncIterator]().next();
  const first = settle(answer.result);
  const second = settle(session.prompt(' NEVER', { maxTokens: 8, signal: controller.signal }));
  const third = session.append(' And');
  controller.abort(new Error('not that one'));
  assert.equal((await second).error.message, 'not that one');
  // Not while it reads: that would leave nothing of it.
  await begun;
  stop.abort(new Error('enough'));
  assert.equal((await first).error.message, 'enough');
  await third;
  const text = await textOf(session);
  assert.ok(text.startsWith(prompt) && text.endsWith(' And') && !text.includes('NEVER'), text);
  const gone = settle(session.prompt('x', { signal: AbortSignal.abort('early') }));
  assert.equal((await gone).error, 'early');
  await session.destroy();
});

test('an abort while the input is processed leaves the session as it was', async () => {
  const session = await model.createSession();
  await session.append(prompt);
  const { contextUsage } = session;
  const tokens = await session.tokens();
  for (const call of ['prompt', 'append']) {
    const controller = new AbortController();
    const seen = [];
    const options = { signal: controller.signal, onPrefill: (done, total) => {
      seen.push(done);
      assert.equal(total, longInput.tokens.length);
      if (seen.length === 2) controller.abort();
    } };
    const { error } = await settle(session[call](longInput,
      call === 'prompt' ? { ...options, maxTokens: 5 } : options));
    assert.equal(error.name, 'AbortError');
    assert.equal(session.contextUsage, contextUsage);
    assert.deepEqual(await session.tokens(), tokens);
  }
  await session.destroy();
});

test('an abort while the answer comes leaves what came', async () => {
  const session = await model.createSession(endless);
  const controller = new AbortController();
  const answer = session.generate(prompt, { signal: controller.signal });
  const parts = [];
  await assert.rejects(async () => {
    for await (const part of answer) {
      parts.push(part.text);
      if (parts.length === 6) controller.abort(new Error('enough'));
    }
  }, { message: 'enough' });
  await assert.rejects(answer.result, { message: 'enough' });
  const text = await textOf(session);
  assert.ok(text.startsWith(prompt + parts.join('').slice(0, 5)));
  await session.destroy();
});

test('loading and restoring can be aborted at any time', async () => {
  for (const delay of [0, 5, 30, 80]) {
    const signal = AbortSignal.timeout(delay);
    const { value, error } = await settle(OneKV.load(path, { signal, threads: 1 }));
    if (value !== undefined) await value.unload();
    else assert.equal(error.name, 'TimeoutError');
  }
  await assert.rejects(OneKV.load(path, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  await assert.rejects(OneKV.estimate(path, { signal: AbortSignal.abort() }),
    { name: 'AbortError' });
  const { bySession } = await model.memory();
  const controller = new AbortController();
  const opening = model.createSession({ initialPrompts: longInput, signal: controller.signal,
    onPrefill: () => controller.abort() });
  await assert.rejects(opening, { name: 'AbortError' });
  const snapshot = writeSaved({ format: 'tokens', model: model.hash,
    past: { chat: false, messages: [], text: '', ends: [] },
    settings: { contextWindow: 0, overflow: 'error', keep: 0, sampling: {} },
    payload: new Uint8Array(longInput.tokens.buffer) });
  const restoring = new AbortController();
  const restored = model.restore(snapshot, { signal: restoring.signal });
  restoring.abort();
  await assert.rejects(restored, { name: 'AbortError' });
  assert.equal((await model.memory()).bySession.length, bySession.length);
});

test('destroy ends what runs and what waits', async () => {
  const session = await model.createSession(endless);
  const other = await model.createSession();
  const going = other.prompt(prompt, { maxTokens: 30 });
  const calls = [session.prompt(prompt), session.append('x'), session.tokens()].map(settle);
  // It does not wait for the answer, so it may be done before the end comes.
  const saving = settle(session.save());
  await session.destroy();
  const { error: unsaved } = await saving;
  assert.ok(unsaved === undefined || unsaved.code === 'DESTROYED');
  for (const { error } of await Promise.all(calls)) assert.equal(error.code, 'DESTROYED');
  await assert.rejects(session.prompt('more'), { code: 'DESTROYED' });
  await session.destroy();
  assert.ok((await going).length > 10);
  await other.destroy();
});

test('sessions that run at the same time write what they would alone', async () => {
  const options = (seed) => ({ temperature: 0.9, seed });
  const alone = [];
  for (let seed = 0; seed < 4; seed++) {
    const session = await model.createSession(options(seed));
    alone.push(await session.prompt(prompt, { maxTokens: 20 }));
    await session.destroy();
  }
  const sessions = await Promise.all(alone.map((_, seed) => model.createSession(options(seed))));
  const together = await model.batch(sessions).prompt(prompt, { maxTokens: 20 });
  assert.deepEqual(together, alone);
  assert.equal(new Set(together).size, 4);
  await Promise.all(sessions.map((session) => session.destroy()));
});

test('two hundred sessions share a prompt until they differ', async () => {
  const before = await model.memory();
  const parent = await model.createSession({ initialPrompts: longText.slice(0, 1400) });
  const shared = parent.contextUsage - 1;
  const sessions = [];
  for (let i = 0; i < 200; i++) {
    const session = await parent.clone();
    await session.setSampling({ temperature: 1, seed: i });
    sessions.push(session);
  }
  const page = 32 * model.bytesPerToken;
  const cloned = await model.memory();
  const sharedPages = Math.ceil(shared / 32) * page;
  assert.equal(cloned.cacheUsed - before.cacheUsed, sharedPages);
  const warnings = [];
  const warn = (warning) => warnings.push(warning.message);
  process.on('warning', warn);
  const { signal } = new AbortController();
  const answers = await model.batch(sessions).prompt(' One day', { maxTokens: 12, signal });
  assert.ok(new Set(answers).size > 150, `${new Set(answers).size} different answers`);
  const { cacheUsed, bySession } = await model.memory();
  const own = bySession.reduce((sum, session) => sum + session.own, 0);
  const whole = Math.floor(shared / 32) * page;
  assert.equal(cacheUsed - before.cacheUsed, own - before.cacheUsed + whole);
  assert.ok(cacheUsed < bySession.reduce((sum, session) => sum + session.pages, 0) / 4);
  // One signal for all of them, and no word of listeners that leak.
  await Promise.all(sessions.map((session) => session.append('.', { signal })));
  await new Promise(setImmediate);
  process.off('warning', warn);
  assert.deepEqual(warnings, []);
  await Promise.all([parent, ...sessions].map((session) => session.destroy()));
  assert.equal((await model.memory()).cacheUsed, before.cacheUsed);
});

test('one signal ends all calls that it was given to', async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const sessions = await Promise.all([0, 1, 2].map(() => model.createSession(endless)));
  const answers = sessions.map((session) => session.generate(prompt, { signal }));
  for (const answer of answers) await answer[Symbol.asyncIterator]().next();
  controller.abort(new Error('all of you'));
  for (const { result } of answers) await assert.rejects(result, { message: 'all of you' });
  await Promise.all(sessions.map((session) => session.destroy()));
});

test('a batch: one input each, the first failure ends all, an early leave too', async () => {
  const sessions = await Promise.all([0, 1, 2].map(() => model.createSession(endless)));
  const batch = model.batch(sessions);
  const texts = await batch.prompt(['A cat', 'A dog', 'A bird'], { maxTokens: 5 });
  assert.equal(texts.length, 3);
  assert.match(await textOf(sessions[1]), /^A dog/);
  await assert.rejects(batch.prompt(['x', 'y']), { code: 'INVALID_ARGUMENT' });
  const wrong = { tokens: [1 << 20] };
  await assert.rejects(batch.prompt(['x', wrong, 'y']), { code: 'TOKEN_OUT_OF_RANGE' });
  for await (const { index } of batch.promptStreaming('z')) {
    assert.ok(index >= 0 && index < 3);
    break;
  }
  // They have ended: their other calls are no longer held up.
  await Promise.all(sessions.map((session) => session.append('.')));
  await Promise.all(sessions.map((session) => session.destroy()));
});

test('a thousand sessions, made and destroyed, leave the memory as it was', async () => {
  const round = async () => {
    const session = await model.createSession({ initialPrompts: prompt });
    const clone = await session.clone();
    await Promise.all([session.destroy(), clone.destroy()]);
  };
  await round();
  const { total, heap } = await model.memory();
  for (let i = 0; i < 500; i++) await round();
  const after = await model.memory();
  assert.deepEqual([after.total, after.heap, after.bySession], [total, heap, []]);
});

test('sessions that nobody holds any more are destroyed', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  await Promise.all(Array.from({ length: 5 }, () => model.createSession()));
  for (let i = 0; i < 100 && (await model.memory()).bySession.length > 0; i++) {
    collect();
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
  assert.deepEqual((await model.memory()).bySession, []);
});

test('a window that slides says so, one that does not is an error', async () => {
  const pageBytes = 32 * model.bytesPerToken;
  const full = await model.createSession({ contextBytes: 2 * pageBytes + 1 });
  assert.equal(full.contextWindow, 64);
  const { reason } = await full.generate(prompt, { maxTokens: 200 }).result;
  assert.equal(reason, 'context');
  assert.equal(full.contextBytes, 64 * model.bytesPerToken);
  let overflows = 0;
  full.oncontextoverflow = () => { overflows += 1; };
  await assert.rejects(full.prompt(' and more', { maxTokens: 1 }), { code: 'CONTEXT_FULL' });
  assert.equal(overflows, 1);
  const sliding = await model.createSession({ contextWindow: 64, overflow: 'slide',
    initialPrompts: prompt });
  const kept = [...await sliding.tokens()];
  sliding.addEventListener('contextoverflow', () => { overflows += 1; });
  await sliding.prompt('', { maxTokens: 150 });
  assert.ok(overflows > 3, `${overflows}`);
  assert.ok(sliding.contextUsage <= 65);
  assert.deepEqual([...await sliding.tokens()].slice(0, kept.length), kept);
  await Promise.all([full.destroy(), sliding.destroy()]);
});

test('a sliding input that is aborted gives the past back', async () => {
  const session = await model.createSession({ contextWindow: 64, overflow: 'slide' });
  await session.append({ tokens: new Int32Array(60).map((_, i) => i + 5) });
  const tokens = await session.tokens();
  const controller = new AbortController();
  const input = { tokens: longInput.tokens.slice(0, 600) };
  // The window is far too small for it at once; in pieces it slides again and again.
  const { error } = await settle(session.append(longInput,
    { signal: controller.signal, onPrefill: () => controller.abort() }));
  assert.equal(error.name, 'AbortError');
  assert.deepEqual(await session.tokens(), tokens);
  await session.append(input);
  assert.equal((await session.tokens()).at(-1), 7);
  assert.ok(session.contextUsage <= 65);
  await session.destroy();
});

test('memory events come while sessions work, and only for listeners', async () => {
  const seen = [];
  const listener = ({ memory }) => seen.push(memory.cacheUsed);
  model.addEventListener('memory', listener);
  const session = await model.createSession();
  await session.prompt(prompt, { maxTokens: 150 });
  assert.ok(seen.length >= 3, `${seen.length} events`);
  assert.equal(seen.at(-1), (await model.memory()).cacheUsed);
  assert.ok(seen.at(-1) > seen[0]);
  model.removeEventListener('memory', listener);
  await session.tokens();
  const { length } = seen;
  await session.prompt('', { maxTokens: 50 });
  assert.equal(seen.length, length);
  await session.destroy();
});

test('a constraint says which tokens may come', async () => {
  const { tokens, ends } = await model.vocabulary();
  const words = tokens.length + 31 >> 5;
  const digits = [...'0123456789'].map((digit) => tokens.indexOf(digit));
  const accepted = [];
  const constraint = {
    allowed: async () => {
      const mask = new Uint32Array(words);
      for (const id of accepted.length < 6 ? digits : ends) mask[id >> 5] |= 1 << (id & 31);
      return mask;
    },
    accept: (token) => { accepted.push(token); },
  };
  const session = await model.createSession({ temperature: 1, seed: 4 });
  const answer = session.generate('The number is ', { constraint });
  const { text, reason, tokens: chosen } = await answer.result;
  assert.match(text, /^\d{6}$/);
  assert.equal(reason, 'end');
  assert.deepEqual(accepted, chosen);
  const failing = { allowed: () => { throw new Error('no idea'); }, accept: () => {} };
  await assert.rejects(session.prompt('x', { constraint: failing }), /no idea/);
  const none = { allowed: () => new Uint32Array(words), accept: () => {} };
  await assert.rejects(session.prompt('x', { constraint: none, maxTokens: 3 }),
    { name: 'OneKVError' });
  await session.destroy();
});

test('attention maps have a row for each token, that sums to one', async () => {
  const session = await model.createSession({ initialPrompts: prompt });
  await session.prompt('', { maxTokens: 10 });
  const own = await session.attention({ layer: 2, head: 5 });
  const { tokens, weights } = own;
  assert.equal(tokens, session.contextUsage);
  for (let row = 0; row < tokens; row++) {
    const sum = weights.subarray(row * tokens, (row + 1) * tokens).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum - 1) < 1e-4);
    assert.ok(weights.subarray(row * tokens + row + 1, (row + 1) * tokens).every((w) => w === 0));
  }
  const keys = await session.attention({ layer: 2, head: 5, queries: 'keys' });
  const mutual = (scores) => Array.from({ length: tokens }, (_, i) =>
    Math.abs(scores[3 * tokens + i] - scores[i * tokens + 3]) < 1e-3).every(Boolean);
  assert.deepEqual([own.scores, keys.scores].map(mutual), [false, true]);
  await assert.rejects(session.attention({ layer: 2, head: 5, queries: 'values' }),
    { code: 'INVALID_ARGUMENT' });
  await session.destroy();
});

test('initial prompts are planned before the session opens: core opens one', async () => {
  const engine = await Engine.open({ threads: 1 });
  const loaded = await loadModel(engine, path);
  let opened = 0;
  const open = loaded.openSession.bind(loaded);
  loaded.openSession = (options) => {
    opened += 1;
    return open(options);
  };
  const { handlers } = new SessionHost(loaded, () => {}, undefined);
  const call = { notice() {}, signal: new AbortController().signal };
  const { id, length } = await handlers.createSession({ initial: { text: prompt }, chat: false,
    overflow: 'slide', contextWindow: 64 }, call);
  assert.equal(opened, 1);
  assert.equal(length, loaded.tokenizer.encode(prompt).length);
  const long = { initial: { text: 'word '.repeat(100) }, chat: false, contextWindow: 8 };
  await assert.rejects(handlers.createSession(long, call), { code: 'CONTEXT_FULL' });
  const saved = handlers.save({ session: id, format: 'tokens' });
  const wrong = handlers.restore({ bytes: saved, as: id }, call);
  await assert.rejects(wrong, { code: 'INVALID_ARGUMENT' });
  assert.equal((await handlers.restore({ bytes: saved, as: 20 }, call)).id, 20);
  assert.equal(loaded.memory().openSessions, 2, 'what failed is closed');
  engine.destroy();
});
