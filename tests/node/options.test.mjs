// Options that nothing reads are refused by name, everywhere that takes options, and the message
// names the one that was probably meant.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Engine, generate, loadModel, readHeader, openSource } from
  '../../dist/src/engine-entry-node.js';
import { checkOptions } from '../../dist/src/api/options.js';
import { openai } from '../../dist/src/facades/openai.js';
import { languageModel } from '../../dist/src/facades/prompt-api.js';
import { OneKV, OneKVError } from '../../dist/src/onekv-node.js';
import { nearest } from '../../dist/src/util/nearest.js';
import { root } from './support.mjs';

const path = `${root}models/stories-q-mqa.q8_0.gguf`;
let model, session, engine, loaded;

before(async () => {
  model = await OneKV.load(path, { threads: 1 });
  session = await model.createSession();
  engine = await Engine.open({ threads: 1 });
  loaded = await loadModel(engine, path);
});
after(async () => {
  await model.unload();
  engine.destroy();
});

/** Each call with the options { [found]: 1 }, and what is meant; undefined: no name is near. */
const calls = {
  load: [(options) => OneKV.load(path, options), 'threds', 'threads'],
  estimate: [(options) => OneKV.estimate(path, options), 'cachetype', 'cacheType'],
  availability: [(options) => OneKV.availability(options), 'thread', 'threads'],
  list: [(options) => OneKV.models.list(options), 'stor', 'store'],
  delete: [(options) => OneKV.models.delete('x', options), 'Store', 'store'],
  createSession: [(options) => model.createSession(options), 'temprature', 'temperature'],
  restore: [(options) => model.restore(new Uint8Array(1), options), 'sygnal', 'signal'],
  'model.memory': [(options) => model.memory(options), 'sessions', undefined],
  trim: [(options) => model.trim(options), 'pages', undefined],
  tokenize: [(options) => model.tokenize('a', options), 'specials', 'special'],
  detokenize: [(options) => model.detokenize([1], options), 'specials', 'special'],
  constrain: [(options) => model.constrain(true, options), 'aborting', undefined],
  vocabulary: [(options) => model.vocabulary(options), 'aborting', undefined],
  classify: [(options) => model.classify({}, options), 'aborting', undefined],
  prompt: [(options) => session.prompt('a', options), 'max_tokens', 'maxTokens'],
  'prompt, constrained': [(options) => session.prompt('a', options), 'responseConstraint',
    'constraint'],
  'prompt, new tokens': [(options) => session.prompt('a', options), 'max_new_tokens', 'maxTokens'],
  promptStreaming: [async (options) => {
    for await (const _ of session.promptStreaming('a', options)) return;
  }, 'stops', 'stop'],
  generate: [(options) => session.generate('a', options).result, 'logProbs', 'logprobs'],
  batch: [(options) => model.batch([session]).prompt('a', options), 'maxtoken', 'maxTokens'],
  append: [(options) => session.append('a', options), 'onprefill', 'onPrefill'],
  measure: [(options) => session.measureContextUsage('a', options), 'special', undefined],
  clone: [(options) => session.clone(options), 'temperature', undefined],
  truncate: [(options) => session.truncate(0, options), 'keep', undefined],
  tokens: [(options) => session.tokens(options), 'first', undefined],
  setSampling: [(options) => session.setSampling(options), 'top_k', 'topK'],
  save: [(options) => session.save(options), 'formats', 'format'],
  memory: [(options) => session.memory(options), 'own', undefined],
  attention: [(options) => session.attention({ layer: 0, head: 0, ...options }), 'querys',
    'queries'],
  'Engine.open': [(options) => Engine.open(options), 'SIMD128', 'simd'],
  openLoader: [async (options) => engine.openLoader(options), 'cache', 'cacheType'],
  loadModel: [(options) => loadModel(engine, path, options), 'progress', 'onProgress'],
  readHeader: [(options) => readHeader(engine, path, options, () => 1), 'notes', undefined],
  openSource: [(options) => openSource(new Blob(), options), 'integrety', 'integrity'],
  openSession: [async (options) => loaded.openSession(options), 'context', 'contextWindow'],
  advance: [async (options) => loaded.advance([loaded.openSession()], options), 'masks', 'mask'],
  'generate of the engine': [(options) => generate(loaded.openSession(), loaded.tokenizer, [1],
    options).next(), 'maxtokens', 'maxTokens'],
  encode: [async (options) => loaded.tokenizer.encode('a', options), 'bos', undefined],
  decode: [async (options) => loaded.tokenizer.decode([1], options), 'specail', 'special'],
  stream: [async (options) => loaded.tokenizer.stream(options), 'continue', 'continues'],
  cache: [async (options) => loaded.cache.bytes(1, options), 'standardheads', 'standardHeads'],
  openai: [async (options) => openai(model, options), 'session', 'sessions'],
  create: [(options) => openai(model).chat.completions.create({ messages: [], ...options }),
    'maxTokens', 'max_tokens'],
  'request options': [(options) => openai(model).chat.completions.create({ messages: [] },
    options), 'timeout', undefined],
  languageModel: [async (options) => languageModel(async () => model, options), 'availability',
    'available'],
  'create of the Prompt API': [(options) => languageModel(async () => model).create(options),
    'topk', 'topK'],
  'availability of it': [(options) => languageModel(async () => model).availability(options),
    'temp', 'temperature'],
  'prompt of it': [async (options) => (await languageModel(async () => model).create())
    .prompt('a', options), 'constraint', 'responseConstraint'],
};

for (const [name, [call, found, meant]] of Object.entries(calls)) {
  test(`${name}: ${found} is refused by name`, async () => {
    await assert.rejects(() => call({ [found]: 1 }), (error) => {
      assert.ok(error instanceof OneKVError, error.stack);
      assert.equal(error.code, 'INVALID_ARGUMENT');
      const advice = meant === undefined ? '; there are ' : `; did you mean ${meant}?`;
      assert.ok(error.message.includes(`found the unknown option "${found}"${advice}`),
        error.message);
      return true;
    });
  });
}

test('a name without a value is not a mistake, and what is not an object is one', () => {
  assert.deepEqual(checkOptions('a', { b: undefined }, { c: true }), { b: undefined });
  for (const wrong of [null, 1, 'text', new AbortController().signal]) {
    assert.throws(() => checkOptions('a', wrong, { signal: true }),
      { code: 'INVALID_ARGUMENT', message: /^a: options: found .*, expected an object$/ });
  }
});

test('the likely name: spelling, case and underscores, a part of it; else none', () => {
  const names = ['temperature', 'topK', 'contextWindow', 'maxTokens'];
  for (const [found, meant] of [['Temperature', 'temperature'], ['temp', 'temperature'],
    ['top_k', 'topK'], ['context_window', 'contextWindow'], ['contextWidnow', 'contextWindow'],
    ['maxNewTokens', 'maxTokens'], ['window', 'contextWindow'], ['kv', undefined],
    ['', undefined], ['x'.repeat(1e6), undefined]]) {
    assert.equal(nearest(found, names), meant, found.slice(0, 20));
  }
});
