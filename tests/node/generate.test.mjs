// Streamed text: stop strings, ends, windows, aborts; what comes in parts is what comes at once.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Engine, generate } from '../../dist/src/engine-entry-node.js';
import { StopStrings } from '../../dist/src/text/stop-strings.js';
import { Tokenizer } from '../../dist/src/text/tokenizer.js';
import { goldenPath, loadSync, root } from './support.mjs';

let engine;
let model;
let tokenizer;

// The golden models have no tokenizer: each of their tokens gets a letter, and two their own text.
const texts = (size) => Array.from({ length: size }, (_, id) =>
  (id === 0 ? '<end>' : String.fromCharCode(33 + id)));

before(async () => {
  engine = await Engine.open({ threads: 1 });
  model = loadSync(engine, goldenPath('llama-keqv-mqa'));
  const size = model.description.vocabulary;
  tokenizer = new Tokenizer({ model: 'gpt2', pre: 'gpt-2', tokens: texts(size), merges: [],
    types: texts(size).map((_, id) => (id === 0 ? 3 : 1)), eos: 0 });
});
after(() => engine.destroy());

/** Everything that a run gives. */
async function collect(parts) {
  const pieces = [];
  for (;;) {
    const { done, value } = await parts.next();
    if (done) return { pieces, ...value };
    pieces.push(value.text);
  }
}

const start = [1, 2, 3];
const open = (options) => model.openSession(options);
const never = { logitBias: { 0: -Infinity } };

test('text is the tokens, the session holds them, the sums are right', async () => {
  const session = open(never);
  const result = await collect(generate(session, tokenizer, start, { maxTokens: 12 }));
  assert.equal(result.reason, 'length');
  assert.equal(result.tokens.length, 12);
  assert.equal(result.promptTokens, 3);
  assert.equal(result.text, tokenizer.decode(result.tokens));
  assert.equal(result.pieces.join(''), result.text);
  assert.deepEqual([...session.tokens()], [...start, ...result.tokens]);
  assert.ok(result.prefillMs >= 0 && result.decodeMs >= 0);
  const again = await collect(generate(open(never), tokenizer, start, { maxTokens: 12 }));
  assert.deepEqual(again.tokens, result.tokens);
});

test('a text that is cut inside a character ends before it', async () => {
  const bytes = (text) => [...Buffer.from(text, 'latin1')].map((byte) => ({ 0xf0: 'ð', 0x9f: 'Ł',
    0xa6: '¦', 0x86: 'Ĩ' })[byte] ?? String.fromCharCode(byte));
  const duck = [...Buffer.from('🦆')];
  assert.deepEqual(duck, [0xf0, 0x9f, 0xa6, 0x86]);
  const size = model.description.vocabulary;
  const tokens = [...texts(size).slice(0, size - 4), ...bytes(String.fromCharCode(...duck))];
  const own = new Tokenizer({ model: 'gpt2', pre: 'gpt-2', tokens, merges: [],
    types: tokens.map((_, id) => (id === 0 ? 3 : 1)), eos: 0 });
  const written = [5, size - 4, size - 3, size - 2, size - 1];
  assert.equal(own.decode(written), '&🦆');
  for (const most of [1, 2, 4, 5]) {
    const session = open();
    const { text, pieces } = await collect(generate(session, own, start, { maxTokens: most,
      mask: (logits, { length }) => {
        logits.fill(-Infinity);
        logits[written[length - start.length]] = 0;
      } }));
    assert.equal(text, most < 5 ? '&' : '&🦆');
    assert.equal(pieces.join(''), text);
    assert.equal(session.length, start.length + most);
  }
});

test('an ending token ends the text and is not shown', async () => {
  const session = open({ logitBias: { 0: 1e6 } });
  const result = await collect(generate(session, tokenizer, start));
  assert.deepEqual([result.reason, result.text, result.tokens], ['end', '', [0]]);
  assert.deepEqual([...session.tokens()], [...start, 0]);
});

test('a stop string ends the text before it, also across tokens', async () => {
  const { text } = await collect(generate(open(never), tokenizer, start, { maxTokens: 12 }));
  const stop = text.slice(5, 8);
  const at = text.indexOf(stop);
  for (const option of [stop, ['never comes', stop, '']]) {
    const result = await collect(generate(open(never), tokenizer, start,
      { maxTokens: 12, stop: option }));
    assert.equal(result.reason, 'stop');
    assert.equal(result.text, text.slice(0, at));
    assert.equal(result.pieces.join(''), result.text);
  }
  const half = `${text.slice(-2)}?`;
  const held = await collect(generate(open(never), tokenizer, start,
    { maxTokens: 12, stop: half }));
  assert.equal(held.text, text, 'what looked like a stop string is shown in the end');
  assert.equal(held.pieces.join(''), text);
});

