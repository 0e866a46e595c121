// Hosts that run modules but no workers, as those of Cloudflare's kind: the package of pages is
// loaded there without complaint, and says what is missing when it is asked for a model.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OneKV, OneKVError } from '../../dist/src/onekv.js';

const address = 'https://site.example/m.gguf';

test('a host without workers: one error, which says where models can be loaded', async () => {
  assert.equal(typeof globalThis.Worker, 'undefined');
  const calls = { load: OneKV.load(address), share: OneKV.load(address, { share: true }),
    estimate: OneKV.estimate(address) };
  for (const [name, call] of Object.entries(calls)) {
    const error = await call.catch((thrown) => thrown);
    assert.ok(error instanceof OneKVError, `${name}: ${error}`);
    assert.equal(error.code, 'WORKER_LOST');
    assert.match(error.message, /^there are no workers here: load the model in a page/);
  }
  const { available, threads } = await OneKV.availability();
  assert.equal(available.value, false);
  assert.match(available.reason, /there are no workers here/);
  assert.equal(threads.value, 0);
});
