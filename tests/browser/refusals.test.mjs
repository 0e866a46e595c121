// What a page is told when its policy, its host or a server stands in the way: one code and a cause
// in words, whichever browser it is.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from './drivers.mjs';
import { serve, strictPolicy } from './server.mjs';

const limit = { timeout: 120_000 };
const mounts = { '/': join(root, 'tests/browser/page'), '/dist/': join(root, 'dist'),
  '/models/': join(root, 'models') };
const model = '/models/stories-q-mqa.q8_0.gguf';

/** Gives a text, or the error. */
const load = (source, options = '{}') => `(async () => {
  const { OneKV } = await import('/dist/src/onekv.js');
  try {
    const model = await OneKV.load(${source}, { threads: 1, store: 'none', ...${options} });
    const session = await model.createSession();
    const text = await session.prompt('Once', { maxTokens: 3 });
    await model.unload();
    return { text };
  } catch ({ name, code, message }) {
    return { name, code, message };
  }
})()`;

let plain;
let withoutWasm;
let policed;
/** A server of another origin that lets nobody read, and one that is gone. */
let silent;
let gone;

before(async () => {
  plain = await serve({ mounts });
  withoutWasm = await serve({ mounts, strict: strictPolicy.replace(" 'wasm-unsafe-eval'", '') });
  policed = await serve({ mounts, strict: true });
  const server = createServer((_, response) => response.end('x'));
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  silent = { server, origin: `http://127.0.0.1:${server.address().port}` };
  const closed = await serve({ mounts });
  gone = closed.origin;
  await closed.close();
});
after(async () => {
  silent.server.closeAllConnections();
  silent.server.close();
  await Promise.all([plain, withoutWasm, policed].map((site) => site.close()));
});

function failed({ name, code, message }, expected, pattern) {
  assert.deepEqual([name, code], ['OneKVError', expected], message);
  assert.match(message, pattern);
}

async function testPolicies(browser) {
  await browser.open(`${withoutWasm.origin}/empty.html`);
  for (let i = 0; i < 3; i++) {
    failed(await browser.evaluate(load(`'${model}'`)), 'WASM_FAILED', /wasm|WebAssembly/i);
  }
  await browser.open(`${policed.origin}/empty.html`);
  failed(await browser.evaluate(load(`'${plain.origin}${model}'`)), 'SOURCE_FAILED',
    /Content-Security-Policy .*does not allow (this|its) address.*connect-src must name it/);
}

async function testServers(browser) {
  await browser.open(`${plain.origin}/empty.html`);
  const from = (address) => browser.evaluate(load(`'${address}'`, '{ stallSeconds: 20 }'));
  failed(await from(`${silent.origin}/m.gguf`), 'SOURCE_FAILED',
    /the server answers, but lets no page of another origin read it/);
  failed(await from(`${gone}/m.gguf`), 'SOURCE_FAILED', /the server does not answer/);
  for (const address of ['', ' ']) failed(await from(address), 'INVALID_ARGUMENT', /a URL/);
  failed(await browser.evaluate(load(`'${model}'`, "{ wasmUrl: '/nowhere/' }")), 'WASM_FAILED',
    /nowhere/);
}

/** Some browsers have workers in shared workers. */
async function testSharedWorker(browser) {
  await browser.open(`${plain.origin}/empty.html`);
  const answer = await browser.evaluate(`new Promise((resolve) => {
    const shared = new SharedWorker('/shared-worker.js', { type: 'module' });
    shared.onerror = () => resolve({ none: true });
    shared.port.onmessage = ({ data }) => resolve(data);
    shared.port.postMessage('${model}');
  })`);
  if (answer.text !== undefined) assert.notEqual(answer.text, '');
  else failed(answer, 'WORKER_LOST', /shared workers of this browser cannot start workers/);
}

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let browser;
    before(async () => { browser = await launch(name); }, limit);
    after(() => browser?.close());
    test(`${name}: policies`, limit, () => testPolicies(browser));
    test(`${name}: servers and addresses`, limit, () => testServers(browser));
    test(`${name}: in a shared worker`, limit, () => testSharedWorker(browser));
  });
}
