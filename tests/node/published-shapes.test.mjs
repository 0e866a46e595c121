// What caches take in published models' shapes, from their headers alone; tests/real/shapes.mjs
// loads them too, with random weights.
import assert from 'node:assert/strict';
import test from 'node:test';
import { contexts, expectedBytes, headerOf, shapes } from '../real/shapes.mjs';
import { withEngine } from './support.mjs';

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
