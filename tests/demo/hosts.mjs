// The page where things are missing: headers, a service worker, the network, WebAssembly.
import assert from 'node:assert/strict';
import { duetDone } from './looks.mjs';
import { pair } from './pair.mjs';
import { browserEnded, servePage, visit } from './visitor.mjs';

const paneError = "document.querySelector('.story .error')?.textContent";

/** What both panes have written. */
const stories = (person) => person.evaluate(`['one', 'std'].map((side) =>
  onekvDemo.duet[side].pane.text)`);

/** A person at a page that is served like this; both go away with the work. WebKit's process
 * was seen to end by itself, in a page that did nothing yet: the visit is made once more. */
async function at(name, host, work, options) {
  try {
    await visitOnce(name, host, work, options);
  } catch (error) {
    if (!browserEnded(error)) throw error;
    await visitOnce(name, host, work, options);
  }
}

async function visitOnce(name, host, work, options) {
  const served = { page: await servePage(host) };
  const person = await visit(name, options);
  try {
    await person.come(served.page.address);
    await work(person, served);
  } finally {
    await served.page.close();
    await person.close();
  }
}

/** Where no model can be had, an error takes the place of the progress, and there is a button. */
async function testNothingToLoad(person) {
  await person.click('[aria-label="Draw a 7"]');
  assert.match(await person.until("document.querySelector('#digits .error')?.textContent"),
    /own server still answer/);
  await person.until(`[...document.querySelectorAll('.answer')].every(
    (answer) => !/Loading/.test(answer.textContent))`);
  assert.equal(await person.text('#digits .error + button'), 'Try again');
  await person.click('#many-run');
  await person.until("Boolean(document.querySelector('#many .error'))");
  assert.equal(await person.text('#many-written'), '–');
  await person.click('#attention-run');
  await person.until(
    "/own server/.test(document.querySelector('#attention-says.error')?.textContent)");
}

/** A static host at any path that sets no headers: the service worker does, and keeps the page;
 * the models are kept once they have been loaded. */
export async function testPlainHost(name) {
  const host = { path: '/some/where/', isolated: false };
  await at(name, host, async (person, served) => {
    const { address, origin } = served.page;
    await person.until('crossOriginIsolated && Boolean(globalThis.onekvDemo)');
    await served.page.close();
    await person.click('#run');
    assert.match(await person.until(paneError), /own server still answer/);
    await testNothingToLoad(person);
    served.page = await servePage({ ...host, port: Number(new URL(origin).port) });
    await person.click('#digits .error + button');
    await person.until("document.querySelector('.answer.std').dataset.best === '7'");
    assert.equal(await person.count('#digits .error'), 0);
    await person.come(address);
    await person.click('#run');
    await person.until(duetDone);
    assert.match(await person.text('#engine-note'), /SIMD, \d+ thread/);
    assert.doesNotMatch(await person.text('#engine-note'), /not isolated/);
    const told = await stories(person);
    assert.ok(told.every((story) => story.length > 60), told.join(' | '));
    await served.page.close();
    await assert.rejects(fetch(address), 'nobody answers any more');
    await person.come(address);
    assert.deepEqual(await stories(person), ['', '']);
    await person.click('#run');
    await person.until(`${duetDone} || ${paneError}`);
    const error = await person.evaluate(paneError);
    assert.ok(!error, error);
    assert.deepEqual(await stories(person), told, 'the same stories without a network');
    assert.equal(await person.text('.ratio-number'), pair.times.MHA);
    assert.match(await person.text('.ratio-says'), /measured/);
  });
}

/** Neither headers nor a service worker: one thread, and the page says so and why. */
export async function testOneThread(name) {
  await at(name, { isolated: false, worker: false }, async (person) => {
    await person.click('#run');
    await person.until(duetDone);
    assert.match(await person.text('#engine-note'), /SIMD, 1 thread each, not isolated/);
    assert.equal(await person.text('.ratio-number'), pair.times.MHA);
    await person.evaluate("document.querySelector('#machine').scrollIntoView()");
    await person.until("Boolean(document.querySelector('#abilities table'))");
    assert.match(await person.text('[data-ability="threads"]'), /^threads1\w/, 'and a reason');
    assert.match(await person.text('[data-ability="isolated"]'), /^isolatedno\w/);
  });
}

const withoutWebAssembly = {
  chromium: { args: ['--js-flags=--jitless'] },
  firefox: { prefs: { 'javascript.options.wasm': false } },
  webkit: { env: { JSC_useWasm: '0' } },
};

export async function testNoWebAssembly(name) {
  await at(name, {}, async (person) => {
    assert.equal(await person.evaluate('typeof WebAssembly'), 'undefined');
    assert.match(await person.text('h1'), new RegExp(`${pair.times.MHA}.times smaller`));
    await person.click('#run');
    assert.match(await person.until(paneError), /no WebAssembly/);
  }, withoutWebAssembly[name]);
}
