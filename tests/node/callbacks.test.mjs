// Functions of the caller that throw, reject or never end: the call that they belong to rejects
// with what they threw, listeners of events are reported, and everything else goes on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SessionPool } from '../../dist/src/facades/session-pool.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { root, withKeys } from './support.mjs';
import { toolTemplate } from './tool-template.mjs';

const limit = { timeout: 60_000 };
const prompt = 'Once upon a time';
const bad = new Error('of the caller');
const throwing = { throws: () => { throw bad; }, rejects: async () => { throw bad; } };
let model;

before(async () => {
  model = await OneKV.load(`${root}models/stories-q-mqa.q8_0.gguf`, { threads: 1 });
});
after(() => model.unload());

/** Bytes of sessions. */
const sessionsOf = async () => (await model.memory()).sessions;

for (const [how, onPrefill] of Object.entries(throwing)) {
  test(`onPrefill that ${how} ends its call with that, and leaves nothing`, limit, async () => {
    const before = await sessionsOf();
    await assert.rejects(model.createSession({ initialPrompts: prompt, onPrefill }),
      (error) => error === bad);
    assert.equal(await sessionsOf(), before);
    const session = await model.createSession();
    await assert.rejects(session.append(prompt, { onPrefill }), (error) => error === bad);
    await assert.rejects(session.prompt(prompt, { onPrefill }), (error) => error === bad);
    await assert.rejects(model.batch([session]).prompt(prompt, { onPrefill }),
      (error) => error === bad);
    assert.equal(typeof await session.prompt(prompt, { maxTokens: 2 }), 'string');
    await session.destroy();
  });
}

for (const [how, fail] of Object.entries(throwing)) {
  test(`a constraint that ${how} ends its call with that, at the last token too`, limit,
    async () => {
      const session = await model.createSession();
      for (const [name, at] of [['accept', 1], ['accept', 3], ['allowed', 1], ['allowed', 3]]) {
        let count = 0;
        const constraint = { accept: () => {}, allowed: () => undefined,
          [name]: () => (++count === at ? fail() : undefined) };
        await assert.rejects(session.prompt(prompt, { maxTokens: 3, constraint }),
          (error) => error === bad, `${name} ${at}`);
        assert.equal(count, at, `${name}: nothing is asked after a failure`);
      }
      await assert.rejects(session.prompt(prompt, { constraint: { accept: () => {},
        allowed: () => 5 } }), { code: 'INVALID_ARGUMENT', message:
        'what constraint.allowed gives: found 5, expected a Uint32Array' });
      const hanging = { allowed: () => undefined, accept: () => new Promise(() => {}) };
      const controller = new AbortController();
      const { signal } = controller;
      setTimeout(() => controller.abort(), 100);
      await assert.rejects(session.prompt(prompt, { constraint: hanging, signal, maxTokens: 1 }),
        (error) => error === signal.reason);
      assert.equal(typeof await session.prompt(prompt, { maxTokens: 2 }), 'string');
      await session.destroy();
    });
}

test('listeners that throw are reported, the rest is called', limit, async (t) => {
  const reported = t.mock.method(console, 'error', () => {});
  const heard = [];
  const session = await model.createSession({ contextWindow: 64, overflow: 'slide' });
  session.oncontextoverflow = throwing.throws;
  session.addEventListener('contextoverflow', throwing.rejects);
  session.addEventListener('contextoverflow', { handleEvent: () => heard.push('object') });
  const gone = () => heard.push('gone');
  session.addEventListener('contextoverflow', gone);
  session.addEventListener('contextoverflow', gone);
  session.removeEventListener('contextoverflow', gone);
  await session.prompt('a '.repeat(70));
  await session.destroy();
  assert.ok(heard.length > 0 && !heard.includes('gone'), heard.join());
  assert.deepEqual(reported.mock.calls.slice(0, 2).map(({ arguments: [error] }) => error),
    [bad, bad]);
  for (const wrong of [5, null, {}, 'x']) {
    assert.throws(() => session.addEventListener('contextoverflow', wrong),
      { code: 'INVALID_ARGUMENT', message: /^listener: found / });
  }
  const monitor = (m) => m.addEventListener('downloadprogress', throwing.throws);
  const path = `${root}models/stories-q-mqa.q8_0.gguf`;
  const other = await OneKV.load(path, { threads: 1, monitor });
  await other.unload();
  assert.ok(reported.mock.callCount() > 2);
  await assert.rejects(OneKV.load(path, { monitor: throwing.throws }), (error) => error === bad);
});

