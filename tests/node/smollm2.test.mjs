// SmolLM2 from text to text: what llama.cpp made of the same prompts (tests/real/smollm2.json).
//
// Its tokenizer, its reading of the chat template and its greedy text are the expected ones; the
// logits behind them are compared in tests/native/test_smollm2.c.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { Engine, generate, loadModel } from '../../dist/src/engine-entry-node.js';
import { root } from './support.mjs';

const recorded = JSON.parse(readFileSync(join(root, 'tests/real/smollm2.json'), 'utf8'));
const file = join(modelFolder, named['smollm2-135m-instruct'].file);
const skip = !existsSync(file) &&
  'not in the cache folder: node models/fetch/fetch.mjs smollm2-135m-instruct';

describe('SmolLM2 says what llama.cpp says', { skip }, () => {
  let engine;
  let model;
  let tokenizer;

  before(async () => {
    engine = await Engine.open();
    // One step of the French text is decided by 0.014 of a logit: int8 rounds more than that away.
    model = await loadModel(engine, file, { contextWindow: 512, arithmetic: 'int16' });
    tokenizer = model.tokenizer;
  });
  after(() => engine?.destroy());

  test('the file is the recorded one', () => {
    assert.equal(named['smollm2-135m-instruct'].sha256, recorded.sha256);
    assert.equal(named['smollm2-135m-instruct'].file, recorded.file);
  });

  for (const { name, prompt, prompt_ids: ids, ids: continuation, text } of recorded.prompts) {
    test(`tokens of the ${name}`, () => {
      assert.deepEqual([...tokenizer.encode(prompt, { special: true })], ids);
      assert.equal(tokenizer.decode(continuation, { special: true }), text);
    });
  }

  test('the chat is rendered by the file\'s template', () => {
    const { prompt } = recorded.prompts.find(({ name }) => name === 'chat');
    const question = /<\|im_start\|>user\n([^<]*)<\|im_end\|>/.exec(prompt)[1];
    const rendered = model.chatTemplate.render([{ role: 'user', content: question }]);
    assert.equal(rendered, prompt);
  });

  // The chat ends by itself; the French text has characters of several bytes.
  for (const name of ['chat', 'french']) {
    test(`greedy text of the ${name}, streamed`, async () => {
      const { prompt_ids: ids, ids: expected } = recorded.prompts.find((one) => one.name === name);
      const session = model.openSession();
      const pieces = [];
      const parts = generate(session, tokenizer, ids, { maxTokens: expected.length });
      let part = await parts.next();
      for (; !part.done; part = await parts.next()) pieces.push(part.value.text);
      const { tokens, reason, text } = part.value;
      const ends = expected.findIndex((id) => tokenizer.ends.has(id));
      assert.equal(reason, ends < 0 ? 'length' : 'end');
      assert.deepEqual(tokens, ends < 0 ? expected : expected.slice(0, ends + 1));
      assert.equal(text, tokenizer.decode(tokens));
      assert.equal(pieces.join(''), text);
      assert.ok(pieces.every((piece) => !piece.includes('\ufffd')));
      session.destroy();
    });
  }
});
