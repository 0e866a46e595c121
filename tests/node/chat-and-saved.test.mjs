// Chats and saved sessions in a worker: the past as messages, as cache and as tokens.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { writeSaved } from '../../dist/src/worker/saved-session.js';
import { endless, root, withKeys, withWindow } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const prompt = 'Once upon a time';
/** Marks turns with letters that the vocabulary has. */
const template = '{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}' +
  '{% if add_generation_prompt %}[assistant] {% endif %}';

let model;
let chatModel;

before(async () => {
  model = await OneKV.load(path, { threads: 1, batch: 32 });
  const chatFile = withKeys(path, [['tokenizer.chat_template', 'string', template]]);
  chatModel = await OneKV.load(withWindow(chatFile), { threads: 1 });
});
after(() => Promise.all([model.unload(), chatModel.unload()]));

test('a session is saved and restored, as cache and as tokens', async () => {
  const session = await model.createSession({ ...endless, temperature: 0.8, seed: 9 });
  await session.prompt(prompt, { maxTokens: 40 });
  const caches = await session.save();
  const tokens = await session.save({ format: 'tokens' });
  assert.ok(tokens.size < caches.size / 10);
  const restored = await model.restore(caches);
  assert.deepEqual(await restored.tokens(), await session.tokens());
  const expected = await session.prompt('', { maxTokens: 10 });
  assert.equal(await restored.prompt('', { maxTokens: 10 }), expected);
  const anew = await model.restore(new Response(tokens));
  assert.equal(anew.contextUsage, 44);
  await anew.setSampling({ seed: 1 });
  await session.truncate(44);
  await session.setSampling({ seed: 1 });
  assert.equal(await anew.prompt('', { maxTokens: 10 }),
    await session.prompt('', { maxTokens: 10 }));
  await assert.rejects(chatModel.restore(caches), { code: 'SNAPSHOT_REFUSED' });
  await Promise.all([session, restored, anew].map((one) => one.destroy()));
});

test('a saved session that does not fit the model is refused as one', async () => {
  const past = { chat: false, messages: [], text: '', ends: [] };
  const saved = ({ tokens = [1, 2, 3], ...settings }) => writeSaved({ format: 'tokens',
    model: model.hash, past, settings: { contextWindow: 0, overflow: 'error', keep: 0,
      sampling: {}, ...settings }, payload: new Uint8Array(Int32Array.from(tokens).buffer) });
  const { bySession } = await model.memory();
  for (const [wrong, message] of [[{ tokens: [1, 99999] }, /token 1: found 99999/],
    [{ tokens: [-1] }, /token 0: found -1/], [{ contextWindow: 2 }, /3 tokens/],
    [{ sampling: { temperature: 'x' } }, /temperature: found "x"/],
    [{ contextWindow: 1e9 }, /1000000000/], [{ overflow: 'slide', keep: 1e9 }, /1000000000/],
    [{ sampling: { seed: 2n ** 64n } }, /seed: found/],
    [{ sampling: { logitBias: { 99999: 1 } } }, /logitBias, a token: found 99999/]]) {
    await assert.rejects(model.restore(saved(wrong)), (error) => {
      assert.equal(error.code, 'SNAPSHOT_REFUSED', error.stack);
      assert.match(error.message, /^the saved session does not fit the model: /);
      assert.match(error.message, message);
      return true;
    });
  }
  const fits = await model.restore(saved({}));
  assert.equal(fits.contextUsage, 3);
  await fits.destroy();
  assert.equal((await model.memory()).bySession.length, bySession.length);
});

test('save and memory do not wait for an answer that is on its way', async () => {
  const session = await chatModel.createSession(endless);
  const answer = session.generate('Tell me.');
  const parts = [];
  let saved;
  let memory;
  for await (const { text } of answer) {
    parts.push(text);
    if (parts.length < 10) continue;
    // That they come at all shows it: the answer has no end.
    [saved, memory] = await Promise.all([session.save(), session.memory()]);
    break;
  }
  assert.ok(memory.tokens > 10, `${memory.tokens} tokens`);
  const restored = await chatModel.restore(saved);
  const [question, said] = restored.messages;
  assert.deepEqual(question, { role: 'user', content: 'Tell me.' });
  assert.ok(said.content.startsWith(parts.join('')));
  const { cachedTokens } = await restored.generate('More', { maxTokens: 2 }).result;
  assert.ok(cachedTokens >= 20, `${cachedTokens}`);
  await Promise.all([session.destroy(), restored.destroy()]);
});

test('a damaged snapshot is refused, whatever is wrong with it', async () => {
  const session = await model.createSession({ initialPrompts: prompt });
  for (const format of ['cache', 'tokens']) {
    const bytes = new Uint8Array(await (await session.save({ format })).arrayBuffer());
    const wrong = [0, 1, 7, 8, 15, bytes.length - 1].map((n) => bytes.slice(0, n));
    for (let at = 0; at < bytes.length; at++) {
      const damaged = bytes.slice();
      damaged[at] ^= 1 << at % 8;
      wrong.push(damaged);
    }
    for (const one of wrong) {
      await assert.rejects(model.restore(one), { code: 'SNAPSHOT_REFUSED' });
    }
  }
  assert.ok((await session.prompt('', { maxTokens: 3 })).length > 0, 'the session goes on');
  await session.destroy();
});

