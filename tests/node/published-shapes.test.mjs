// What caches take in published models' shapes, from their headers alone; tests/real/shapes.mjs
// loads them too, with random weights.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { contexts, expectedBytes, headerOf, shapes } from '../real/shapes.mjs';
import { root, withEngine } from './support.mjs';

for (const name of Object.keys(shapes)) {
  test(`${name}: bytes of the cache, no more than computed by hand`, () =>
    withEngine({}, (engine) => {
      const loader = engine.openLoader({ headerOnly: true });
      loader.feed(headerOf(name));
      for (const n of contexts) {
        const [least, most] = expectedBytes(shapes[name], n);
        const found = loader.cache.bytes(n, { cacheType: 'f16' }).total;
        assert.ok(found >= least && found <= most, `${found} bytes of ${n} tokens`);
      }
      loader.destroy();
    }));
}

test('the table of families says what core counts of headers', () => withEngine({}, (engine) => {
  const { models } = JSON.parse(readFileSync(`${root}tests/bench/results/families.json`, 'utf8'));
  assert.ok(Object.keys(models).length >= 16);
  for (const [name, row] of Object.entries(models)) {
    const loader = engine.openLoader({ headerOnly: true });
    loader.feed(headerOf(name));
    const { contextWindow, architecture, queryHeads } = loader.describe();
    assert.equal(row.architecture, architecture, name);
    for (const n of contexts.filter((most) => most <= contextWindow)) {
      const { here, expanded } = row.contexts[n];
      const total = (question) => loader.cache.bytes(n, { cacheType: 'f16', ...question }).total;
      assert.deepEqual([total({}), total({ standardHeads: queryHeads })], [here, expanded], name);
    }
    loader.destroy();
  }
}));