test('a tool that never ends: an abort, destroy and unload end the answer', limit, async () => {
  const own = await OneKV.load(withKeys(`${root}models/stories-q-mqa.q8_0.gguf`,
    [['tokenizer.chat_template', 'string', toolTemplate]]), { threads: 1 });
  const signals = [];
  let begun;
  const tools = [{ name: 'now', execute: (_, { signal }) => {
    signals.push(signal);
    begun();
    return new Promise(() => {});
  } }];
  const options = { toolChoice: { name: 'now' }, parallelToolCalls: false };
  /** An answer whose tool hangs. */
  const hanging = async (session, signal) => {
    const isBegun = new Promise((resolve) => { begun = resolve; });
    const answer = session.prompt('What time is it?', { ...options, signal });
    answer.catch(() => {});
    await isBegun;
    return answer.then(() => 'an answer', (error) => error);
  };
  const session = await own.createSession({ tools });
  const controller = new AbortController();
  const first = hanging(session, controller.signal);
  while (signals.length < 1) await new Promise((resolve) => { setTimeout(resolve, 5); });
  const waiting = session.append('x', { signal: controller.signal });
  const then = session.measureContextUsage('x');
  controller.abort(bad);
  assert.equal(await first, bad);
  await assert.rejects(waiting, (error) => error === bad);
  assert.ok(await then > 0, 'what waited behind it goes on');
  assert.equal(signals[0].aborted, true, 'the tool is told');
  assert.equal(typeof await session.prompt('b', { maxTokens: 2, toolChoice: 'none' }), 'string');
  const second = hanging(session, undefined);
  while (signals.length < 2) await new Promise((resolve) => { setTimeout(resolve, 5); });
  await session.destroy();
  assert.equal((await second).code, 'DESTROYED');
  const third = hanging(await own.createSession({ tools }), undefined);
  while (signals.length < 3) await new Promise((resolve) => { setTimeout(resolve, 5); });
  await own.unload();
  assert.equal((await third).code, 'DESTROYED');
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, true]);
});

test('what is made in a call that fails afterwards is not left behind', limit, async () => {
  const before = await sessionsOf();
  const session = await model.createSession({ initialPrompts: prompt });
  const blob = await session.save();
  for (const tools of [5, [{ name: 'f', execute: 5 }]]) {
    await assert.rejects(model.restore(blob, { tools }), { code: 'INVALID_ARGUMENT' });
  }
  await session.destroy();
  assert.equal(await sessionsOf(), before);
});

test('the sessions of a client: none is lost where taking one is aborted', limit, async () => {
  const before = await sessionsOf();
  const pool = new SessionPool(model, 2);
  const { session } = await pool.take([300, 301, 302, 303], undefined);
  await session.append({ tokens: [300, 301, 302, 303] });
  await pool.giveBack(session);
  const clone = session.clone.bind(session);
  session.clone = async (options) => Object.assign(await clone(options),
    { truncate: async () => { throw bad; } });
  await assert.rejects(pool.take([300, 301, 400], undefined), (error) => error === bad);
  // The clone is idle, and holds what it was made of.
  const again = await pool.take([300, 301, 302, 303, 304], undefined);
  const other = await pool.take([300, 301, 302, 303, 304], undefined);
  assert.deepEqual([again.cached, other.cached], [4, 4]);
  const taking = pool.take([9], undefined);
  await pool.destroy();
  await pool.giveBack((await taking).session);
  assert.equal(await sessionsOf(), before);
});
