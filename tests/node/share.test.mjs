// One model for many tabs, as far as there is something of it without tabs: which loads are the
// same. tests/browser/share.test.mjs has the tabs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { OneKV } from '../../dist/src/onekv-node.js';
import { version } from '../../dist/src/api/version.js';
import { shareName } from '../../dist/src/page/share-name.js';
import { root } from './support.mjs';

const page = 'https://site.example/app/';
const name = (source, options = {}) =>
  shareName(source, options, (text) => new URL(text, page).href);

test('the version is that of the package', () => {
  assert.equal(version, JSON.parse(readFileSync(`${root}package.json`)).version);
});

test('what is the same model, and what is another', () => {
  const same = [
    ['m.gguf', new URL('m.gguf', page)],
    ['m.gguf?X-Amz-Signature=one', 'm.gguf?X-Amz-Signature=two'],
    ['hf:org/repo', 'hf:org/repo'],
  ];
  for (const [one, two] of same) assert.equal(name(one), name(two), String(one));
  assert.equal(name('a.gguf', { key: 'mine' }), name('b.gguf', { key: 'mine' }));
  const others = [name('m.gguf'), name('n.gguf'), name('m.gguf?file=2'), name('hf:org/repo'),
    name('hf:org/repo@old'), name('hf:org/repo', { hub: 'https://mirror.example' }),
    name(['m.gguf', 'n.gguf']), name('m.gguf', { cacheType: 'i8' }),
    name('m.gguf', { contextWindow: 64 }), name('m.gguf', { threads: 2 })];
  assert.equal(new Set(others).size, others.length);
});

test('only addresses name a model for all', () => {
  for (const source of [new Blob(['x']), new Uint8Array(3), ['m.gguf', new Blob(['x'])]]) {
    assert.throws(() => name(source), { code: 'INVALID_ARGUMENT', message: /for share/ });
  }
});

test('without tabs it is loaded as ever, and says so', { timeout: 60_000 }, async () => {
  const model = await OneKV.load(`${root}models/stories-q-mqa.q8_0.gguf`,
    { share: true, threads: 1 });
  assert.match(model.engine.notes.join('\n'), /^share: there are no tabs here/m);
  await model.unload();
  await assert.rejects(OneKV.load('m.gguf', { share: 'yes' }),
    { code: 'INVALID_ARGUMENT', message: /share: found "yes", expected a boolean/ });
});
