// Where the package lies and who asks it: on another origin without a bundler, in workers that can
// start none, under a policy of Trusted Types.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from './drivers.mjs';
import { serve as serveFiles } from './server.mjs';

const limit = { timeout: 120_000 };
const types = { html: 'text/html', js: 'text/javascript', mjs: 'text/javascript',
  wasm: 'application/wasm', gguf: 'application/octet-stream' };
const isolation = { 'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp' };

/** Pages by path: headers, and what there is besides the files of the repository. */
const pages = {
  '/plain.html': {},
  '/isolated.html': isolation,
  '/strict.html': { 'content-security-policy': "worker-src 'self'" },
  '/typed.html': { 'content-security-policy': "require-trusted-types-for 'script'" },
};
const scripts = {
  '/service.js': `import { OneKV } from '/dist/src/onekv.js';
    oninstall = () => skipWaiting();
    onactivate = (event) => event.waitUntil(clients.claim());
    onmessage = ({ source }) => OneKV.load('/m.gguf').catch(({ name, code, message }) =>
      source.postMessage({ name, code, message }));`,
};

/** A site of its own origin; `cors`: as a CDN, which anyone may read. */
async function serve(cors) {
  const server = createServer(({ url }, response) => {
    const path = new URL(url, 'http://localhost').pathname;
    const headers = cors ? { 'access-control-allow-origin': '*' } : {};
    const type = types[path.split('.').at(-1)];
    if (path in pages || path in scripts) {
      // Workers inherit the embedder policy of the page that made them, and must not be weaker.
      response.writeHead(200, { ...headers, ...pages[path], 'content-type': type });
      return response.end(scripts[path] ?? '<!doctype html>');
    }
    const isFile = /^\/(dist|models)\/[\w./-]+$/.test(path) && !path.includes('..');
    try {
      const bytes = readFileSync(join(root, isFile ? path : 'none'));
      response.writeHead(200, { ...headers, ...isolation, 'content-type': type,
        'cross-origin-resource-policy': cors ? 'cross-origin' : 'same-origin' }).end(bytes);
    } catch {
      response.writeHead(404, headers).end();
    }
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { origin: `http://127.0.0.1:${server.address().port}`,
    close: () => { server.closeAllConnections(); server.close(); } };
}

let site;
let cdn;

before(async () => {
  [site, cdn] = await Promise.all([serve(false), serve(true)]);
});
after(() => {
  site.close();
  cdn.close();
});

/** Loads and generates; or gives the error. */
const load = (from, options = '{}') => `(async () => {
  const { OneKV } = await import('${from}/dist/src/onekv.js');
  try {
    const model = await OneKV.load('${from}/models/stories-q-mqa.q8_0.gguf', ${options});
    const session = await model.createSession();
    const text = await session.prompt('Once', { maxTokens: 3 });
    const { threads, notes } = model.engine;
    await model.unload();
    return { text, threads, notes };
  } catch ({ name, code, message }) {
    return { name, code, message };
  }
})()`;

const lost = ({ name, code, message }, pattern) => {
  assert.deepEqual([name, code], ['OneKVError', 'WORKER_LOST'], message);
  assert.match(message, pattern);
};

async function testCdn(browser) {
  await browser.open(`${site.origin}/plain.html`);
  const plain = await browser.evaluate(load(cdn.origin));
  assert.equal(plain.text?.length > 0, true, JSON.stringify(plain));
  await browser.open(`${site.origin}/isolated.html`);
  // As many threads as the same page gets from its own origin.
  const own = await browser.evaluate(load(site.origin, '{ threads: 2 }'));
  const isolated = await browser.evaluate(load(cdn.origin, '{ threads: 2 }'));
  assert.deepEqual([isolated.text, isolated.threads], [plain.text, own.threads],
    JSON.stringify(isolated));
  if (browser.name !== 'webkit') assert.equal(own.threads, 2);
  await browser.open(`${site.origin}/strict.html`);
  lost(await browser.evaluate(load(cdn.origin)), /worker-src blob:/);
}

/** Threads without the two headers that cut a page off from others, where there is that policy. */
async function testDocumentIsolation(browser) {
  const isolated = await serveFiles({ isolated: 'document', mounts: {
    '/': join(root, 'tests/browser/page'), '/dist/': join(root, 'dist'),
    '/models/': join(root, 'models') } });
  try {
    await browser.open(`${isolated.origin}/empty.html`);
    const answer = await browser.evaluate(load(isolated.origin, '{ threads: 2 }'));
    assert.equal(answer.text?.length > 0, true, JSON.stringify(answer));
    const hasPolicy = browser.name === 'chromium';
    assert.equal(await browser.evaluate('crossOriginIsolated'), hasPolicy);
    assert.equal(answer.threads, hasPolicy ? 2 : 1, JSON.stringify(answer));
  } finally {
    await isolated.close();
  }
}

async function testServiceWorker(browser) {
  await browser.open(`${site.origin}/plain.html`);
  const said = await browser.evaluate(`(async () => {
    const heard = new Promise((resolve) => {
      navigator.serviceWorker.onmessage = ({ data }) => resolve(data);
    });
    const registration = await navigator.serviceWorker.register('/service.js',
      { type: 'module' }).catch((error) => ({ failed: String(error) }));
    if (registration.failed) return registration;
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage('go');
    const answer = await heard;
    await registration.unregister();
    return answer;
  })()`);
  // This Firefox registers no service worker that is a module.
  if (said.failed) return assert.match(said.failed, /TypeError|SecurityError|NotSupported/);
  return lost(said, /service worker cannot start workers: load the model in a page/);
}

async function testTrustedTypes(browser) {
  await browser.open(`${site.origin}/typed.html`);
  const enforced = await browser.evaluate('typeof trustedTypes === "object"');
  const answer = await browser.evaluate(load(site.origin));
  if (!enforced) return assert.equal(answer.text?.length > 0, true, JSON.stringify(answer));
  lost(answer, /workerUrl: policy\.createScriptURL/);
  const made = await browser.evaluate(load(site.origin, `{ workerUrl: trustedTypes.createPolicy(
    'mine', { createScriptURL: (url) => url }).createScriptURL('/dist/src/worker.js') }`));
  return assert.equal(made.text?.length > 0, true, JSON.stringify(made));
}

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let browser;

    before(async () => {
      browser = await launch(name);
    });
    after(() => browser?.close());
    test('the package on another origin', limit, () => testCdn(browser));
    test('Document-Isolation-Policy', limit, () => testDocumentIsolation(browser));
    test('in a service worker', limit, () => testServiceWorker(browser));
    test('under Trusted Types', limit, () => testTrustedTypes(browser));
  });
}
