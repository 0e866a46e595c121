// Published families against llama.cpp: greedy ids and the ten likeliest tokens behind them, with
// the tiny golden files (tests/real/families.json).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { follow } from './recorded.mjs';
import { goldenPath, loadSync, root, withEngine, withKeys } from './support.mjs';

const read = (file) => JSON.parse(readFileSync(join(root, file), 'utf8'));

test('tiny models of each family say what llama.cpp says', () => withEngine({}, (engine) => {
  const { prompts } = read('tests/real/families.json');
  assert.ok(prompts.length >= 3);
  for (const recorded of prompts) {
    const model = loadSync(engine, goldenPath(recorded.name), { cacheType: 'f32' });
    const largest = Math.max(...recorded.exact.top10.map(([, logit]) => Math.abs(logit)));
    // llama.cpp looks GELU up in a table of f16, and is that far from the golden logits itself:
    // with such a table in transformers it is a ninth as far from gemma4-kv.
    assert.ok(recorded.distance < 6e-3);
    assert.equal(recorded.ids.length, 64);
    follow(model.openSession(), recorded, Math.max(1e-3, 2 * recorded.distance) * largest);
    model.destroy();
  }
}));

test('one boolean says whether Granite has positions', () => withEngine({}, (engine) => {
  for (const [isTuned, position] of [[true, 'rope'], [false, 'none']]) {
    const file = withKeys(goldenPath('granite-wide'),
      [['granite.rope.scaling.finetuned', 'bool', isTuned]]);
    const model = loadSync(engine, file);
    assert.equal(model.description.position, position);
    model.destroy();
  }
}));

/** Where the tensor's name begins in a header, and its two dimensions behind it. */
function findTensor(bytes, name) {
  const text = Buffer.from(name);
  let at = bytes.indexOf(text);
  // Another tensor's name may end with it: the length in front must be this one's.
  while (bytes.readUInt32LE(at - 8) !== text.length) at = bytes.indexOf(text, at + 1);
  return { at, dims: at + text.length + 4 };
}

for (const family of ['gemma3-wide', 'gemma4-kv', 'gemma4-shared']) {
  test(`${family}: a tensor of another name or shape is refused by name`, () =>
    withEngine({}, (engine) => {
      const whole = readFileSync(goldenPath(family));
      const head = whole.subarray(0, 40_000).toString('latin1');
      const names = new Set(head.match(/(blk\.\d+\.)?[a-z_]+\.weight/g));
      assert.ok(names.size > 40, `${names.size} tensors`);
      for (const name of names) {
        const renamed = Buffer.from(whole);
        const { at, dims } = findTensor(renamed, name);
        renamed[at] = 0x58; // X
        assert.throws(() => loadSync(engine, renamed), (error) =>
          ['MISSING_TENSOR', 'UNKNOWN_TENSOR'].includes(error.code) &&
          error.message.includes(name.slice(1)), name);
        const turned = Buffer.from(whole);
        const [columns, rows] = [turned.readBigUInt64LE(dims), turned.readBigUInt64LE(dims + 8)];
        if (turned.readUInt32LE(dims - 4) !== 2 || columns === rows) continue;
        turned.writeBigUInt64LE(rows, dims);
        turned.writeBigUInt64LE(columns, dims + 8);
        assert.throws(() => loadSync(engine, turned), (error) =>
          ['BAD_TENSOR', 'BAD_KEY'].includes(error.code), `${name} turned`);
      }
    }));
}

test('what windows take is computed, held and told alike', () => withEngine({}, (engine) => {
  const model = loadSync(engine, goldenPath('gemma3-narrow'), { cacheType: 'i8' });
  const { window, windowedLayers, layers } = model.description;
  assert.deepEqual([window, windowedLayers, layers], [8, 6, 7]);
  const session = model.openSession();
  for (let n = 1; n <= 110; n++) {
    session.append([n % 64]);
    session.logits();
    const { tokens, cacheUsed } = session.memory();
    assert.deepEqual([tokens, cacheUsed], [n, model.cache.bytes(n).total]);
  }
  // One layer keeps all of it; the others the window, 32 positions, and at most 31 of a page.
  const row = 8 + 4; // bytes: 8 numbers and their scale
  assert.ok(session.memory().cacheUsed <= 2 * row * (110 + 6 * (8 + 32 + 31)));
  assert.equal(model.cache.bytes(110, { standardHeads: 4 }).total,
    4 * model.cache.bytes(110).total);
  model.destroy();
}));

test('a latent is cached once, in one row of each layer', () => withEngine({}, (engine) => {
  const [rank, rotated, plain, value, heads, layers] = [32, 8, 16, 16, 4, 3];
  const rows = { f16: 2 * (rank + rotated), f32: 4 * (rank + rotated), i8: rank + rotated + 2 * 4,
    i4: rank / 2 + rotated / 2 + 2 * (rank / 32 + 1) };
  for (const [cacheType, row] of Object.entries(rows)) {
    const model = loadSync(engine, goldenPath('deepseek2-latent'), { cacheType });
    assert.deepEqual([model.description.latent, model.description.sharedRope], [rank, undefined]);
    const session = model.openSession();
    session.append([1, 2, 3]);
    session.logits();
    assert.equal(session.memory().cacheUsed, 3 * layers * row);
    assert.equal(model.cache.bytes(3).total, 3 * layers * row);
    model.destroy();
  }
  // What the heads' keys and values would take, which the row stands for.
  const model = loadSync(engine, goldenPath('deepseek2-latent'), { cacheType: 'f16' });
  assert.equal(model.cache.bytes(100, { standardHeads: heads }).total,
    100 * layers * heads * (plain + rotated + value) * 2);
  model.destroy();
}));
