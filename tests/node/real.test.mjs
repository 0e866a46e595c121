// Published files, fetched: tokens, greedy text and perplexity are llama.cpp's (tests/real).
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { named } from '../../models/fetch/fetch.mjs';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { fetchOrSkip, follow, judgedText, realFiles } from './recorded.mjs';

/** A first run downloads half a gigabyte. */
const downloadLimit = { timeout: 20 * 60_000 };

for (const real of realFiles) {
  const { path, skip } = await fetchOrSkip(real.model);
  describe(`${real.title} says what llama.cpp says`, { skip, ...downloadLimit }, () => {
    const { recorded } = real;
    let engine;
    let model;

    before(async () => {
      engine = await Engine.open({ threads: 2 });
      model = await loadModel(engine, path, { contextWindow: 1280, arithmetic: 'int16' });
    });
    after(() => engine?.destroy());

    test('the file is the recorded one', () => {
      assert.equal(named[real.model].file, recorded.file);
      assert.equal(named[real.model].sha256, recorded.sha256);
    });

    for (const one of recorded.prompts) {
      test(`tokens and greedy text of "${one.name}"`, () => {
        const { tokenizer } = model;
        const found = tokenizer.encode(one.prompt, { special: true, begin: false });
        assert.deepEqual([...found], one.prompt_ids);
        assert.equal(tokenizer.decode(one.ids, { special: true }), one.text);
        const session = model.openSession();
        follow(session, one, 0.1);
        session.destroy();
      });
    }

    test('perplexity', () => {
      const ids = [...model.tokenizer.encode(judgedText(real), { special: true, begin: false })];
      assert.equal(ids.length, recorded.perplexity_tokens);
      const session = model.openSession();
      const logprobs = session.score(ids).subarray(1);
      session.destroy();
      const mean = logprobs.reduce((sum, logprob) => sum + logprob, 0) / logprobs.length;
      const found = Math.exp(-mean);
      const relative = Math.abs(found / recorded.perplexity_exact - 1);
      assert.ok(relative < 2e-3, `${found}, llama.cpp ${recorded.perplexity_exact}`);
    });

    test('its cache: all positions of layers without a window, of others the window and a page', {
      skip: real.recording !== 'gemma3',
    }, () => {
      const row = 2 * 256 * 2; // bytes of a position in a layer: a key and a value of 256 f16
      for (const tokens of [4096, 32768]) {
        const least = row * (3 * tokens + 15 * 511);
        const used = model.cache.bytes(tokens, { cacheType: 'f16' }).total;
        assert.ok(used >= least && used <= least + row * 15 * 64, `${tokens} tokens: ${used}`);
      }
    });
  });
}
