// Speculative decoding: whatever is guessed, texts, tokens, probabilities and what the cache holds
// are those of plain decoding.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { Engine, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { Drafts, Lookup } from '../../dist/src/engine/drafts.js';
import { OneKV } from '../../dist/src/onekv-node.js';
import { Tokenizer } from '../../dist/src/text/tokenizer.js';
import { goldenPath, loadSync, root, withKeys } from './support.mjs';

const limit = { timeout: 180_000 };
const file = `${root}models/stories-q-mqa.q8_0.gguf`;

let engine;
before(async () => {
  engine = await Engine.open({ threads: 1 });
});
after(() => engine.destroy());

/** A clock that stands still: what is guessed is then the same each time. */
const stopClock = (t) => t.mock.method(performance, 'now', () => 0);
const stillClock = new URL('workers/still-clock.mjs', import.meta.url).href;
const stillWorker = new URL('workers/still.mjs', import.meta.url);

/** The golden models have no tokenizer: each of their tokens gets a letter. */
function letters(size) {
  const texts = Array.from({ length: size }, (_, id) => String.fromCharCode(33 + id));
  return new Tokenizer({ model: 'gpt2', pre: 'gpt-2', tokens: ['<end>', ...texts.slice(1)],
    merges: [], types: texts.map((_, id) => (id === 0 ? 3 : 1)), eos: 0 });
}

/** A story of how an answer came: all that a caller sees, and the session that it leaves. */
async function told(session, tokenizer, prompt, options) {
  const { abortAfter, ...rest } = options;
  const controller = new AbortController();
  const parts = generate(session, tokenizer, prompt,
    { ...rest, signal: controller.signal });
  const seen = [];
  let result;
  for (;;) {
    if (seen.length === abortAfter) controller.abort(new Error('enough'));
    try {
      const { done, value } = await parts.next();
      if (done) result = value;
      else seen.push(value);
      if (done) break;
    } catch (error) {
      result = { reason: error.message };
      break;
    }
  }
  const { draftedTokens = 0, acceptedTokens = 0, reason, text, tokens } = result;
  const { tokens: cached, tokensHeld } = session.memory();
  return { drafted: draftedTokens, accepted: acceptedTokens,
    story: { seen, reason, text, tokens, cached, tokensHeld, ids: [...session.tokens()],
      saved: Buffer.from(session.save()).toString('base64') } };
}

/** Numbers that repeat themselves now and then, from a seed. */
function promptOf(seed, vocabulary) {
  let state = seed + 1;
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  const phrase = Array.from({ length: 3 + random(6) }, () => 1 + random(vocabulary - 1));
  return Array.from({ length: 1 + random(4) }, () =>
    [...phrase, 1 + random(vocabulary - 1)]).flat();
}

const never = { logitBias: { 0: -Infinity } };
const varied = { temperature: 0.8, topK: 12, topP: 0.9 };
const penalised = { repetitionPenalty: 1.15, frequencyPenalty: 0.05, presencePenalty: 0.1,
  penaltyWindow: 24 };
/** Sessions and calls; each prompt has one of them. */
const ways = [
  [never, {}],
  [{ ...varied, ...never }, { logprobs: 3 }],
  [{ ...penalised, ...never }, {}],
  [{ ...varied, ...penalised, minP: 0.02, samplerOrder: 'temperature-last' }, {}],
  [{ ...never, contextWindow: 40, overflow: 'slide', keep: 4 }, {}],
  [{ ...varied, ...never, contextWindow: 33, overflow: 'slide' }, {}],
  [{ ...never, contextWindow: 50 }, { maxTokens: 64 }],
  [never, { stop: ['+', 'a!', '5'] }],
  [never, { abortAfter: 17 }],
  [varied, { mask: (logits, { length }) => { logits[length % 7] = Number.NEGATIVE_INFINITY; } }],
];
/** Keys and values in one tensor and in two, layers with a window, convolutions, latents. */
const models = ['llama-long', 'gemma3-narrow', 'gemma4-kv-shared', 'lfm2-tied', 'deepseek2-latent'];

