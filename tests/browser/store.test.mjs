// Downloads and stores in three browsers: interrupted, aborted, damaged, offline, full. The model
// comes from another origin, whose server does what a test tells it to.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

const limit = { timeout: 120_000 };
const file = readFileSync(join(root, 'models/stories-q-mqa.q8_0.gguf'));
const digest = createHash('sha256').update(file).digest('hex');
const partBytes = 2 << 20;

/** What the server of the model does: down, bytes, breakAfter (of each answer, then never),
 * stopAfter (says nothing more, until the client goes). */
let faults;
const asked = [];

function answer(request, response) {
  const shared = { 'access-control-allow-origin': '*', 'access-control-allow-headers': 'range',
    'access-control-expose-headers': 'etag, content-range', 'cache-control': 'no-store' };
  if (request.method === 'OPTIONS') return response.writeHead(204, shared).end();
  asked.push(request.headers.range ?? 'all');
  if (faults.down) return response.destroy();
  const total = faults.bytes.length;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), total - 1) : total - 1;
  response.writeHead(range ? 206 : 200, { ...shared, etag: '"one"',
    'content-length': end - start + 1,
    ...(range ? { 'content-range': `bytes ${start}-${end}/${total}` } : {}) });
  const stop = Math.min(end + 1, start + (faults.breakAfter.shift() ?? total));
  if (faults.stopAfter !== undefined) {
    response.write(faults.bytes.subarray(start, start + faults.stopAfter));
    return;
  }
  // How much the client has read when it hears of a break is its own business.
  response.write(faults.bytes.subarray(start, stop), () => (stop <= end
    ? setTimeout(() => response.destroy(), 100) : response.end()));
}

/** What the page knows before a step: the package, the model's address, and a load that tells. */
const prelude = (url) => `
  const { OneKV } = await import('/dist/src/onekv.js');
  const url = ${JSON.stringify(url)};
  const load = async (options = {}, source = url) => {
    try {
      const model = await OneKV.load(source, { threads: 1, ...options });
      const session = await model.createSession();
      const text = await session.prompt('Once', { maxTokens: 3 });
      const { notes } = model.engine;
      await model.unload();
      return { text, notes };
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message };
    }
  };
  const first = async () => (await OneKV.models.list())[0];
`;

const steps = {
  first: 'const loaded = await load(); return { loaded, entry: await first() };',
  again: 'return load();',
  estimate: `const { fileBytes, bytesPerToken } = await OneKV.estimate(url);
    return { fileBytes, bytesPerToken };`,
  remove: 'return [await OneKV.models.delete(url), await OneKV.models.list()];',
  checked: `return { loaded: await load({ integrity: '${digest}' }), entry: await first() };`,
  abort: `const controller = new AbortController();
    const failed = await load({ signal: controller.signal, monitor: (m) => m.addEventListener(
      'downloadprogress', ({ loaded }) => { if (loaded > 2_200_000) controller.abort(); }) });
    return { failed, entry: await first() };`,
  fullStore: `const values = new Map();
    const store = {
      get: async (key) => values.get(key),
      put: async (key, value) => {
        if (key.endsWith('-00001')) throw new DOMException('full', 'QuotaExceededError');
        values.set(key, value);
      },
      delete: async (key) => { values.delete(key); },
      keys: async () => [...values.keys()],
    };
    return { loaded: await load({ store }), kept: values.size };`,
  persist: 'return load({ persist: true });',
};

function reset(more = {}) {
  faults = { bytes: file, down: false, breakAfter: [], ...more };
  asked.length = 0;
}

const assertRuns = (loaded) => assert.equal(loaded.text?.length > 0, true,
  JSON.stringify(loaded));

async function testOffline({ step, reopen }, { kind, reload }) {
  reset();
  assert.deepEqual(await step('estimate'), { fileBytes: file.length, bytesPerToken: 512 });
  assert.deepEqual(asked.splice(0), ['bytes=0-1048575']);
  const { loaded, entry } = await step('first');
  assertRuns(loaded);
  const fallback = loaded.notes.some((note) => note.includes('cache-api is used'));
  assert.equal(fallback, kind === 'cache-api');
  assert.equal(entry.complete, true);
  assert.equal(entry.sha256, digest);
  reset({ down: true });
  assertRuns(await step('again'));
  assert.equal((await step('estimate')).fileBytes, file.length);
  if (reload) await reopen();
  assertRuns(await step('again'));
  assert.deepEqual(asked, []);
  assert.deepEqual(await step('remove'), [true, []]);
  assert.equal((await step('again')).code, 'SOURCE_FAILED');
}