test('a chat keeps its past in the cache', async () => {
  const session = await chatModel.createSession({
    initialPrompts: [{ role: 'system', content: 'Be kind.' }] });
  assert.deepEqual(session.messages, [{ role: 'system', content: 'Be kind.' }]);
  const first = session.generate('Who are you?', { maxTokens: 6 });
  const { text, promptTokens, cachedTokens } = await first.result;
  assert.ok(cachedTokens > 0 && cachedTokens < promptTokens);
  const before = session.contextUsage;
  const second = session.generate('And now?', { maxTokens: 6 });
  const { cachedTokens: kept } = await second.result;
  assert.equal(kept, before, 'nothing is computed twice');
  assert.deepEqual(session.messages.map(({ role }) => role),
    ['system', 'user', 'assistant', 'user', 'assistant']);
  assert.equal(session.messages[2].content, text);
  const all = await chatModel.detokenize(await session.tokens());
  assert.match(all, /^\[system\] Be kind\.\n\[user\] Who are you\?\n\[assistant\]/);
  assert.ok(all.includes('\n[user] And now?\n[assistant]'));
  await session.destroy();
});

test('an answer goes on from its prefix', async () => {
  const session = await chatModel.createSession();
  const asked = [{ role: 'user', content: 'Who are you?' },
    { role: 'assistant', content: 'I am a', prefix: true }];
  const whole = await chatModel.tokenize(asked);
  assert.match(await chatModel.detokenize(whole), /\[assistant\] I am a$/);
  assert.equal(await session.measureContextUsage(asked), whole.length);
  const { text, promptTokens } = await session.generate(asked, { maxTokens: 5 }).result;
  assert.equal(promptTokens, whole.length);
  assert.doesNotMatch(text, /I am a/);
  assert.deepEqual(session.messages.at(-1), { role: 'assistant', content: `I am a${text}` });
  // All of it is in the cache for the next turn.
  const { contextUsage } = session;
  const next = await session.generate('And now?', { maxTokens: 2 }).result;
  assert.equal(next.cachedTokens, contextUsage);
  const [user, prefix] = asked;
  for (const wrong of [[prefix, user], [{ ...user, prefix: true }], [{ ...prefix, prefix: 'x' }]]) {
    await assert.rejects(session.prompt(wrong), { code: 'INVALID_ARGUMENT', message: /prefix/ });
  }
  await assert.rejects(session.append(asked), { code: 'INVALID_ARGUMENT', message: /prefix/ });
  await session.destroy();
});

test('a chat with a stop string, a clone, a cut and a restored past', async () => {
  const session = await chatModel.createSession();
  const unstopped = await session.clone();
  const whole = await unstopped.prompt('Tell me.', { maxTokens: 30 });
  await unstopped.destroy();
  assert.ok(whole.length > 8, whole);
  // Whatever the model says, it says it again up to there; such a stop spans several tokens.
  const stop = whole.slice(whole.length / 2, -2);
  const answer = session.generate('Tell me.', { maxTokens: 30, stop: ['never said', stop] });
  const { reason, text } = await answer.result;
  assert.equal(reason, 'stop');
  assert.equal(text, whole.slice(0, whole.indexOf(stop)));
  const clone = await session.clone();
  const restored = await chatModel.restore(await session.save({ format: 'tokens' }));
  const answers = await Promise.all([session, clone, restored].map((one) =>
    one.prompt('More', { maxTokens: 5 })));
  assert.deepEqual(answers, [answers[0], answers[0], answers[0]]);
  assert.deepEqual(clone.messages, session.messages);
  assert.deepEqual(restored.messages, session.messages);
  const usage = await session.measureContextUsage('Again');
  const { contextUsage } = session;
  await session.append('Again');
  assert.ok(session.contextUsage - contextUsage <= usage);
  await session.truncate(contextUsage - 1);
  assert.deepEqual(session.messages.map(({ role }) => role), ['user', 'assistant', 'user']);
  await Promise.all([session, clone, restored].map((one) => one.destroy()));
});

test('messages and tools for a session that does not chat: why not, and what does', async () => {
  const tools = [{ name: 'look', description: 'Looks.', parameters: { type: 'object' } }];
  const advice = /: this model only continues text, .*no chat template; load a chat model, .*hf:\w/;
  const asked = [{ role: 'user', content: 'Hello' }];
  const refused = async (loaded, options, message) => {
    const error = { code: 'INVALID_ARGUMENT', message };
    await assert.rejects(loaded.createSession({ ...options, tools }), error);
    const session = await loaded.createSession(options);
    await assert.rejects(session.prompt(asked), error);
    await session.destroy();
  };
  await refused(model, {}, advice);
  await refused(chatModel, { chat: false },
    /: the option chat is false, so this session only continues text$/);
});
