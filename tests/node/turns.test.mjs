// A chat whose window is full forgets whole turns; a template's date stays the session's.
import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { cutBetween, shifted } from '../../dist/src/worker/turns.js';
import { root, withKeys } from './support.mjs';

const limit = { timeout: 120_000 };
const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const template = '{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n' +
  '{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}';
let model;
before(async () => {
  model = await OneKV.load(withKeys(path,
    [['tokenizer.chat_template', 'string', template]]), { threads: 1 });
});
after(() => model.unload());

test('the turn nearest to the middle', () => {
  assert.equal(cutBetween([20, 40, 70, 90], 10, 110), 70);
  assert.equal(cutBetween([20, 90], 10, 110), 90);
  assert.equal(cutBetween([20], 10, 110), 0);
  assert.equal(cutBetween([23], 10, 110), 23);
  assert.equal(cutBetween([], 0, 64), 0);
  assert.deepEqual(shifted([3, 10, 20, 50], 10, 30), [3, 10, 10, 20]);
});

const initialPrompts = [{ role: 'system', content: 'Be kind.' }];
/** What a window holds, as text. */
const held = async (session) => model.detokenize(await session.tokens(), { special: true });
const beginning = '[system] Be kind.<|endoftext|>\n';

/** What a message and its tokens have in common: half a character at the end is no part of it. */
const plain = (text) => text.replaceAll('<|endoftext|>', '').replaceAll(/[^\n -~]/g, '');

/** Texts of turns: a question each, and an answer that ends or was cut. */
const turns =
  /^(?:\[user\] q\d+( \w+)*\.<\|endoftext\|>\n\[assistant\] (?:(?!\[user\])[^])*)*$/;

test('a sliding chat holds whole turns, whenever it slides', limit, async () => {
  for (const [contextWindow, words, maxTokens] of [[96, 3, 12], [96, 1, 30], [128, 8, 9]]) {
    const session = await model.createSession({ contextWindow, overflow: 'slide',
      initialPrompts, temperature: 1, seed: 4 });
    let slides = 0;
    session.addEventListener('contextoverflow', () => { slides += 1; });
    for (let i = 0; i < 16; i++) {
      const question = `q${i}${' word'.repeat(words)}.`;
      const { tokens } = await session.generate(question, { maxTokens }).result;
      const text = await held(session);
      assert.ok(text.startsWith(beginning), text);
      const rest = text.slice(beginning.length);
      assert.match(rest, turns);
      assert.ok(rest.includes(`[user] ${question}`), rest);
      assert.ok(tokens.length > 0 && session.contextUsage <= contextWindow + 1);
      // As a fresh prefill of the turns that are held, but for how the model spelt its words.
      const kept = rest.split('[user] ').length - 1;
      const fresh = await model.tokenize([...initialPrompts,
        ...session.messages.slice(1).slice(-2 * kept, -1)]);
      const [expected, found] = await Promise.all([model.detokenize(fresh, { special: true }),
        model.detokenize((await session.tokens()).slice(0, -tokens.length), { special: true })]);
      assert.equal(plain(found), plain(expected));
    }
    assert.ok(slides >= 2, `${slides} slides`);
    assert.equal(session.messages.length, 33);
    // A clone and a restored session go on in the same way.
    const others = [await session.clone(), await model.restore(await session.save()),
      await model.restore(await session.save({ format: 'tokens' }))];
    for (const one of others) {
      for (let i = 0; i < 4; i++) await one.prompt(`q${i} again.`, { maxTokens });
      const text = await held(one);
      assert.match(text.slice(beginning.length), turns);
    }
    await Promise.all([session, ...others].map((one) => one.destroy()));
  }
});

test('a turn that is longer than the window is cut inside, and only then', limit, async () => {
  const session = await model.createSession({ contextWindow: 64, overflow: 'slide',
    initialPrompts, temperature: 1, seed: 1 });
  await session.prompt(`q1${' word'.repeat(200)}.`, { maxTokens: 20 });
  assert.ok((await held(session)).startsWith(beginning));
  await session.prompt('q2 word.', { maxTokens: 10 });
  await session.prompt('q3 word.', { maxTokens: 10 });
  await session.prompt('q4 word.', { maxTokens: 10 });
  assert.match((await held(session)).slice(beginning.length), turns);
  // What fails leaves the turns where they were.
  const before = await session.tokens();
  const controller = new AbortController();
  await assert.rejects(session.append(`q5${' word'.repeat(300)}.`, { signal: controller.signal,
    onPrefill: () => controller.abort(new Error('enough')) }), /enough/);
  assert.deepEqual(await session.tokens(), before);
  await session.prompt('q6 word.', { maxTokens: 4 });
  assert.match((await held(session)).slice(beginning.length), turns);
  await session.destroy();
});

test('the date of a template is that of the session, also in a pack', limit, async () => {
  const dated = await OneKV.load(withKeys(path, [['tokenizer.chat_template', 'string',
    `[system] {{ strftime_now("%H:%M:%S") }}\n${template}`]]), { threads: 1 });
  const start = async (session) => (await dated.detokenize(await session.tokens())).slice(0, 17);
  const session = await dated.createSession({ initialPrompts });
  const day = await start(session);
  assert.match(day, /^\[system\] \d\d:\d\d:\d\d$/);
  const pack = await session.save({ format: 'tokens' });
  await wait(1100);
  const restored = await dated.restore(pack);
  const { contextUsage } = restored;
  const { cachedTokens } = await restored.generate('Hi', { maxTokens: 3 }).result;
  assert.equal(cachedTokens, contextUsage);
  assert.equal(await start(restored), day);
  const later = await dated.createSession({ initialPrompts });
  assert.notEqual(await start(later), day);
  await dated.unload();
});
