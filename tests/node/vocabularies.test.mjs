// The tokenizers of 15 families against llama.cpp's own vectors and against what it makes of
// random texts (tests/golden/README.md). The vocabularies are fetched, not kept here.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { Tokenizer } from '../../dist/src/engine-entry-node.js';
import { readTextKeys } from '../../dist/src/engine/text-keys.js';
import { preTokenizers } from '../../dist/src/text/pre-tokenizers.js';
import { vocabularyFolder } from '../../models/fetch/vocabularies.mjs';
import { goldenFolder, withEngine } from './support.mjs';

const golden = JSON.parse(readFileSync(`${goldenFolder}vocabularies.json`, 'utf8'));
const skip = !existsSync(vocabularyFolder) &&
  'not in the cache folder: node models/fetch/vocabularies.mjs';
const pathOf = (family) => `${vocabularyFolder}/ggml-vocab-${family}.gguf`;

function keysOf(family) {
  return withEngine({}, (engine) => {
    const loader = engine.openLoader({ headerOnly: true });
    assert.throws(() => loader.feed(readFileSync(pathOf(family))));
    return readTextKeys(loader.metadata);
  });
}

/** Without what the authors' tokenizers do and llama.cpp leaves out: Qwen 2's composes characters,
 * BERT's takes Hangul apart into all its letters, drops U+0085 and keeps marks that take space. */
function given(text, name) {
  if (name === 'bert-bge') return text.replace(/[\uac00-\ud7a3\u0085]|\p{Mc}/gu, '');
  return name === 'qwen2' ? text.normalize('NFC') : text;
}

/** Texts on which llama.cpp differs from the expressions that the authors publish, which we
 * follow: it takes all letters beyond ASCII for one class where those tell capitals apart, and
 * counts digits in threes from the end of any run, together with what stands before it. */
const capitals = /\p{Lu}|\p{Lt}|\p{M}/u;
const leftOut = new Map([
  ...['gpt-4o', 'llama4', 'kanana2', 'talkie', 'minimax-m2', 'granite-embed-multi-97m', 'tekken',
    'kimi-k2', 'youtu'].map((name) => [name, capitals]),
  ...['tiny_aya', 'cohere2moe'].map((name) => [name, /\p{Lu}|\p{Lt}|\p{M}|\p{N}/u]),
  ['afmoe', /\p{N}/u],
]);

/** [text, its place, ids] of the texts whose ids are not those that llama.cpp gave. */
function differing(tokenizer, name, base64) {
  const hashes = Buffer.from(base64, 'base64');
  assert.ok(hashes.length >= 3 * 500);
  const texts = golden.texts.slice(0, hashes.length / 3).map((text) => given(text, name));
  const compared = texts.flatMap((text, i) => (leftOut.get(name)?.test(text) ? [] : [[text, i]]));
  assert.ok(compared.length > texts.length / 5);
  return compared.map(([text, i]) => [text, i, tokenizer.encode(text, { begin: false })])
    .filter(([, i, ids]) => createHash('sha256').update(ids.join(' ')).digest().subarray(0, 3)
      .compare(hashes, 3 * i, 3 * i + 3) !== 0);
}

for (const [family, hashes] of Object.entries(golden.families)) {
  test(`${family}: llama.cpp's vectors, and its ids of 2,000 random texts`, { skip }, async () => {
    const tokenizer = new Tokenizer(await keysOf(family));
    const texts = readFileSync(`${pathOf(family)}.inp`, 'utf8').split('\n__ggml_vocab_test__\n');
    // A file ends with the parting line, or with a line break.
    const ids = readFileSync(`${pathOf(family)}.out`, 'utf8').replace(/\n$/, '').split('\n');
    assert.ok(ids.length >= 46 && texts.length >= ids.length);
    ids.forEach((expected, i) => {
      const found = tokenizer.encode(texts[i], { begin: false }).join(' ');
      assert.equal(found, expected.trim(), JSON.stringify(texts[i]));
    });
    assert.equal(golden.texts.length, 2000);
    assert.deepEqual(differing(tokenizer, family, hashes), []);
  });
}

test('every byte-level name cuts as llama.cpp does', { skip }, async () => {
  const keys = await keysOf('llama-bpe');
  const known = golden.names.flatMap(([, names]) => names);
  assert.deepEqual([...preTokenizers.keys()].sort(), [...known].sort());
  // Names with one entry of the table are one tokenizer, which is tried once.
  const tried = new Map();
  for (const [hashes, names] of golden.names) {
    for (const name of names) {
      const cut = preTokenizers.get(name);
      if (!tried.has(cut)) {
        tried.set(cut, hashes);
        assert.deepEqual(differing(new Tokenizer({ ...keys, pre: name }), name, hashes), [], name);
      }
      assert.equal(tried.get(cut), hashes, name);
    }
  }
});
