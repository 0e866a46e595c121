// The example that searches a folder of notes, in Chromium, with a folder of this machine. The
// model is the shipped story model: it was not trained for vectors, so that all that is asked of it
// is that a text's own vector is nearest to it. tests/node/embed.test.mjs has the vectors.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { mounts } from '../../web/examples/mounts.mjs';
import { goldenPath } from '../node/support.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

const limit = { timeout: 240_000 };
const paragraphs = {
  'a.md': ['Mia found a red leaf in the garden.', 'Ben likes to <b>swim</b> in the lake.'],
  'inner/b.txt': ['The old cat sleeps all day.'],
  'inner/c.json': ['{}'],
};
let site;
let driver;
let folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'onekv-notes-'));
  mkdirSync(join(folder, 'inner'));
  for (const [name, texts] of Object.entries(paragraphs)) {
    writeFileSync(join(folder, name), `${texts.join('\n\n')}\n`);
  }
  site = await serve({ mounts, isolated: true });
  driver = await launch('chromium');
}, limit);
after(async () => {
  await driver?.close();
  await site?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function until(selector, pattern) {
  for (;;) {
    const text = await driver.text(selector);
    if (pattern.test(text)) return text;
    assert.doesNotMatch(await driver.text('#state'), /^failed/);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

test('paragraphs of a folder, by their nearness to a question', limit, async () => {
  await driver.open(`${site.origin}/web/examples/search/?model=` +
    `${site.origin}/models/stories-q-mqa.q8_0.gguf`);
  await driver.choose('#folder', folder);
  await until('#state', /^3 paragraphs of 2 notes$/);
  for (const [path, text] of [['a.md', paragraphs['a.md'][1]],
    ['inner/b.txt', paragraphs['inner/b.txt'][0]]]) {
    await driver.type('#question', text);
    await driver.click('#ask button');
    await until('#found', new RegExp(`^[^(]*${path} `));
    const [first, ...others] = await driver.evaluate(
      "[...document.querySelectorAll('#found li')].map((item) => item.textContent)");
    assert.match(first, /\((1\.00|0\.99)\)/);
    assert.ok(first.endsWith(text), first);
    assert.equal(others.length, 2);
  }
});

test('another model by its file; one that has no vectors is said', limit, async () => {
  await driver.choose('#model', goldenPath('vit-qkv-mqa'));
  for (;;) {
    const text = await driver.text('#state');
    if (text.startsWith('failed')) {
      assert.match(text, /the model's input is features, not text/);
      break;
    }
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
});
