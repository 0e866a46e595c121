// What callers pass in: whatever it is, the answer is an error that names it, never one of
// JavaScript's own, a wait without an end or another value in its place.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OneKV, OneKVError } from '../../dist/src/onekv-node.js';
import { root } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
let model, session;

before(async () => {
  model = await OneKV.load(path, { threads: 1 });
  session = await model.createSession();
});
after(() => model.unload());

/** INVALID_ARGUMENT, whose message begins with that. */
async function refused(call, begins, what = begins) {
  await assert.rejects(async () => call(), (error) => {
    assert.ok(error instanceof OneKVError, `${what}: ${error?.stack}`);
    assert.equal(error.code, 'INVALID_ARGUMENT', what);
    assert.ok(error.message.startsWith(`${begins}: found `), `${what}: ${error.message}`);
    assert.doesNotMatch(error.message, /Error|undefined \(|not iterable|stack size/, what);
    return true;
  });
}

function* without() {
  for (;;) yield 1;
}

test('token ids: what 32 bits make another number of is refused by its place', async () => {
  const takers = {
    append: (tokens) => session.append({ tokens }),
    prompt: (tokens) => session.prompt({ tokens }, { maxTokens: 1 }),
    measure: (tokens) => session.measureContextUsage({ tokens }),
    initialPrompts: (tokens) => model.createSession({ initialPrompts: { tokens } }),
    detokenize: (tokens) => model.detokenize(tokens),
  };
  const wrong = [[[1, 2 ** 32 + 5], 'token 1'], [[2 ** 31], 'token 0'], [[0.5], 'token 0'],
    [['7'], 'token 0'], [[1, undefined], 'token 1'], [[NaN], 'token 0'], [new Array(3), 'token 0'],
    [new Float64Array([3, 1e10]), 'token 1'], [new BigInt64Array(2), 'token 0'],
    [new Set([1, 2.5]), 'token 1'], [{ length: 1e10 }, 'tokens.length'], [{ length: 3 }, 'token 0'],
    [{ length: -1 }, 'tokens.length'], [null, 'tokens'], ['12', 'tokens'], [5, 'tokens'],
    [{}, 'tokens'], [() => 1, 'tokens'], [undefined, 'tokens'], [without(), 'tokens.length']];
  for (const [name, take] of Object.entries(takers)) {
    for (const [tokens, begins] of wrong) {
      if (tokens?.next !== undefined && name !== 'detokenize') continue; // It takes seconds.
      await refused(() => take(tokens), begins, `${name}, ${begins}`);
    }
  }
  await refused(() => model.embed([[1], [2 ** 32]]), 'texts[1]: token 0');
  await refused(() => model.embed([null]), 'texts[0]');
  assert.equal(await model.detokenize(new Set([300, 301])), await model.detokenize([300, 301]));
  assert.equal(await session.measureContextUsage({ tokens: { length: 1, 0: 7 } }), 1);
});

/** Of each option with one kind of value: what is of another kind. */
const kinds = {
  prompt: [(options) => session.prompt('a', { maxTokens: 1, ...options }), {
    stop: [5, null, [5], {}, ['a', 1]], signal: [5, {}, null, 'x'], onPrefill: [5, 'x', {}, null],
    parallelToolCalls: ['x', 1, null], maxToolRounds: [-1, 1.5, '1'], maxTokens: ['1', -1, 1e10],
    logprobs: [-1, 'x', 1e9], templateArguments: [5, null, []], tools: [5, {}],
    reasoningBudget: [-1, 'x'] }],
  createSession: [(options) => model.createSession(options), {
    signal: [5, {}], onPrefill: [5, 'x'], chat: ['x', 1], overflow: ['x', 1], draft: ['x', 1],
    reasoning: ['x', 1], templateArguments: [5, [], null], tools: [5, {}], contextWindow: ['x', -1],
    contextBytes: ['x', -1, 0], reasoningBudget: [-1, 'x'],
    temperature: [1e-50, '1', -1, 101, NaN, null], topP: [1e-50, 2, -1, '1'], minP: [1e-40, 7],
    repetitionPenalty: [1e-40, 1e-300, 11, 1e39, -1], presencePenalty: [1e-46, 101, Infinity],
    frequencyPenalty: [-1e-46, -101], penaltyWindow: [257, -1, 0.5], topK: [-1, 0.5, 2 ** 32],
    samplerOrder: ['x', null], seed: [-1, 0.5, 2n ** 64n, 'x', null], logitBias: [5, 'x', [1]] }],
  'setSampling': [(options) => session.setSampling(options), { topP: [1e-50], temperature: ['x'] }],
  save: [(options) => session.save(options), { format: ['x', null, 1, 'toString'], signal: [5] }],
  clone: [(options) => session.clone(options), { signal: [5, null] }],
  attention: [(options) => session.attention({ layer: 0, head: 0, ...options }),
    { layer: [-1, 'x'], head: [1e9], queries: ['x', 1] }],
  append: [(options) => session.append('a', options), { onPrefill: [5], signal: [5] }],
  embed: [(options) => model.embed('a', options), { normalize: ['x', 1], truncate: ['no', 0],
    pooling: ['x', 1], dimensions: ['x', 0], signal: [5] }],
  tokenize: [(options) => model.tokenize('a', options), { special: ['x'], begin: [1],
    atMost: ['x', -1] }],
  restore: [(options) => model.restore(new Uint8Array(9), options), { tools: [5], signal: [5] }],
  load: [(options) => OneKV.load(path, options), { persist: ['x'], share: [1], monitor: [5],
    fetch: [5], refresh: ['x'], key: [5], integrity: [5], signal: [5], unloadAfter: ['x', -1] }],
  batch: [(options) => model.batch([session]).prompt('a', options), { signal: [5], stop: [5] }],
};

for (const [name, [call, options]] of Object.entries(kinds)) {
  test(`${name}: options of another kind are refused by name`, async () => {
    for (const [option, values] of Object.entries(options)) {
      for (const value of values) {
        await refused(() => call({ [option]: value }), option, `${name}, ${option}`);
      }
    }
    await refused(() => call.length > 0 && name !== 'attention' && name !== 'prompt'
      ? call(null) : session.prompt('a', null), `${nameOf(name)}: options`);
  });
}

const nameOf = (name) => ({ attention: 'prompt', batch: 'prompt' })[name] ?? name;

test('what is not there, and what is deeper than anybody means', async () => {
  let deep = {};
  for (let i = 0; i < 1e5; i++) deep = { deep };
  const chat = [{ role: 'assistant', content: 'x',
    toolCalls: [{ id: 'a', name: 'b', arguments: deep }] }];
  await refused(() => model.batch([5]), 'sessions[0]');
  await refused(() => model.batch([null]), 'sessions[0]');
  await refused(() => model.batch(null), 'sessions');
  await refused(() => model.classify(null), 'image');
  await refused(() => model.classify(5), 'image');
  await refused(() => model.restore(null), 'snapshot');
  await refused(() => model.embed(null), 'texts');
  await refused(() => session.prompt(null), 'input');
  await refused(() => session.generate('a', { signal: 7 }).result, 'signal');
  await refused(() => model.tokenize(chat), 'tokenize');
  await refused(() => model.tokenize([], { templateArguments: deep }), 'tokenize');
  await refused(() => model.createSession({ tools: [{ name: 'f', inputSchema: deep }] }),
    'inputSchema of the tool f');
  await refused(() => model.constrain(deep), 'constraint');
  await refused(() => session.prompt('a', { constraint: deep }), 'constraint');
  await assert.rejects(model.tokenize([{ role: 'user', content: deep }]), { message:
    'tokenize: found values nested too deep', code: 'INVALID_ARGUMENT' });
  assert.equal(session.contextUsage, 0, 'none of it was read');
});

test('numbers at the ends of their ranges are taken', async () => {
  for (const sampling of [{ topP: 1e-30, temperature: 1 }, { repetitionPenalty: 1e-30 },
    { temperature: 100, minP: 1, repetitionPenalty: 10 }, { presencePenalty: -100, topK: 1 },
    { logitBias: { 5: -Infinity, 6: -3e38 }, penaltyWindow: 256, seed: 2n ** 64n - 1n }]) {
    await session.setSampling(sampling);
    const text = await session.prompt('a', { maxTokens: 3 });
    assert.equal(typeof text, 'string');
  }
  await refused(() => session.setSampling({ logitBias: { 5: 1e39 } }), 'logitBias of 5');
  await refused(() => session.setSampling({ logitBias: { 5: Infinity } }), 'logitBias of 5');
  await refused(() => session.setSampling({ logitBias: { 99999999: 1 } }), 'logitBias, a token');
  await refused(() => session.setSampling({ logitBias: { '': 1 } }), 'logitBias, a token');
});