test('200 prompts: with drafts and without, the same in every respect', limit, async (t) => {
  stopClock(t);
  const sums = [{ drafted: 0, accepted: 0 }, { drafted: 0, accepted: 0 }];
  for (const [m, name] of models.entries()) {
    const cacheType = ['f16', 'i8', 'f32', 'i4'][m % 4];
    const model = loadSync(engine, goldenPath(name), { cacheType });
    // The same weights with other rounding: a model that is often right, and not always.
    const second = loadSync(engine, goldenPath(name), { cacheType: 'i8', contextWindow: 60 });
    const { vocabulary } = model.description;
    const tokenizer = letters(vocabulary);
    for (let i = 0; i < 40; i++) {
      const [options, call] = ways[i % ways.length];
      const prompt = promptOf(1000 * m + i, vocabulary);
      const say = async (draft) => {
        const session = model.openSession({ seed: i, ...options, draft });
        const first = await told(session, tokenizer, prompt, { maxTokens: 48, ...call });
        // And what comes after it, in the same session.
        const rest = options.contextWindow === 50 ? first
          : await told(session, tokenizer, prompt.slice(0, 3), { maxTokens: 8 });
        session.destroy();
        return [first, rest];
      };
      const plain = await say('off');
      assert.deepEqual([plain[0].drafted, plain[0].accepted], [0, 0]);
      for (const [d, draft] of ['lookup', second].entries()) {
        const fast = await say(draft);
        assert.deepEqual(fast.map(({ story }) => story), plain.map(({ story }) => story),
          `${name}, prompt ${i}, draft ${d}`);
        sums[d].drafted += fast[0].drafted;
        sums[d].accepted += fast[0].accepted;
      }
    }
    for (const { cacheUsed, openSessions } of [model.memory(), second.memory()]) {
      assert.deepEqual([cacheUsed, openSessions], [0, 0]);
    }
    model.destroy();
    second.destroy();
  }
  for (const { drafted, accepted } of sums) {
    assert.ok(accepted > 1000 && drafted > accepted, JSON.stringify(sums));
  }
});

test('a draft model: turns, clones, cuts, snapshots, aborts; it may go first', limit, async (t) => {
  const model = await loadModel(engine, `${root}models/stories-qkv.q8_0.gguf`);
  const small = await loadModel(engine, file);
  stopClock(t);
  const { tokenizer } = model;
  const prompt = tokenizer.encode('Once upon a time there was a little girl.', { begin: true });
  const answer = async (session, ids, call = {}) => {
    const { story, drafted, accepted } = await told(session, tokenizer, ids,
      { maxTokens: 40, ...call });
    return { story, drafted, accepted };
  };
  const storyOf = async (draft) => {
    const stories = [];
    let accepted = 0;
    const say = async (session, ids, call) => {
      const said = await answer(session, ids, call);
      stories.push(said.story);
      accepted += said.accepted;
    };
    const session = model.openSession({ temperature: 0.6, seed: 11, draft });
    await say(session, prompt);
    const clone = session.clone();
    session.truncate(20);
    await say(session, prompt.slice(1));
    await say(clone, [], { abortAfter: 9 });
    const restored = model.restoreSession(session.save(), draft);
    await say(restored, []);
    await say(session, [], { maxTokens: 12 });
    for (const each of [session, clone, restored]) each.destroy();
    return { stories, accepted };
  };
  const plain = await storyOf('off');
  const fast = await storyOf(small);
  assert.deepEqual(fast.stories, plain.stories);
  assert.ok(fast.accepted > 20 && plain.accepted === 0, `${fast.accepted}`);
  assert.deepEqual([small.memory().openSessions, small.memory().cacheUsed], [0, 0]);

  // One session of it for each that it guesses for; destroyed, it guesses no more.
  const [session, alone] = [small, 'off'].map((draft) => model.openSession({ draft }));
  const clone = session.clone();
  assert.equal(small.memory().openSessions, 2);
  assert.deepEqual((await answer(session, prompt)).story, (await answer(alone, prompt)).story);
  assert.ok(small.memory().cacheUsed > 0);
  small.destroy();
  for (const each of [session, clone]) {
    const { drafted, story } = await answer(each, prompt);
    assert.equal(drafted, 0);
    assert.equal(story.tokens.length, 40);
  }
  model.destroy();
});

test('a draft model whose tokens are others is refused', () => {
  const model = loadSync(engine, goldenPath('llama-long'));
  const size = model.description.vocabulary;
  const named = (kind, change = (tokens) => tokens) => loadSync(engine, withKeys(
    goldenPath('llama-long'), [['tokenizer.ggml.model', 'string', kind],
      ['tokenizer.ggml.tokens', 'string[]',
        change(Array.from({ length: size }, (_, id) => `t${id}`))]]));
  const texts = named('gpt2');
  const refused = (draft, message) => {
    assert.throws(() => texts.openSession({ draft }), { code: 'INVALID_ARGUMENT', message });
    assert.equal(texts.memory().openSessions, 0);
  };
  refused(named('llama'), 'draft: found a model with the tokenizer llama, expected gpt2, as the ' +
    'model itself has');
  refused(named('gpt2', (tokens) => tokens.with(7, 'x')), 'draft: found a model with token 7 ' +
    '"x", expected "t7", as the model itself has');
  refused(loadSync(engine, file), /^draft: found a model with \d+ tokens, expected \d+, as/);
  refused(loadSync(engine, goldenPath('bert-mean')), /^draft: found a bidirectional model/);
  refused('fast', 'draft: found "fast", expected off, lookup');
  // A session that cannot be opened leaves none behind in the other model.
  const same = named('gpt2');
  assert.throws(() => texts.openSession({ draft: same, topP: 7 }), { code: 'INVALID_ARGUMENT' });
  assert.throws(() => texts.restoreSession(new Uint8Array(9), same), { code: 'SNAPSHOT_REFUSED' });
  assert.equal(same.memory().openSessions, 0);
  const gone = named('gpt2');
  gone.destroy();
  assert.throws(() => texts.openSession({ draft: gone }), { code: 'DESTROYED' });
});

