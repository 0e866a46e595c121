// A second model that guesses, as the package has it: loaded into the same worker, asked for by a
// session. The answers are those of plain decoding (draft.test.mjs has the 200 prompts).
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { shareName } from '../../dist/src/page/share-name.js';
import { goldenPath, root } from './support.mjs';

const limit = { timeout: 180_000 };
const file = `${root}models/stories-qkv.q8_0.gguf`;
const small = `${root}models/stories-q-mqa.q8_0.gguf`;
/** Guesses go by the clock; one that stands still makes them the same on each run. */
const stillWorker = new URL('workers/still.mjs', import.meta.url);
const stillClock = new URL('workers/still-clock.mjs', import.meta.url).href;
const options = { threads: 1, workerUrl: stillWorker };
const text = 'Once upon a time there was a little girl.';

/** All that a session says, and how many guesses were right. */
async function told(model, settings) {
  const session = await model.createSession({ chat: false, seed: 5, ...settings });
  const stories = [];
  let accepted = 0;
  const say = async (each, prompt, maxTokens) => {
    const { prefillMs: _, decodeMs: __, draftedTokens, acceptedTokens, ...rest } =
      await each.generate(prompt, { maxTokens, logprobs: 1 }).result;
    stories.push(rest, [...await each.tokens()]);
    accepted += acceptedTokens;
    return draftedTokens;
  };
  await say(session, text, 40);
  const clone = await session.clone();
  await say(clone, ' Then', 16);
  await session.truncate(20);
  await say(session, ' But', 16);
  const snapshot = await session.save();
  const restored = await model.restore(snapshot);
  const drafted = await say(restored, ' And so', 16);
  for (const each of [session, clone, restored]) await each.destroy();
  return { stories, accepted, drafted, snapshot };
}

test('in a worker the answers are the same, greedy and sampled', limit, async () => {
  const model = await OneKV.load(file, { ...options, draft: small });
  const alone = await OneKV.load(file, options);
  try {
    const least = (await model.memory()).draft;
    assert.ok(least > 1e6, `${least}`);
    assert.equal((await alone.memory()).draft, 0);
    for (const sampling of [{}, { temperature: 0.8, topP: 0.95 }]) {
      const plain = await told(model, sampling);
      const fast = await told(model, { ...sampling, draft: 'model' });
      assert.deepEqual(fast.stories, plain.stories);
      assert.deepEqual([plain.accepted, plain.drafted], [0, 0]);
      assert.ok(fast.accepted > 0 && fast.drafted > 0, `${fast.accepted}, ${fast.drafted}`);
      // Where none was loaded to guess, a session that had one goes on without.
      const restored = await alone.restore(fast.snapshot);
      const { draftedTokens, text: rest } =
        await restored.generate(' And so', { maxTokens: 16 }).result;
      assert.deepEqual([draftedTokens, rest], [0, fast.stories[6].text]);
    }
    const { draft, cacheUsed } = await model.memory();
    assert.equal(cacheUsed, 0);
    assert.ok(draft >= least);
    await assert.rejects(alone.createSession({ draft: 'model' }), { code: 'INVALID_ARGUMENT',
      message: 'draft: found "model", expected off, lookup, as none was loaded for it: ' +
        'OneKV.load(source, { draft })' });
    for (const wrong of ['modle', alone, 7]) {
      await assert.rejects(model.createSession({ draft: wrong }), { code: 'INVALID_ARGUMENT',
        message: /^draft: found .*, expected off, lookup, model$/ });
    }
  } finally {
    await Promise.all([model.unload(), alone.unload()]);
  }
});

test('what cannot guess is refused when it is loaded', limit, async () => {
  await assert.rejects(OneKV.load(file, { threads: 1, draft: goldenPath('llama-long') }),
    { code: 'INVALID_ARGUMENT', message: /^draft: found a model with \d+ tokens, expected \d+, / });
  await assert.rejects(OneKV.load(file, { threads: 1, draft: 'nowhere.gguf' }),
    { code: 'SOURCE_FAILED', message: /nowhere\.gguf/ });
  await assert.rejects(OneKV.load(file, { draft: new ReadableStream(), unloadAfter: 9 }),
    { code: 'INVALID_ARGUMENT', message: /^draft: found .*, expected one that can be read twice/ });
  const nameOf = (draft) => shareName('https://a.example/m.gguf', { draft }, (path) => path);
  const names = [undefined, 'https://a.example/1.gguf', 'https://a.example/2.gguf'].map(nameOf);
  assert.equal(new Set(names).size, 3);
  assert.throws(() => nameOf(new Uint8Array(1)), { code: 'INVALID_ARGUMENT', message: /^draft: / });
});

test('unloaded while nobody uses it: both models are loaded again', limit, async () => {
  const model = await OneKV.load(file, { ...options, draft: small, unloadAfter: 0 });
  try {
    const session = await model.createSession({ chat: false, draft: 'model' });
    await session.append(text);
    while (model.isLoaded) await new Promise((resolve) => { setTimeout(resolve, 20); });
    const { draftedTokens } = await session.generate(' Then', { maxTokens: 24 }).result;
    assert.ok(draftedTokens > 0);
  } finally {
    await model.unload();
  }
});

test('onekv chat --draft FILE: the same answers', limit, () => {
  const chat = (...args) => spawnSync(process.execPath, [`${root}dist/cli/onekv.js`, 'chat', file,
    '--threads', '1', '--seed', '3', '-n', '24', ...args], { encoding: 'utf8', input: `${text}\n`,
    env: { ...process.env, NODE_OPTIONS: `--import=${stillClock}` } });
  const plain = chat();
  assert.equal(plain.status, 0, plain.stderr);
  assert.notEqual(plain.stdout.trim(), '');
  const fast = chat('--draft', small);
  assert.deepEqual([fast.status, fast.stdout], [0, plain.stdout], fast.stderr);
  const refused = chat('--draft', goldenPath('llama-long'));
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /draft: found a model with \d+ tokens/);
});
