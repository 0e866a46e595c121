// npm run test:memory: what is high in a large memory computes what is low computes, in Node and in
// Chromium; and a model of random weights that fills three of the four GiB.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import * as onekv from '../../dist/src/engine-entry-node.js';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from '../browser/drivers.mjs';
import { serve } from '../browser/server.mjs';
import { jobs } from './large.mjs';

const limit = { timeout: 900_000 };
const gib = 2 ** 30;
const model = 'models/stories-q-mqa.q8_0.gguf';
let site;
let driver;
/** Of the model of random weights, from the host that came first. */
let expected;

before(async () => {
  const folder = join(root, 'build/memory');
  // At one depth with dist/wasm, where the engine looks for its module.
  await build({ entryPoints: [join(root, 'tests/memory/worker.mjs')], bundle: true, format: 'esm',
    outfile: join(folder, 'worker.js'), platform: 'browser', external: ['node:*'],
    logLevel: 'warning' });
  site = await serve({ isolated: true, mounts: { '/': join(root, 'tests/browser/page'),
    '/memory/': folder, '/wasm/': join(root, 'dist/wasm'), '/dist/': join(root, 'dist'),
    '/models/': join(root, 'models') } });
  driver = await launch('chromium');
}, limit);
after(async () => {
  await driver?.close();
  await site?.close();
});

async function inChromium(name) {
  await driver.open(`${site.origin}/empty.html`);
  const { value, error } = await driver.evaluate(`(async () => {
    const { serveThreads } = await import('/dist/src/page/thread-host.js');
    const worker = new Worker('/memory/worker.js', { type: 'module' });
    serveThreads(worker);
    const report = new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => resolve({ error: String(message) });
    });
    worker.postMessage(['${name}', '${site.origin}/${model}']);
    return report.finally(() => worker.terminate());
  })()`);
  assert.equal(error, undefined);
  return value;
}

const hosts = {
  Node: (name) => jobs[name](onekv, join(root, model)),
  Chromium: inChromium,
};

for (const [host, run] of Object.entries(hosts)) {
  test(`${host}: a model above 2 GiB and near 4 GiB`, limit, async () => {
    const { low, above2, near4 } = await run('story');
    assert.ok(low.text.every((text) => text.length > 20), low.text.join('\n'));
    assert.ok(low.address < gib);
    assert.ok(above2.address > 2.2 * gib);
    assert.ok(near4.address > 3.9 * gib);
    for (const { text, logits } of [above2, near4]) {
      assert.deepEqual(text, low.text);
      assert.deepEqual(logits, low.logits);
    }
  });
  test(`${host}: more than three GiB of random weights`, limit, async (t) => {
    const { text, logits, weights, address, heap } = await run('large');
    t.diagnostic(`${(weights / gib).toFixed(2)} GiB of weights in ${(heap / gib).toFixed(2)} GiB`);
    assert.ok(weights > 3 * gib);
    assert.ok(address > 2 ** 31);
    assert.ok(logits.every(Number.isFinite) && new Set(logits).size > 8);
    assert.ok(text.every((part) => part.length > 0));
    expected ??= { text, logits };
    assert.deepEqual({ text, logits }, expected);
  });
}
