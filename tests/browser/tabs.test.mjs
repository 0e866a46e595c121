// Two real tabs of one browser on one origin: they share the store and nothing else. And the
// example of a page that comes up whole without its server.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { mounts } from '../../web/examples/mounts.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';
import { tabWork } from './tab-work.mjs';

// Many times what anything takes on a quiet machine.
const limit = { timeout: 240_000 };

/** What each tab knows. An endless answer is one whose parts are counted until it is aborted. */
const prelude = `
  const { OneKV } = await import('/dist/src/onekv.js');
  globalThis.tab ??= {};
  const { tab } = globalThis;
  const load = async () => { tab.model = await OneKV.load(
    new URL('/models/stories-q-mqa.q8_0.gguf', location.href).href, { threads: 1 }); };
  const tell = async () => {
    const session = await tab.model.createSession();
    return session.prompt('Tom and Lily', { maxTokens: 12 });
  };
  const stored = async () => (await OneKV.models.list()).map(({ complete }) => complete);
`;

const { start, ended, step } = tabWork(prelude);

async function both(tabs, work) {
  for (const tab of tabs) await start(tab, work);
  return [await ended(tabs[0]), await ended(tabs[1])];
}

async function testTabs([one, two]) {
  const texts = await both([one, two], 'await load(); return tell();');
  assert.ok(texts[0].length > 20);
  assert.equal(texts[1], texts[0]);
  assert.deepEqual(await both([one, two], 'return stored();'), [[true], [true]]);

  // One writes, without an end; the other takes the file away and ends its own model.
  await step(one, `tab.parts = 0;
    tab.controller = new AbortController();
    const session = await tab.model.createSession({ overflow: 'slide',
      logitBias: { 0: -Infinity } });
    tab.answer = session.generate('Once', { signal: tab.controller.signal });
    void (async () => { for await (const _ of tab.answer) tab.parts += 1; })().catch(() => {});`);
  assert.deepEqual(await step(two, `const [{ key }] = await OneKV.models.list();
    await OneKV.models.delete(key);
    await tab.model.unload();
    return stored();`), []);
  const goesOn = `const before = tab.parts;
    while (tab.parts < before + 20) await new Promise((resolve) => setTimeout(resolve, 10));
    return stored();`;
  assert.deepEqual(await step(one, goesOn), []);

  // Loaded anew, and then this tab goes away.
  assert.equal(await step(two, 'await load(); return tell();'), texts[0]);
  await two.open('about:blank');
  assert.deepEqual(await step(one, goesOn), [true]);
  assert.equal(await step(one, `tab.controller.abort();
    return tab.answer.result.catch(({ name }) => name);`), 'AbortError');
  assert.equal(await step(one, 'return tell();'), texts[0]);
}

/** Loading from the store while the other tab deletes there: whichever is quicker, it loads. */
async function testRace([one, two]) {
  for (let round = 0; round < 3; round++) {
    await step(one, 'await load(); await tab.model.unload();');
    await start(two, `const [entry] = await OneKV.models.list();
      await OneKV.models.delete(entry.key);`);
    await start(one, `await load();
      const text = await tell();
      await tab.model.unload();
      return text;`);
    await ended(two);
    assert.ok((await ended(one)).length > 20);
  }
}

const done = async (tab) => {
  for (;;) {
    const state = await tab.text('#state');
    if (state) return state;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
};

/** Loaded once, then without a server. All that the other tab does is to hold the store open: a
 * private window of WebKit, and its driver has no others, forgets it when no page does. */
async function testOffline([one, two]) {
  const seen = [];
  const site = await serve({ mounts, isolated: true, seen: (path) => seen.push(path) });
  const address = `${site.origin}/offline/`;
  try {
    await two.open(`${site.origin}/tests/browser/page/empty.html`);
    await step(two, 'return stored();');
    await one.open(address);
    assert.equal(await done(one), 'done');
    const text = await one.text('#output');
    assert.ok(text.length > 100, text);
    assert.ok(seen.some((path) => path.endsWith('.gguf')));
    await site.close();
    await assert.rejects(fetch(address));
    await one.open(address);
    assert.equal(await done(one), 'done');
    assert.equal(await one.text('#output'), text);
    assert.equal(await one.evaluate('crossOriginIsolated'), true);
    // Workers that start at the same time all find what the service worker keeps.
    assert.equal(await one.evaluate(`import('onekv').then(async ({ OneKV }) => {
      const file = new URL('models/stories-q-mqa.q8_0.gguf', location.href);
      const models = await Promise.all([1, 2, 3].map(() => OneKV.load(file)));
      await Promise.all(models.map((model) => model.unload()));
      return models.length;
    })`), 3);
  } finally {
    await site.close();
  }
}

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let site;
    let driver;
    let tabs;
    before(async () => {
      site = await serve({ mounts: { '/': join(root, 'tests/browser/page'),
        '/dist/': join(root, 'dist'), '/models/': join(root, 'models') } });
      driver = await launch(name);
      tabs = [driver, await driver.newTab()];
      for (const tab of tabs) {
        await tab.open(`${site.origin}/empty.html`);
        // The first look keeps the store open.
        await step(tab, 'return stored();');
      }
    }, limit);
    after(async () => {
      // A browser that does not end would keep this process; its exit ends the browser.
      const late = setTimeout(() => process.exit(1), 30_000);
      await driver?.close();
      await site?.close();
      clearTimeout(late);
    });
    test(`${name}: two tabs on one store`, limit, () => testTabs(tabs));
    test(`${name}: a tab deletes what another one loads`, limit, async () => {
      await tabs[1].open(`${site.origin}/empty.html`);
      await testRace(tabs);
    });
    test(`${name}: the offline example without its server`, limit, () => testOffline(tabs));
  });
}