/** Time that `count` tokens take, in that of as many plain ones, when a draft's row costs so much
 * and so does a guess, and a guessed token is right with that probability. `held`: how many steps
 * seem to take up to nine times as long. */
function timeOf(t, { row, guess, right, count, held = 0, seed = 1 }) {
  let ms = 0;
  let time = 0;
  const mock = t.mock.method(performance, 'now', () => ms);
  const randomOf = (state) => () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const random = randomOf(seed);
  const other = randomOf(seed + 9);
  const spend = (cost) => {
    time += cost;
    ms += cost * (other() < held ? 1 + 8 * other() : 1);
  };
  const session = { ahead: 0, tokens: () => new Int32Array(1), draft: (ids) => {
    spend(1 + row * ids.length);
    session.ahead = ids.length + 1;
    return ids.length;
  } };
  const drafts = new Drafts({ clone: () => undefined, guess: (_, most) => {
    spend(guess * most);
    return new Int32Array(most);
  } });
  for (let i = 0; i < count; i++) {
    drafts.begin(session);
    if (session.ahead === 0) spend(1);
    else if (random() < right) session.ahead -= 1;
    else session.ahead = 0;
    drafts.hear(session);
  }
  mock.mock.restore();
  return time / count;
}

test('however dear guesses are, and however seldom right: at least 0.95 of plain speed', (t) => {
  for (const row of [0, 0.1, 0.5, 1, 2]) {
    for (const guess of [0, 0.2, 1]) {
      for (const right of [0, 0.3, 0.6, 0.9, 1]) {
        for (const count of [96, 400]) {
          const time = timeOf(t, { row, guess, right, count });
          assert.ok(time <= 1 / 0.95, JSON.stringify({ row, guess, right, count, time }));
        }
      }
    }
  }
  for (const [row, guess, most] of [[0.1, 0, 0.6], [0.3, 0, 0.75], [0.3, 0.1, 0.85]]) {
    const time = timeOf(t, { row, guess, right: 0.9, count: 400 });
    assert.ok(time < most, JSON.stringify({ row, guess, time }));
    // What others hold up now and then is not what guesses cost.
    const times = Array.from({ length: 8 }, (_, i) =>
      timeOf(t, { row, guess, right: 0.9, count: 400, held: 0.1, seed: 7919 * (i + 1) }));
    assert.ok(times.reduce((a, b) => a + b) / 8 < most, JSON.stringify({ row, guess, times }));
  }
});