test('stop strings: any cut of the text gives the same', () => {
  const cases = [['abcabd', ['abd'], 'abc', 'abd'], ['aaab', ['aab'], 'a', 'aab'],
    ['xyz', ['yz', 'xyz'], '', 'xyz'], ['abab', ['abc'], 'abab', undefined]];
  for (const [text, stops, shown, found] of cases) {
    for (const size of [1, 2, 3, 6]) {
      const filter = new StopStrings(stops);
      let out = '';
      for (let at = 0; at < text.length; at += size) out += filter.push(text.slice(at, at + size));
      assert.equal(out + filter.end(), shown);
      assert.equal(filter.found, found);
    }
  }
});

test('a full window ends the text; a sliding one goes on', async () => {
  const full = await collect(generate(open({ ...never, contextWindow: 8 }), tokenizer, start));
  assert.equal(full.reason, 'context');
  // The last token stands outside of the window: nothing comes after it.
  assert.equal(full.tokens.length, 8 - start.length + 1);
  const sliding = open({ ...never, contextWindow: 8, overflow: 'slide' });
  const long = await collect(generate(sliding, tokenizer, start, { maxTokens: 30 }));
  assert.deepEqual([long.reason, long.tokens.length], ['length', 30]);
});

test('a prompt that does not fit, or none, is an error before anything is done', async () => {
  const session = open({ contextWindow: 8 });
  const fails = (prompt, code) => assert.rejects(collect(generate(session, tokenizer, prompt)),
    { code });
  await fails(Array.from({ length: 9 }, () => 1), 'CONTEXT_FULL');
  await fails([], 'INVALID_ARGUMENT');
  await fails([1, 1e9], 'TOKEN_OUT_OF_RANGE');
  assert.equal(session.length, 0);
});

test('prefill tells its progress and is heard to be aborted', async () => {
  const long = loadSync(engine, goldenPath('llama-long'));
  const prompt = Array.from({ length: 150 }, (_, i) => i % 30);
  const seen = [];
  await collect(generate(long.openSession(), tokenizer, prompt,
    { maxTokens: 0, onPrefill: (done, total) => seen.push([done, total]) }));
  assert.deepEqual(seen, [[64, 150], [128, 150], [150, 150]]);
  const controller = new AbortController();
  const session = long.openSession();
  const reason = new Error('enough');
  await assert.rejects(collect(generate(session, tokenizer, prompt, {
    signal: controller.signal, onPrefill: () => controller.abort(reason),
  })), reason);
  assert.equal(session.length, 64);
});

test('aborting between tokens, and leaving the loop, stop the work', async () => {
  const controller = new AbortController();
  const session = open(never);
  const parts = generate(session, tokenizer, start, { signal: controller.signal });
  await parts.next();
  controller.abort();
  await assert.rejects(parts.next(), { name: 'AbortError' });
  assert.equal(session.length, start.length + 1);
  const left = open(never);
  for await (const { choice } of generate(left, tokenizer, start, { logprobs: 2 })) {
    assert.equal(choice.top.length, 2);
    assert.ok(choice.logprob <= 0);
    break;
  }
  assert.equal(left.length, start.length + 1);
});

test('timers run while text is generated', { timeout: 60_000 }, async () => {
  let ticks = 0;
  const timer = setInterval(() => { ticks++; }, 1);
  const session = open({ ...never, overflow: 'slide' });
  // Without an end of its own: only a timer that ran ends it.
  for await (const _ of generate(session, tokenizer, start)) {
    if (ticks > 0) break;
  }
  clearInterval(timer);
  assert.ok(session.length > start.length);
});

const stories = `${root}models/stories-q-mqa.q8_0.gguf`;

test('the shipped model tells a story', { skip: !existsSync(stories) && 'it is not there' },
  async () => {
    const story = loadSync(engine, stories);
    const prompt = story.tokenizer.encode('Once upon a time');
    const { text, reason, tokens } = await collect(generate(story.openSession(), story.tokenizer,
      prompt, { maxTokens: 80 }));
    assert.match(text, /^,? there was|^,? [a-z]/);
    assert.ok(reason === 'end' || tokens.length === 80);
    assert.doesNotMatch(text, /\ufffd|<\|/);
  });
