// Models that are loaded and unloaded many times: nothing of them stays, and the program ends by
// itself. (Kept, fifty of them take more than a gigabyte, and are seen after the first dozen.)
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { root } from '../node/support.mjs';

const program = `
  import { OneKV } from 'onekv';
  const seen = [];
  for (let i = 0; i < 50; i++) {
    const model = await OneKV.load('models/stories-q-mqa.q8_0.gguf', { threads: 2 });
    const session = await model.createSession();
    model.addEventListener('memory', () => {});
    await session.prompt('Once', { maxTokens: 3 });
    await model.unload();
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
    const handles = process.getActiveResourcesInfo()
      .filter((kind) => /worker|port/i.test(kind)).length;
    seen.push({ rss, heap: heapUsed + external + arrayBuffers, handles });
  }
  console.log(JSON.stringify(seen));
`;

test('fifty loads and unloads: memory and handles stay, and the program ends', (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath,
    ['--input-type=module', '--eval', program], { cwd: root, encoding: 'utf8', timeout: 300_000 });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout);
  assert.equal(seen.length, 50);
  const most = (from, to, name) => Math.max(...seen.slice(from, to).map((one) => one[name]));
  const grown = (name) => most(40, 50, name) - most(5, 15, name);
  t.diagnostic(`resident ${Math.round(seen.at(-1).rss / 1e6)} MB, ` +
    `${Math.round(grown('rss') / 1e6)} MB more than after the first dozen`);
  assert.ok(grown('rss') < 60e6, `${grown('rss')} bytes more are resident`);
  assert.ok(grown('heap') < 10e6, `${grown('heap')} bytes more on the heap`);
  assert.ok(grown('handles') <= 0, `${grown('handles')} handles more`);
});
