// One model for two real tabs: which of them runs it, and what is left when that one is killed.
// Each load has its own worker otherwise, so the requests for the worker's script count the models.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';
import { tabWork } from './tab-work.mjs';

// Many times what anything takes on a quiet machine.
const limit = { timeout: 240_000 };

const prelude = `
  const { OneKV } = await import('/dist/src/onekv.js');
  globalThis.tab ??= {};
  const { tab } = globalThis;
  const address = new URL('/models/stories-q-mqa.q8_0.gguf', location.href).href;
  const load = async (options = { share: true }) =>
    OneKV.load(address, { threads: 1, ...options });
  // Answers end when they are as long as they may be.
  const sampling = { temperature: 0.8, seed: 7, overflow: 'slide',
    logitBias: { 0: -Infinity } };
  const until = async (what) => {
    for (const end = performance.now() + 60_000; !(await what());) {
      if (performance.now() > end) throw new Error('waited in vain for ' + what);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const sessions = async () => (await tab.model.memory()).bySession.length;
`;

const { ended, step } = tabWork(prelude);

/** What a model of its own tells. */
const alone = `const model = await load({});
  const session = await model.createSession(sampling);
  const texts = [];
  for (const [input, maxTokens] of [['Once upon a time', 12], [' Then', 2000], [' And', 12]]) {
    texts.push(await session.prompt(input, { maxTokens }));
  }
  await model.unload();
  return texts;`;

/** Ends a tab's process where the browser has a page that does that; else the page. */
async function kill(name, tab) {
  if (name !== 'chromium') return tab.open('about:blank');
  return tab.open('chrome://crash').catch(() => {});
}

async function testShare(name, site, workers, [one, two]) {
  const [first, second, third] = await step(one, alone);
  const before = workers();
  await step(two, `tab.model = await load();
    tab.session = await tab.model.createSession(sampling);`);
  assert.equal(await step(one, `tab.model = await load();
    tab.session = await tab.model.createSession(sampling);
    return tab.session.prompt('Once upon a time', { maxTokens: 12 });`), first);
  assert.equal(workers(), before + 1, 'one model');
  assert.equal(await step(one, 'return sessions();'), 2);
  assert.equal(await step(two, 'return sessions();'), 2);

  // What the other tab's worker asks this tab, and what this tab takes back.
  assert.deepEqual(await step(one, `const twin = await tab.session.clone();
    const heard = [];
    const answer = twin.generate(' But', { maxTokens: 6,
      constraint: { allowed: () => undefined, accept: (token) => { heard.push(token); } } });
    await answer.result;
    await until(() => heard.length >= 6);
    const controller = new AbortController();
    const endless = twin.generate(' So', { signal: controller.signal });
    for await (const _ of endless) { controller.abort(); break; }
    const failure = await endless.result.catch(({ name }) => name);
    const usage = (await twin.tokens()).length === twin.contextUsage;
    await twin.destroy();
    return [heard.length, failure, usage, await sessions()];`), [6, 'AbortError', true, 2]);

  // The tab that runs the model dies in the midst of an answer.
  await step(one, `tab.parts = 0;
    const answer = tab.session.generate(' Then', { maxTokens: 2000 });
    tab.answer = answer.result;
    void (async () => {
      for await (const { token } of answer) if (token !== undefined) tab.parts += 1;
    })().catch(() => {});
    await until(() => tab.parts > 3);`);
  await kill(name, two);
  assert.ok(await step(one, 'return tab.parts;') < 2000, 'it was not over');
  const answer = await step(one, 'const { text } = await tab.answer; return [text, tab.parts];');
  assert.deepEqual(answer, [second, 2000]);
  assert.equal(await step(one, 'return tab.session.prompt(" And", { maxTokens: 12 });'), third);
  assert.equal(workers(), before + 2, 'loaded once more');
  assert.equal(await step(one, 'return sessions();'), 1);
}

/** A tab that only uses the model: its sessions go with it, and it takes over from a tab that is
 * done with the model. */
async function testGuest(site, workers, one, two) {
  const before = workers();
  await two.open(`${site.origin}/empty.html`);
  await step(two, `tab.model = await load();
    tab.session = await tab.model.createSession(sampling);
    await tab.session.append('Once upon a time');`);
  assert.equal(workers(), before);
  assert.equal(await step(one, 'return sessions();'), 2);
  await two.open('about:blank');
  await step(one, 'await until(async () => (await sessions()) === 1);');
  await two.open(`${site.origin}/empty.html`);
  await step(two, `tab.model = await load();
    tab.session = await tab.model.createSession(sampling);
    await tab.session.append('Once upon a time');`);
  assert.equal(await step(one, `await tab.model.unload();
    return tab.session.tokens().catch(({ code }) => code);`), 'DESTROYED');
  assert.ok((await step(two, "return tab.session.prompt(' there', { maxTokens: 5 });")).length > 0);
  assert.equal(workers(), before + 1);
  assert.deepEqual(await step(two, `const failure = await OneKV.load(new Blob(['x']),
      { share: true }).catch(({ code, message }) => [code, message]);
    await tab.model.unload();
    return failure;`), ['INVALID_ARGUMENT',
    'source: found Blob, expected a URL or a name on a hub, for share']);
}

for (const name of ['chromium', 'firefox', 'webkit']) {
  describe(name, () => {
    let site;
    let driver;
    let asked = 0;
    before(async () => {
      site = await serve({ mounts: { '/': join(root, 'tests/browser/page'),
        '/dist/': join(root, 'dist'), '/models/': join(root, 'models') },
      seen: (path) => { if (path.endsWith('/worker.js')) asked += 1; } });
      driver = await launch(name);
    }, limit);
    after(async () => {
      // A browser that does not end would keep this process; its exit ends the browser.
      const late = setTimeout(() => process.exit(1), 30_000);
      await driver?.close();
      await site?.close();
      clearTimeout(late);
    });
    test(`${name}: one model for two tabs`, limit, async () => {
      const tabs = [driver, await driver.newTab()];
      for (const tab of tabs) await tab.open(`${site.origin}/empty.html`);
      await testShare(name, site, () => asked, tabs);
      const next = name === 'chromium' ? await driver.newTab() : tabs[1];
      await testGuest(site, () => asked, driver, next);
    });
  });
}
