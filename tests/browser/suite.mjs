// The tests that every browser goes through, on an isolated page, on one that is not, and under a
// strict content security policy. What Node says to the same job is the measure.
//
// One browser with one page serves all tests of a file, one after the other: a fresh load of the
// page is a fresh worker, module and memory.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { modelFolder, named } from '../../models/fetch/fetch.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';
import { fetchOrSkip, judgedText } from '../node/recorded.mjs';
import { makeSite } from './bundle.mjs';
import { recorded } from './page/tools.mjs';
import { launch } from './drivers.mjs';
import { chat, distance, golden, goldenLogits, inNode, smollm, story } from './jobs.mjs';
import { serve } from './server.mjs';

const sites = {
  isolated: { isolated: true },
  'not isolated': {},
  'isolated, strict policy': { isolated: true, strict: true },
  'not isolated, strict policy': { strict: true },
};
/** Threads that are allowed, asked for, and never come. */
const refusing = 'isolated, but no workers in the worker';

// Many times what the slowest job takes on a quiet machine; a test has one job or two short ones.
const jobTimeout = 240_000;
const limit = { timeout: 2 * jobTimeout };
// A first run downloads the model, which has limits of its own.
const downloadLimit = { timeout: 20 * 60_000 };
const caller = 'qwen2.5-coder-0.5b-instruct';
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Opens the page with a job and waits for its report; stops waiting when `late` was aborted. */
async function readReport(driver, address, late) {
  await driver.open(address);
  for (let text = ''; ; await pause(50)) {
    late.throwIfAborted();
    text = await driver.text('#report');
    if (text) return JSON.parse(text);
  }
}

/**
 * Runs a job in the page and gives its report. The error of one that does not end tells all; then
 * the browser hangs, so the jobs after it fail at once instead of waiting as long.
 */
async function inPage(driver, origin, job) {
  if (driver.hangs) throw new Error(`${driver.name} hung in an earlier test`);
  const from = driver.log.length;
  // A policy against all images is also one against the icon that browsers ask for unasked.
  const told = () => driver.log.slice(from).filter((line) => !/favicon\.ico/.test(line)).join('\n');
  const address = `${origin}/?job=${encodeURIComponent(JSON.stringify(job))}`;
  const late = AbortSignal.timeout(jobTimeout);
  const aborted = new Promise((resolve) => { late.onabort = () => resolve(undefined); });
  const report = await Promise.race([readReport(driver, address, late), aborted]);
  if (report) return { ...report, told: told() };
  driver.hangs = true;
  const state = await Promise.race([driver.text('#state'), pause(1000)]);
  throw new Error(`${driver.name}: no report from ${address} within ${jobTimeout} ms; the page ` +
    `says: ${state ?? 'nothing'}\n${told()}`);
}

/**
 * The job succeeded without any error beside it. A failed request is none by itself: now and then
 * Chromium calls one aborted whose last byte was read before it saw the end.
 */
function assertClean(report) {
  assert.equal(report.error, undefined, report.told);
  assert.deepEqual(report.troubles, []);
  assert.doesNotMatch(report.told, /page error|console (error|warn)|crashed/);
}

/** The engine chose what this browser can do on such a page, and said why where it is less. */
function assertEngine(report, { relaxed, threads }, { isolated = false }) {
  assert.equal(report.isolated, isolated);
  assert.equal(report.simd, relaxed ? 'relaxed' : 'simd128');
  const notes = report.notes.join('\n');
  if (!relaxed) assert.match(notes, /^simd128: /m);
  if (threads && isolated) return;
  assert.equal(report.threads, 1);
  assert.match(notes, /^1 thread: ./m);
}

async function testGolden(visit, abilities, site) {
  const report = await visit(golden, { threads: 2 });
  assertClean(report);
  assertEngine(report, abilities, site);
  assert.equal(report.threads, abilities.threads && site.isolated ? 2 : 1);
  const off = distance(report.logits, goldenLogits);
  assert.ok(off < 1e-4, `the logits are off by ${off}`);
  // The same instructions: even a near-tie must be called alike.
  const node = await inNode({ ...golden, engine: { simd: report.simd } });
  assert.deepEqual(report.ids, node.ids);
}

