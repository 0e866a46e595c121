// Per-layer embeddings that stay in the file, in three browsers: of a File, and of a model that was
// stored before. A text's vector must be what the held table gives.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

const limit = { timeout: 120_000 };
const tableBytes = 64 * 10 * 8 * 4;

const body = `
  const { OneKV } = await import('/dist/src/onekv.js');
  const url = '/golden/gemma4-shared.gguf';
  const kept = await OneKV.models.list(); // WebKit's private windows forget the store else.
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const look = async (source, options = {}) => {
    const model = await OneKV.load(source, { threads: 1, ...options });
    const tokens = Array.from({ length: 110 }, (_, i) => 7 * i % 64);
    const { vectors: [vector] } = await model.embed([tokens]);
    const { weights } = await model.memory();
    const notes = model.engine.notes.filter((note) => note.startsWith('per-layer'));
    await model.unload();
    return { weights, notes, vector: Array.from(vector) };
  };
  return [await look(bytes), await look(new File([bytes], 'a')), await look(url),
    await look(url)];
`;

let pages;
before(async () => {
  pages = await serve({ mounts: { '/dist/': join(root, 'dist'),
    '/golden/': join(root, 'tests/golden'), '/': join(root, 'tests/browser/page') } });
});
after(() => pages.close());

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let browser;
    before(async () => { browser = await launch(name); }, limit);
    after(() => browser?.close());
    test('a table that is only looked up stays in the file', limit, async () => {
      await browser.open(`${pages.origin}/empty.html`);
      const looks = await browser.evaluate(`(async () => { ${body} })()`);
      const left = looks.map(({ notes: [note] }) => /left where the file is/.test(note));
      assert.deepEqual(left, [false, true, true, true]);
      looks.forEach(({ weights, vector }, i) => {
        assert.equal(looks[0].weights - weights, left[i] ? tableBytes : 0);
        assert.ok(vector.length === 32 && vector.some((value) => value !== 0));
        assert.deepEqual(vector, looks[0].vector);
      });
    });
  });
}
