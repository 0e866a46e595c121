// What loading ends with: nothing of the warm-up is left, and the number of threads is chosen only
// where it was left open.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { loadModel } from '../../dist/src/engine-entry-node.js';
import { warmUp } from '../../dist/src/engine/warm-up.js';
import { goldenNames, goldenPath, readGolden, withEngine } from './support.mjs';

const causal = 'llama-keqv-mqa';
const others = ['vit-keqv-mqa', 'encoder-qkv-gqa', 'gpt2-qkv-mha'];

test('no trace of the warm-up', () => withEngine({ threads: undefined }, async (engine) => {
  for (const name of [causal, ...others]) {
    assert.ok(goldenNames.includes(name));
    const model = await loadModel(engine, goldenPath(name));
    const { cache, cachePooled, openSessions, sessions } = model.memory();
    assert.deepEqual([cache, cachePooled, openSessions, sessions], [0, 0, 0, 0], name);
    assert.ok(model.threads >= 1 && model.threads <= engine.threads, name);
    model.destroy();
  }
}));

test('a clock that stands still ends the warm-up too', { timeout: 120_000 }, (t) =>
  withEngine({ threads: undefined }, async (engine) => {
    t.mock.method(performance, 'now', () => 0);
    const model = await loadModel(engine, goldenPath(causal));
    assert.ok(model.threads >= 1 && model.threads <= engine.threads);
  }));

test('threads that were asked for are used', () => withEngine({ threads: 2 }, async (engine) => {
  assert.equal(engine.choosesThreads, false);
  const model = await loadModel(engine, goldenPath(causal));
  assert.equal(model.threads, 2);
}));

test('any number of threads: the same bits', () => withEngine({ threads: 3 }, async (engine) => {
  const { tokens } = readGolden(causal);
  const model = await loadModel(engine, goldenPath(causal));
  const rows = [1, 2, 3, 1].map((threads) => {
    model.useThreads(threads);
    assert.equal(model.threads, threads);
    const session = model.openSession();
    session.append(tokens);
    return session.logits();
  });
  for (const row of rows) assert.deepEqual(row, rows[0]);
  for (const threads of [0, 4, 1.5]) {
    assert.throws(() => model.useThreads(threads), { code: 'INVALID_ARGUMENT' });
  }
}));

/** The number of threads chosen for a model whose steps take these milliseconds, by threads. */
async function chosen(milliseconds) {
  let now = 0;
  let used = 1;
  const session = { length: 0, append() {}, truncate() {}, destroy() {},
    logits: () => { now += milliseconds[used]; } };
  const model = { engine: { choosesThreads: true, threads: 4 }, description: { causal: true },
    contextWindow: 64, openSession: () => session, trim() {},
    useThreads: (count) => { used = count; } };
  const clock = mock.method(performance, 'now', () => now);
  await warmUp(model).finally(() => clock.mock.restore());
  return used;
}

test('the fastest number of threads is chosen', async () => {
  assert.equal(await chosen({ 1: 4, 2: 3, 4: 2 }), 4);
  assert.equal(await chosen({ 1: 4, 2: 3, 4: 5 }), 2);
  assert.equal(await chosen({ 1: 1, 2: 3, 4: 5 }), 1);
  // Too long to be tried out.
  assert.equal(await chosen({ 1: 150, 2: 80, 4: 50 }), 4);
  // No cores to spare: what several threads do they do by turns.
  assert.equal(await chosen({ 1: 2, 2: 300, 4: 500 }), 1);
});

test('models keep their own number', () => withEngine({ threads: 2 }, async (engine) => {
  const first = await loadModel(engine, goldenPath(causal));
  const second = await loadModel(engine, goldenPath(causal));
  first.useThreads(1);
  assert.deepEqual([first.threads, second.threads], [1, 2]);
}));

test('an abort ends the warm-up', () => withEngine({ threads: undefined }, async (engine) => {
  const abort = new AbortController();
  const loading = loadModel(engine, goldenPath(causal), {
    signal: abort.signal,
    onProgress: ({ loaded, total }) => {
      if (loaded === total) abort.abort(new Error('enough'));
    },
  });
  await assert.rejects(loading, { message: 'enough' });
  const model = await loadModel(engine, goldenPath(causal));
  assert.equal(model.memory().openSessions, 0);
}));