async function testStory(visit, abilities, site) {
  const report = await visit(story, {});
  assertClean(report);
  assertEngine(report, abilities, site);
  if (abilities.threads && site.isolated && availableParallelism() > 1) {
    assert.ok(report.threads > 1, `${report.threads} threads of their own accord`);
  }
  assert.equal(report.text, (await inNode(story)).text);
}

async function testSimd128(visit) {
  const report = await visit(story, { simd: 'simd128' });
  assertClean(report);
  assert.equal(report.simd, 'simd128');
  assert.equal(report.text, (await inNode(story)).text);
}

async function testNoWorkers(visit) {
  // The worker may start none; the page, which does it in Firefox, finds no script for them.
  const report = await visit({ ...story, threadUrl: 'src/none.js' }, { threads: 2 });
  assert.equal(report.error, undefined, report.told);
  assert.equal(report.threads, 1);
  assert.match(report.notes.join(), /^1 of 2 threads: the script of the others could not be load/);
  const others = report.troubles.filter((text) => !text.startsWith('policy: worker-src'));
  assert.deepEqual(others, []);
  const told = report.told.split('\n').filter((line) => !line.includes('src/none.js'));
  assert.doesNotMatch(told.join(), /page error|crashed/);
  assert.equal(report.text, (await inNode(story)).text);
}

async function testRefused(visit) {
  for (const [model, code] of [['/golden/index.json', 'NOT_GGUF'],
    ['/golden/no-such-model.gguf', 'SOURCE_FAILED']]) {
    const report = await visit({ model, tokens: 1 }, {});
    assert.equal(report.code, code, report.error);
    assert.deepEqual(report.troubles, []);
  }
}

/** Whether the file is there; else the test is skipped with the reason why it cannot be had. */
async function isFetched(t, name) {
  const { skip } = await fetchOrSkip(name);
  if (skip) t.skip(skip);
  return skip === undefined;
}

/** The page says what llama.cpp said: the longest of the recorded texts and, where that is short,
 * a perplexity (tests/node/real.test.mjs has those of all). */
async function testReal(visit, real) {
  const { recorded } = real;
  const one = recorded.prompts.at(-1);
  const isLong = one.prompt_ids.length > 500;
  const report = await visit({
    model: `/fetched/${recorded.file}`, prompt: one.prompt, special: true, tokens: one.ids.length,
    ...(isLong ? {} : { judged: judgedText(real) }), arithmetic: 'int16', contextWindow: 1280,
  }, {});
  assertClean(report);
  assert.ok(report.ids.length >= 24);
  assert.deepEqual(report.ids, one.ids.slice(0, report.ids.length));
  if (isLong) return;
  const relative = Math.abs(report.perplexity / recorded.perplexity_exact - 1);
  assert.ok(relative < 2e-3, `${report.perplexity}, llama.cpp ${recorded.perplexity_exact}`);
}

/** Calls of tools and answers to their results are the recorded ones. */
async function testTools(visit) {
  const report = await visit({ tools: `/fetched/${named[caller].file}` }, {});
  assert.equal(report.error, undefined, `${report.error}\n${report.told}`);
  assert.deepEqual(report.troubles, []);
  assert.deepEqual(report.record, recorded);
}

async function testChat(visit, abilities, site) {
  const report = await visit(chat, {});
  assertClean(report);
  assertEngine(report, abilities, site);
  assert.match(report.text, /Paris/);
  assert.equal(report.text, (await inNode({ ...chat, engine: { simd: report.simd } })).text);
}

/** On the strictest page everything, on the others what depends on them. */
const apiSteps = {
  'isolated, strict policy': ['sessions', 'bytes', 'aborts', 'snapshots', 'batches', 'shared',
    'long', 'facades', 'sources', 'image', 'two', 'deaths'],
  'not isolated': ['sessions', 'two', 'deaths'],
};

