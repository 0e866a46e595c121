// The example of a service worker: a plain fetch of a page, answered by its model.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { launch } from '../../tests/browser/drivers.mjs';
import { serve } from '../../tests/browser/server.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';

test('fetch of a page, through its service worker', { timeout: 120_000 }, async () => {
  const { origin, close } = await serve({ isolated: true, mounts: {
    '/': join(root, 'web/examples/service-worker'), '/models/': join(root, 'models'),
    '/onekv/': join(import.meta.dirname, 'node_modules/onekv/dist') } });
  const page = await launch('chromium');
  try {
    await page.open(`${origin}/?model=/models/stories-q-mqa.q8_0.gguf`);
    for (const end = performance.now() + 60_000; performance.now() < end;) {
      if (/done|failed/.test(await page.text('#state') ?? '')) break;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    assert.equal(await page.text('#state'), 'done: local', page.log.join('\n'));
    assert.ok((await page.text('#output')).length > 40);
    // An answer that nobody reads to its end, and one that is refused.
    const [status, message] = await page.evaluate(`(async () => {
      const ask = (body) => fetch('/v1/completions', { method: 'POST',
        body: JSON.stringify({ prompt: 'Once', ...body }) });
      const { body } = await ask({ stream: true, max_tokens: 900 });
      const reader = body.getReader();
      await reader.read();
      await reader.cancel();
      const refused = await ask({ n: 2 });
      return [refused.status, (await refused.json()).error.message];
    })()`);
    assert.deepEqual([status, message], [400, 'n: found 2, expected 1: a request has one answer']);
  } finally {
    await page.close();
    await close();
  }
});
