// The public API in Node: models in threads, sessions, streams, aborts, bytes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { OneKV, OneKVError } from '../../dist/src/onekv-node.js';
import { Engine, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { endless, root, withWindow } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
const prompt = 'Once upon a time';
let model;

before(async () => { model = await OneKV.load(path, { threads: 1 }); });
after(() => model.unload());

/** The same text from the synchronous engine. */
async function inEngine(text, maxTokens, options = {}) {
  const engine = await Engine.open({ threads: 1 });
  try {
    const plain = await loadModel(engine, path);
    const session = plain.openSession(options);
    const parts = generate(session, plain.tokenizer, plain.tokenizer.encode(text), { maxTokens });
    for (;;) {
      const { done, value } = await parts.next();
      if (done) return value;
    }
  } finally {
    engine.destroy();
  }
}

const use = async (work, options = {}) => {
  const session = await model.createSession(options);
  try {
    return await work(session);
  } finally {
    await session.destroy();
  }
};

test('a prompt gives the text of the engine, whole, as a stream and in parts', async () => {
  const sampling = { ...endless, temperature: 0.8, seed: 3 };
  const { text, tokens } = await inEngine(prompt, 30, sampling);
  await use(async (session) => {
    assert.equal(await session.prompt(prompt, { maxTokens: 30 }), text);
    assert.equal(session.contextUsage, (await session.tokens()).length);
  }, sampling);
  await use(async (session) => {
    let streamed = '';
    for await (const part of session.promptStreaming(prompt, { maxTokens: 30 })) streamed += part;
    assert.equal(streamed, text);
  }, sampling);
  await use(async (session) => {
    const answer = session.generate(prompt, { maxTokens: 30, logprobs: 2 });
    const parts = [];
    for await (const part of answer) parts.push(part);
    const result = await answer.result;
    assert.deepEqual(result.tokens, tokens);
    assert.deepEqual(parts.flatMap((part) => part.token ?? []), tokens);
    assert.equal(result.reason, 'length');
    assert.equal(result.cachedTokens, 0);
    assert.ok(parts[0].top.length === 2 && parts[0].logprob <= 0);
  }, sampling);
});

test('break cancels, and the session goes on from there', async () => {
  const other = await OneKV.load(withWindow(readFileSync(path)), { threads: 1 });
  const session = await other.createSession(endless);
  let seen = 0;
  for await (const _ of session.promptStreaming(prompt)) {
    seen += 1;
    if (seen === 5) break;
  }
  const { contextUsage } = session;
  await session.prompt('', { maxTokens: 3 });
  assert.equal(session.contextUsage, contextUsage + 3);
  await other.unload();
});

test('a page hears the seed of what was drawn', async () => {
  const session = await model.createSession({ temperature: 1 });
  const { seed, text } = await session.generate(prompt, { maxTokens: 12 }).result;
  assert.ok(Number.isSafeInteger(seed));
  const again = await model.createSession({ temperature: 1, seed });
  assert.equal(await again.prompt(prompt, { maxTokens: 12 }), text);
  const other = await model.createSession({ temperature: 1 });
  assert.notEqual((await other.generate(prompt, { maxTokens: 1 }).result).seed, seed);
  await Promise.all([session, again, other].map((one) => one.destroy()));
});

test('bytes are exact: tokens, pages, and standard attention beside them', async () => {
  await use(async (session) => {
    await session.prompt(prompt, { maxTokens: 50 });
    const { cacheUsed, bySession, total, heap, standard, ...kinds } = await model.memory();
    const own = bySession.find(({ session: id }) => id === session.id);
    assert.equal(own.tokens, session.contextUsage - 1);
    // 8 layers × one head of 32 numbers of 2 bytes, whether as key or as value.
    const { layers, headWidth, queryHeads } = model.description;
    assert.equal(model.bytesPerToken, layers * headWidth * 2);
    assert.equal(own.used, own.tokens * model.bytesPerToken);
    assert.deepEqual([own.shared, own.keys, own.values], [own.used, 0, 0]);
    assert.equal(session.contextBytes, own.used);
    assert.equal(own.pages, Math.ceil(own.tokens / 32) * 32 * model.bytesPerToken);
    assert.equal(cacheUsed, bySession.reduce((sum, { own: pages }) => sum + pages, 0));
    assert.equal(standard.MHA, 32 * cacheUsed, 'whole pages on both sides: the true ratio');
    const perHead = own.tokens * layers * 2 * headWidth * 2;
    assert.deepEqual(own.standard, { MHA: queryHeads * perHead, 'GQA-8': 8 * perHead,
      'GQA-4': 4 * perHead, 'GQA-3': null, MQA: perHead }, '3 do not divide 16');
    const { weights, cache, scratch, sessions, tables } = kinds;
    assert.equal(total, weights + cache + scratch + sessions + tables);
    assert.ok(heap >= total);
  });
});

test('errors have codes, and what was refused changed nothing', async () => {
  await use(async (session) => {
    await session.append(prompt);
    const { contextUsage } = session;
    const refused = [
      [() => session.prompt({ tokens: [0.5] }), 'INVALID_ARGUMENT'],
      [() => session.prompt({ tokens: [2 ** 30] }), 'TOKEN_OUT_OF_RANGE'],
      [() => session.prompt([{ role: 'user', content: 'Hello' }]), 'INVALID_ARGUMENT'],
      [() => session.truncate(1000), 'INVALID_ARGUMENT'],
      [() => session.attention({ layer: 99, head: 0 }), 'INVALID_ARGUMENT'],
      [() => session.append({ tokens: new Int32Array(5000) }), 'CONTEXT_FULL'],
      [() => model.createSession({ temperature: -1 }), 'INVALID_ARGUMENT'],
      [() => model.createSession({ contextBytes: 1 }), 'INVALID_ARGUMENT'],
      [() => model.restore(new Uint8Array(100)), 'SNAPSHOT_REFUSED'],
      [() => model.classify({ width: 1, height: 1, data: new Float32Array(1) }), 'WRONG_STATE'],
      [() => OneKV.load(`${root}README.md`), 'NOT_GGUF'],
      [() => OneKV.load(`${root}no-such-file.gguf`), 'SOURCE_FAILED'],
      [() => OneKV.load(7), 'INVALID_ARGUMENT'],
    ];
    for (const [work, code] of refused) {
      await assert.rejects(work, (error) => {
        assert.ok(error instanceof OneKVError, String(error));
        assert.equal(error.code, code, error.message);
        return true;
      });
    }
    assert.equal(session.contextUsage, contextUsage);
    assert.equal((await session.tokens()).length, contextUsage);
  });
});

test('a file comes from anywhere', async () => {
  const bytes = readFileSync(path);
  const expected = await use((session) => session.prompt(prompt, { maxTokens: 5 }));
  const sources = { bytes: new Uint8Array(bytes), blob: new Blob([bytes]),
    stream: new Blob([bytes]).stream(), url: new URL(`file://${path}`) };
  for (const [name, source] of Object.entries(sources)) {
    const other = await OneKV.load(source, { threads: 1 });
    const session = await other.createSession();
    assert.equal(await session.prompt(prompt, { maxTokens: 5 }), expected, name);
    await other.unload();
  }
});