/** Each step asserts by itself in the page; text and engine are compared here. */
async function testApi(t, visit, { relaxed, threads }, site, steps) {
  const report = await visit({ api: steps }, {});
  assert.equal(report.error, undefined, `${report.error}\n${report.told}`);
  assert.deepEqual(report.troubles, []);
  assert.deepEqual(report.done, steps);
  assert.equal(report.isolated, site.isolated === true);
  const { availability, text } = report;
  assert.equal(availability.simd.value, relaxed ? 'relaxed' : 'simd128');
  const hasThreads = threads && site.isolated === true;
  assert.equal(availability.threads.value > 1, hasThreads && availableParallelism() > 1);
  assert.equal(availability.threads.reason === undefined, hasThreads);
  assert.equal(availability.available.value, true);
  assert.equal(availability.isolated.reason === undefined, site.isolated === true);
  assert.ok(availability.memoryBytes.value >= 2 ** 28);
  const { store } = availability;
  assert.equal(store.reason === undefined, store.value === 'opfs', JSON.stringify(store));
  assert.equal(text, (await inNode({ ...story, tokens: 30 })).text);
  const { saveMs, saveBytes } = report;
  if (saveMs !== undefined) t.diagnostic(`saving ${saveBytes} bytes took ${saveMs.toFixed(1)} ms`);
  // WebKit's driver does not tell of the console.
  const warnings = [...report.told.matchAll(/console warn[^\n]*OneKV: ([^\n]*)/g)];
  if (report.told !== '') assert.equal(warnings.length, hasThreads ? 0 : 1, report.told);
}

/** Starts servers and browser; gives visit(where) for the tests, which does a job on that site. */
function setUp(name) {
  let driver;
  const served = {};
  before(async () => {
    const mounts = await makeSite(modelFolder);
    for (const [where, site] of Object.entries(sites)) {
      served[where] = await serve({ mounts, ...site });
    }
    served[refusing] = await serve({ mounts, isolated: true, alone: '/src/' });
    driver = await launch(name);
    console.log(`${name}: ${driver.version}`);
  }, limit);
  after(async () => {
    // A browser that does not end would keep this process; its exit ends the browser.
    setTimeout(() => process.exit(1), 30_000).unref();
    await driver?.close();
    await Promise.all(Object.values(served).map((server) => server.close()));
  });
  return {
    on: (where) => (job, engine) => inPage(driver, served[where].origin, { ...job, engine }),
    screenshot: (file) => driver.screenshot(file),
  };
}

/**
 * Defines the tests of one browser. Abilities: relaxed (relaxed SIMD), threads (on an isolated
 * page). What is expected of the engine follows from them. realFiles: large ones that it is to read
 * too (recorded.mjs).
 */
export function testBrowser(name, abilities, realFiles = []) {
  const { on, screenshot } = setUp(name);
  for (const [where, site] of Object.entries(sites)) {
    test(`${name}, ${where}: logits of a golden model`, limit, () =>
      testGolden(on(where), abilities, site));
    test(`${name}, ${where}: a story, word for word as in Node`, limit, () =>
      testStory(on(where), abilities, site));
  }
  for (const where of Object.keys(apiSteps)) {
    test(`${name}, ${where}: the public API`, limit, (t) =>
      testApi(t, on(where), abilities, sites[where], apiSteps[where]));
  }
  test(`${name}: simd128 on request tells the same story`, limit, () =>
    testSimd128(on('isolated')));
  if (abilities.threads) {
    test(`${name}: one thread where no more can be started`, limit, () =>
      testNoWorkers(on(refusing)));
  }
  test(`${name}: what is not a model is refused with a reason`, limit, () =>
    testRefused(on('isolated')));
  test(`${name}: SmolLM2 answers as in Node`, downloadLimit, async (t) => {
    if (await isFetched(t, smollm)) await testChat(on('isolated'), abilities, sites.isolated);
  });
  for (const real of realFiles) {
    test(`${name}: ${real.title} says what llama.cpp says`, downloadLimit, async (t) => {
      if (await isFetched(t, real.model)) await testReal(on('isolated'), real);
    });
  }
  if (realFiles.length > 0) {
    test(`${name}: a small model calls a weather tool and a calculator`, downloadLimit,
      async (t) => {
        if (await isFetched(t, caller)) await testTools(on('isolated, strict policy'));
      });
  }
  // A picture of the last page, to see what the browser showed.
  test(`${name}: the page can be looked at`, limit, async () => {
    mkdirSync(join(root, 'build/browser'), { recursive: true });
    await screenshot(join(root, `build/browser/${name}.png`));
  });
}