async function testBroken({ step }) {
  reset({ breakAfter: [2_500_000] });
  const { loaded, entry } = await step('checked');
  assertRuns(loaded);
  assert.equal(entry.complete, true);
  assert.equal(asked[0], 'bytes=0-');
  // How much came through before the break is the browser's business.
  assert.match(asked[1], /^bytes=\d+-$/);
  await step('remove');
}

async function testAborted({ step }) {
  reset({ stopAfter: 2_500_000 });
  const { failed, entry } = await step('abort');
  assert.equal(failed.name, 'AbortError', JSON.stringify(failed));
  assert.equal(entry.complete, false);
  assert.equal(entry.bytes, partBytes);
  reset();
  const { loaded, entry: whole } = await step('checked');
  assertRuns(loaded);
  assert.deepEqual(asked, [`bytes=${partBytes}-`]);
  assert.equal(whole.complete, true);
  await step('remove');
}

async function testWrongByte({ step }) {
  reset({ bytes: Buffer.from(file) });
  faults.bytes[1_000_000] ^= 1;
  const { loaded, entry } = await step('checked');
  assert.equal(loaded.code, 'INTEGRITY_FAILED', JSON.stringify(loaded));
  assert.equal(entry ?? null, null);
}

async function testFull({ step, driver, origin }) {
  reset();
  const { loaded, kept } = await step('fullStore');
  assertRuns(loaded);
  assert.match(loaded.notes.join('\n'), /^store: the model was not stored: no room is left/m);
  assert.equal(kept, 0);
  assertRuns(await step('persist'));
  await step('remove');
  // Only Chromium lets a test say how much room there is.
  if (driver.name !== 'chromium') return;
  const session = await driver.page.context().newCDPSession(driver.page);
  await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 3_000_000 });
  const { loaded: tight, entry } = await step('first');
  await session.send('Storage.overrideQuotaForOrigin', { origin });
  assertRuns(tight);
  assert.match(tight.notes.join('\n'), /^store: the model was not stored: no room is left/m);
  assert.equal(entry ?? null, null);
}

const tests = {
  'what was loaded once is there without the network': testOffline,
  'a download that breaks off goes on by range': testBroken,
  'an aborted download goes on at the next load': testAborted,
  'a wrong byte is found and not kept': testWrongByte,
  'a full store is told of, and the model runs': testFull,
};

/** Starts the servers and a browser with its page; `on` is for the tests. */
async function open(name) {
  reset();
  const server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const url = `http://127.0.0.1:${server.address().port}/model.gguf`;
  const page = await serve({ mounts: { '/': join(root, 'tests/browser/page'),
    '/dist/': join(root, 'dist') } });
  const driver = await launch(name);
  // The first look keeps the store open: private windows of WebKit forget it when no one does.
  const reopen = async () => {
    await driver.open(`${page.origin}/empty.html?${performance.now()}`);
    await driver.evaluate(
      "import('/dist/src/onekv.js').then(({ OneKV }) => OneKV.models.list())");
  };
  await reopen();
  return {
    driver, reopen, origin: page.origin,
    step: (which) => driver.evaluate(`(async () => { ${prelude(url)} ${steps[which]} })()`),
    close: async () => {
      await driver.close();
      await page.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

// Private windows of WebKit keep nothing beyond the page, and the driver has no others.
const browsers = {
  chromium: { kind: 'opfs', reload: true },
  firefox: { kind: 'opfs', reload: true },
  webkit: { kind: 'cache-api', reload: false },
};
for (const [name, expected] of Object.entries(browsers)) {
  describe(name, () => {
    let on;
    before(async () => { on = await open(name); }, limit);
    after(() => on?.close());
    for (const [what, run] of Object.entries(tests)) {
      test(`${name}: ${what}`, limit, () => run(on, expected));
    }
  });
}
