// Sessions: whatever way a sequence comes about, the same tokens have the same logits.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Engine } from '../../dist/src/engine-entry-node.js';
import { goldenPath, loadSync, readGolden } from './support.mjs';

let engine;
let model;
const { tokens } = readGolden('llama-keqv-mqa');

before(async () => {
  engine = await Engine.open({ threads: 2 });
  model = loadSync(engine, goldenPath('llama-keqv-mqa'), { batch: 4 });
});
after(() => engine.destroy());

const opened = (ids, options = {}) => {
  const session = model.openSession(options);
  session.append(ids);
  return session;
};
const logitsOf = (ids) => opened(ids).logits();
const take = (session, n) => Array.from({ length: n }, () => session.next().token);

test('append in pieces, and logits in between, change nothing', () => {
  const expected = logitsOf(tokens);
  for (const piece of [1, 2, 3, 7, 39, 40]) {
    const session = model.openSession();
    for (let at = 0; at < tokens.length; at += piece) {
      session.append(tokens.subarray(at, at + piece));
      if (at % 2 === 0) session.logits();
    }
    assert.equal(session.length, tokens.length);
    assert.deepEqual(session.logits(), expected);
    assert.deepEqual(session.tokens(), tokens);
    assert.deepEqual(session.tokens(3, 5), tokens.slice(3, 8));
  }
});