test('in a worker: thoughts, constraints, turns, clones, saved sessions, batches', limit,
  async () => {
    const template = "{% for m in messages %}{{ '[' + m.role + '] ' + m.content + '\n' }}" +
      "{% endfor %}{% if add_generation_prompt %}{{ '[assistant] <think>\n' }}{% endif %}" +
      "{% if false %}</think>{% endif %}";
    const model = await OneKV.load(withKeys(file,
      [['tokenizer.chat_template', 'string', template]]), { threads: 1, workerUrl: stillWorker });
    const text = 'The cat sat on the mat. The cat sat on the mat. The cat sat on';
    const own = () => ({ allowed: async () => undefined, accept: async () => {} });
    const list = { type: 'array', minItems: 3, items: { enum: ['a cat', 'a dog'] } };
    const calls = [
      [{ reasoningBudget: 12 }, {}],
      [{ temperature: 0.7, seed: 3, reasoning: 'include' }, { logprobs: 2 }],
      [{ reasoningBudget: 0 }, { constraint: list }],
      [{ chat: false, temperature: 0.9, seed: 4 }, { constraint: /(the (cat|dog) sat\. )+/ }],
      [{ chat: false }, { constraint: own() }],
      [{ chat: false, overflow: 'slide', contextWindow: 64 }, { stop: ['never there'] }],
    ];
    let accepted = 0;
    try {
      for (const [options, call] of calls) {
        const say = async (draft) => {
          const session = await model.createSession({ ...options, draft });
          const told = [];
          for (const maxTokens of [40, 12]) {
            const answer = session.generate(text, { maxTokens, ...call });
            for await (const part of answer) if (part.type !== 'finish') told.push(part);
            const { prefillMs: _, decodeMs: __, draftedTokens, acceptedTokens, ...rest } =
              await answer.result;
            told.push(rest);
            if (draft === 'off') assert.equal(draftedTokens, 0);
            accepted += acceptedTokens;
          }
          const clone = await session.clone();
          told.push(await clone.prompt(text, { maxTokens: 12 }));
          const { session: _, ...memory } = await session.memory();
          told.push(memory, [...await session.tokens()], session.messages);
          await Promise.all([session.destroy(), clone.destroy()]);
          return told;
        };
        assert.deepEqual(await say('lookup'), await say('off'), JSON.stringify(options));
      }
      assert.ok(accepted > 10, `${accepted}`);

      // A saved session drafts as it did; sessions that answer together need no drafts.
      const session = await model.createSession({ chat: false, draft: 'lookup' });
      await session.append(text);
      const restored = await model.restore(await session.save());
      const rest = await restored.generate(' the', { maxTokens: 40 }).result;
      assert.ok(rest.draftedTokens > 0);
      const clones = await Promise.all([1, 2, 3].map(() => session.clone()));
      const texts = await model.batch(clones).prompt(' the', { maxTokens: 40 });
      assert.deepEqual(texts, [rest.text, rest.text, rest.text]);
      await assert.rejects(model.createSession({ draft: 'fast' }), { code: 'INVALID_ARGUMENT',
        message: 'draft: found "fast", expected off, lookup, model' });
    } finally {
      await model.unload();
    }
  });

test('a copy goes on where it was changed; without a repetition there is no guess', () => {
  const lookup = new Lookup();
  const source = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const guess = (more, most = 3) => [...lookup.guess(Int32Array.from([...source, ...more]), most)];
  assert.deepEqual(guess([]), []);
  assert.deepEqual(guess([50]), []);
  assert.deepEqual(guess([50, 2, 3]), [4, 5, 6]);
  // 5 became 60, 61: after the next token that is as it was, the copy goes on.
  assert.deepEqual(guess([50, 2, 3, 4, 60, 61]), []);
  assert.deepEqual(guess([50, 2, 3, 4, 60, 61, 6]), [7, 8, 9]);
  assert.deepEqual(guess([50, 2, 3, 4, 60, 61, 6, 7], 1), [8]);
});

test('where guesses fail a session leaves off, and tries again rarely', async (t) => {
  const model = await loadModel(engine, file);
  stopClock(t);
  const session = model.openSession({ draft: 'lookup' });
  let guessed = -1;
  const { guess } = Lookup.prototype;
  t.mock.method(Lookup.prototype, 'guess', function keep(...args) {
    const ids = guess.apply(this, args);
    guessed = ids[0];
    return ids;
  });
  session.append([5, 6, 5, 6]);
  const { drafts } = session;
  const steps = 400;
  let runs = 0;
  for (let i = 0; i < steps; i++) {
    const before = drafts.drafted;
    session.next({ mask: (logits) => {
      logits.fill(-1e9);
      logits[guessed === 5 ? 6 : 5] = 1;
    } });
    if (drafts.drafted > before) runs += 1;
  }
  assert.equal(drafts.accepted, 0);
  assert.ok(runs > 5 && runs < steps / 20, `${runs} drafts`);
  model.destroy();
});

test('generate --draft lookup: the same text, and how many guesses were right', limit, () => {
  const onekv = (...args) => spawnSync(process.execPath, [`${root}dist/cli/onekv.js`, 'generate',
    file, 'The cat sat on the mat. The cat sat', '-n', '40', '--seed', '5', '--threads', '1',
    ...args], { encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: `--import=${stillClock}` } });
  const plain = onekv();
  const fast = onekv('--draft', 'lookup');
  assert.equal(fast.stdout, plain.stdout);
  assert.match(fast.stderr, /\n {2}\d+ of [1-9]\d* drafted tokens accepted\n/);
  assert.doesNotMatch(plain.stderr, /drafted/);
  const refused = onekv('--draft', 'fast');
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /--draft: found "?fast"?, expected .*\n?.*fast: no such file/);
  const guessed = onekv('--draft', file);
  assert.equal(guessed.stdout, plain.stdout);
  assert.match(guessed.stderr, /\n {2}\d+ of [1-9]\d* drafted tokens accepted\n/);
});