test('next appends what it gives; greedy is the largest logit', () => {
  const session = opened(tokens.subarray(0, 10));
  const logits = session.logits();
  const { token, logprob, top } = session.next({ logprobs: 3 });
  assert.equal(token, logits.indexOf(Math.max(...logits)));
  assert.deepEqual([...session.tokens()], [...tokens.subarray(0, 10), token]);
  assert.equal(top[0].token, token);
  assert.ok(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
  assert.ok(Math.abs(top[0].logprob - logprob) < 1e-6);
  const sum = Math.log(logits.reduce((all, x) => all + Math.exp(x), 0));
  assert.ok(Math.abs(logits[token] - sum - logprob) < 1e-4);
});

test('truncate goes back, also over the token that waits', () => {
  const session = opened(tokens);
  for (const n of [40, 39, 17, 1]) {
    session.truncate(n);
    assert.equal(session.length, n);
    assert.deepEqual(session.logits(), logitsOf(tokens.subarray(0, n)));
  }
  session.truncate(0);
  assert.equal(session.length, 0);
  session.append(tokens);
  assert.deepEqual(session.logits(), logitsOf(tokens));
});

test('a clone goes its own way, with the same random numbers', () => {
  const session = opened(tokens.subarray(0, 25), { temperature: 1.5, seed: 11n });
  take(session, 3);
  const clone = session.clone();
  const own = session.memory().cacheOwn;
  assert.equal(own, 0, 'all pages are shared');
  assert.deepEqual(take(clone, 10), take(session, 10));
  clone.append([1]);
  session.append([2]);
  assert.notDeepEqual(clone.logits(), session.logits());
});

test('save and restore, whether the last token waits or not', () => {
  const session = opened(tokens, { temperature: 1, seed: 5, contextWindow: 45, overflow: 'slide' });
  for (const prepare of [() => {}, () => session.logits()]) {
    prepare();
    const restored = model.restoreSession(session.save());
    assert.deepEqual(restored.tokens(), session.tokens());
    assert.equal(restored.contextWindow, 45);
    assert.equal(restored.slides, true);
    assert.deepEqual(take(restored, 8), take(session, 8));
    restored.destroy();
  }
  assert.equal(model.restoreSession(model.openSession().save()).length, 0);
});

test('a snapshot with any byte flipped is refused', () => {
  const session = opened(tokens.subarray(0, 4));
  for (const prepare of [() => {}, () => session.logits()]) {
    prepare();
    const bytes = session.save();
    for (let at = 0; at < bytes.length; at++) {
      for (const flip of [0x01, 0x55, 0x80]) {
        const damaged = bytes.slice();
        damaged[at] ^= flip;
        assert.throws(() => model.restoreSession(damaged), { code: 'SNAPSHOT_REFUSED' },
          `byte ${at}, bits ${flip}`);
      }
    }
    for (let n = 0; n < bytes.length; n++) {
      assert.throws(() => model.restoreSession(bytes.subarray(0, n)),
        { code: 'SNAPSHOT_REFUSED' }, `${n} bytes`);
    }
  }
});

test('score gives the log probabilities of a softmax over the logits', () => {
  const session = model.openSession();
  const scores = session.score(tokens);
  assert.ok(Number.isNaN(scores[0]));
  for (const i of [1, 2, 20, 39]) {
    const logits = logitsOf(tokens.subarray(0, i));
    const sum = Math.log(logits.reduce((all, x) => all + Math.exp(x), 0));
    assert.ok(Math.abs(scores[i] - (logits[tokens[i]] - sum)) < 1e-4);
  }
  const pieces = model.openSession();
  const joined = [tokens.subarray(0, 1), tokens.subarray(1, 2), tokens.subarray(2, 30),
    tokens.subarray(30)].flatMap((piece) => [...pieces.score(piece)]);
  assert.deepEqual(joined, [...scores]);
  assert.deepEqual(pieces.logits(), logitsOf(tokens));
  assert.deepEqual([...pieces.score([])], []);
});

test('many sessions advance together as they would alone', () => {
  const prompts = Array.from({ length: 9 }, (_, i) => tokens.subarray(i, 2 * i + 3));
  const options = (i) => ({ temperature: i % 2, seed: i });
  const alone = prompts.map((ids, i) => take(opened(ids, options(i)), 6));
  const sessions = prompts.map((ids, i) => opened(ids, options(i)));
  const together = prompts.map(() => []);
  for (let n = 0; n < 6; n++) {
    model.advance(sessions).forEach(({ token }, i) => together[i].push(token));
  }
  assert.deepEqual(together, alone);
});

test('sampling: bias, mask, penalties, new parameters', () => {
  const forbidden = opened(tokens).next().token;
  const biased = opened(tokens, { logitBias: { [forbidden]: -Infinity } });
  assert.notEqual(biased.next().token, forbidden);
  const wanted = (forbidden + 1) % model.description.vocabulary;
  assert.equal(opened(tokens, { logitBias: new Map([[wanted, 1e6]]) }).next().token, wanted);
  const masked = opened(tokens).next({
    mask: (logits) => logits.forEach((_, i) => { if (i !== 3) logits[i] = -Infinity; }),
  });
  assert.equal(masked.token, 3);
  const session = opened(tokens, { temperature: 2, seed: 1 });
  const first = take(session, 8);
  session.truncate(tokens.length);
  session.setSampling({ temperature: 2, seed: 1 });
  assert.deepEqual(take(session, 8), first);
  session.truncate(tokens.length);
  session.setSampling({ temperature: 2, seed: 2 ** 53 - 1 });
  assert.notDeepEqual(take(session, 8), first);
});

test('a full window is an error, or slides and keeps the first tokens', () => {
  const session = opened(tokens.subarray(0, 16), { contextWindow: 16 });
  take(session, 1);
  assert.throws(() => session.next(), { code: 'CONTEXT_FULL' });
  assert.equal(session.length, 17, 'the last token waits outside the window');
  session.truncate(8);
  take(session, 1);
  const sliding = opened(tokens.subarray(0, 16), { contextWindow: 16, overflow: 'slide', keep: 2 });
  take(sliding, 40);
  assert.ok(sliding.length <= 17);
  assert.deepEqual([...sliding.tokens(0, 2)], [...tokens.subarray(0, 2)]);
});

test('destroyed objects say so, and destroying twice is nothing', () => {
  const session = opened(tokens);
  session.destroy();
  session.destroy();
  const uses = [() => session.next(), () => session.append([1]), () => session.length,
    () => session.save(), () => session.clone(), () => session.memory(), () => session.logits(),
    () => session.score([1, 2]), () => session.truncate(0), () => session.tokens(),
    () => session.setSampling({})];
  for (const use of uses) assert.throws(use, { code: 'DESTROYED' }, String(use));
  const other = loadSync(engine, goldenPath('llama-tied'));
  const orphan = other.openSession();
  other.destroy();
  other.destroy();
  assert.throws(() => other.openSession(), { code: 'DESTROYED' });
  assert.throws(() => other.memory(), { code: 'DESTROYED' });
  assert.throws(() => orphan.length, { code: 'DESTROYED' });
  assert.throws(() => model.advance([orphan]), { code: 'INVALID_ARGUMENT' });
});

test('a thousand sessions, made, cloned and destroyed, leave the memory as it was', () => {
  const others = model.memory().openSessions;
  const round = () => {
    const session = opened(tokens.subarray(0, 8));
    const clone = session.clone();
    clone.next();
    session.destroy();
    clone.destroy();
  };
  round();
  const { total, heap } = model.memory();
  for (let i = 0; i < 1000; i++) round();
  assert.deepEqual([model.memory().total, model.memory().heap], [total, heap]);
  assert.equal(model.memory().openSessions, others);
});

test('a seed is random unless it is given, and is told', () => {
  const sampled = Array.from({ length: 8 }, () => opened(tokens, { temperature: 1 }));
  assert.equal(new Set(sampled.map(({ seed }) => seed)).size, 8);
  for (const session of sampled.slice(0, 3)) {
    assert.ok(Number.isSafeInteger(session.seed));
    const again = opened(tokens, { temperature: 1, seed: session.seed });
    assert.deepEqual(take(again, 6), take(session, 6));
  }
  assert.equal(opened(tokens, { temperature: 1, seed: 2n ** 64n - 1n }).seed, 2n ** 64n - 1n);
  assert.equal(opened(tokens).seed, 0, 'nothing is drawn');
  const session = opened(tokens);
  session.setSampling({ temperature: 1 });
  assert.notEqual(session.seed, 0);
  assert.equal(model.restoreSession(session.save()).seed, session.seed);
});

test('the order of the sampler: what is cut depends on the temperature, or does not', () => {
  // By itself the first of fifty tokens has 0.63 of the probability; at 100 all are nearly equal.
  const mask = (logits) => logits.forEach((_, i) => { logits[i] = i < 50 ? -i : -Infinity; });
  const drawn = (samplerOrder) => new Set(Array.from({ length: 60 }, (_, seed) => opened(tokens,
    { temperature: 100, topP: 0.5, seed, ...samplerOrder }).next({ mask }).token));
  assert.deepEqual([...drawn({ samplerOrder: 'temperature-last' })], [0]);
  const first = drawn({ samplerOrder: 'temperature-first' });
  assert.ok(first.size > 10, `${first.size}`);
  assert.deepEqual(drawn({}), first, 'the default');
  assert.throws(() => opened(tokens, { samplerOrder: 'last' }), { code: 'INVALID_ARGUMENT' });
});
