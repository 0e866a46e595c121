// What every browser goes through, as a person would: click, type, draw, drop, reload.
//
// One browser, one page, one test after the other; a test may use what an earlier one left.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { testNoWebAssembly, testOneThread, testPlainHost } from './hosts.mjs';
import { duetDone, testAccessibility, testKeyboard, testPhone, testSections, testSystem,
  testWidths } from './looks.mjs';
import { testAttention, testBench, testDigits, testMachine, testOwn, testPaper, testProblems,
  testSuggested, testTooLong } from './parts.mjs';
import { bytesText, pair } from './pair.mjs';
import { servePage, visit } from './visitor.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const limit = { timeout: 600_000 };
const cell = (row, column) => `.figures tbody tr:nth-child(${row}) td:nth-child(${column})`;
/** Bytes of a token in both models. */
const perToken = (type) => [pair.one.perToken[type], pair.std.perToken[type]];
/** A page of the cache holds 32 tokens. */
const pageTokens = 32;
const pageBytes = pageTokens * pair.one.perToken.f16;

const flat = (text) => text.replace(/\s+/g, ' ').trim();

/** What the command line tells with the page's first settings, and with the page's kernels: those
 * of each level round in their own way, and a sampled story shows it. */
function toldByCli(file, simd) {
  // Node 20 has relaxed SIMD behind a flag that later ones do not know.
  const flag = '--experimental-wasm-relaxed-simd';
  const flags = simd === 'relaxed' && process.version.startsWith('v20.') ? [flag] : [];
  return execFileSync(process.execPath, [...flags, join(root, 'dist/cli/onekv.js'), 'generate',
    join(root, 'models', file), '-p', 'Once upon a time', '--seed', '1', '--temperature', '0.5',
    '--top-p', '0.95', '--max-tokens', '60', '--simd', simd, '--quiet'], { encoding: 'utf8' });
}

/** Both sides' sessions as the models themselves report them. */
const memories = `Promise.all(['one', 'std'].map(async (side) => {
  const { session, model } = onekvDemo.duet[side];
  const { bySession } = await model.memory();
  return bySession.find((entry) => entry.session === session.id);
}))`;

async function testFirstPaint(person, page) {
  await person.come(page.address);
  const { times } = pair;
  assert.match(await person.text('h1'), new RegExp(`cache, ${times.MHA}.times smaller`));
  assert.equal(await person.text('.ratio-number'), times.MHA);
  const [one, std] = perToken('f16').map((bytes) => bytes.toLocaleString('en'));
  assert.match(await person.text('.ratio-says'),
    new RegExp(`^less cache per token .*: ${one} B for ${std} B, by the files’ headers`));
  assert.match(await person.text('.plot .caption'), /computed/);
  // Another baseline, before anything has run: by the headers too.
  await person.click('input[name="baseline"][value="GQA-8"]');
  assert.equal(await person.text('.ratio-number'), times['GQA-8']);
  assert.match(await person.text('.ratio-says'), /less cache per token than QKV GQA-8.* headers/);
  await person.click('input[name="baseline"][value="MHA"]');
  assert.equal(await person.text('.ratio-number'), times.MHA);
  const [oneFull, stdFull] = perToken('f16').map((bytes) => bytesText(pair.context * bytes));
  assert.match(await person.evaluate(
    'document.querySelector("#meter .plot [role=img]").getAttribute("aria-label")'),
  new RegExp(`^Computed: ${oneFull} against ${stdFull} at `));
  assert.match(await person.text('#pane-one .kept'), /^1 vector per token and layer/);
  assert.match(await person.text('#pane-std .kept'), new RegExp(`^${pair.std.vectors} vectors`));
  assert.match(await person.text('#name-one'), /^One-tensor cache\s+Q-K=V MQA$/);
  await person.click('#settings-say summary');
  assert.match(flat(await person.text('#settings-say')), /can look back at: [\d,]+ tokens/);
  await person.click('#settings-say summary');
  assert.deepEqual(page.asked.filter((path) => path.endsWith('.gguf')), []);
}

async function testDuet(person, page) {
  await person.click('#run');
  await person.until(duetDone);
  const [one, std] = await person.evaluate(memories);
  assert.equal(await person.number(cell(1, 2)), one.used);
  assert.equal(await person.number(cell(1, 3)), std.used);
  assert.equal(await person.number(cell(2, 2)), one.tokens);
  assert.deepEqual([one.used / one.tokens, std.used / std.tokens], perToken('f16'));
  assert.equal(std.standard.MHA, std.used, 'the twin is what is counted for standard attention');
  assert.equal(await person.text('.ratio-number'), pair.times.MHA);
  assert.match(await person.text('.ratio-says'), /measured/);
  assert.equal(await person.text('.figures .projected th'),
    `At ${pair.context.toLocaleString('en')} tokens, computed`);
  assert.deepEqual([await person.text(cell(4, 2)), await person.text(cell(4, 3))],
    perToken('f16').map((bytes) => bytesText(pair.context * bytes)));
  for (const side of ['one', 'std']) {
    const simd = await person.evaluate(`onekvDemo.duet.${side}.model.engine.simd`);
    const story = flat(await person.text(`#pane-${side} .story`));
    assert.equal(story.slice(0, 120), flat(toldByCli(pair[side].file, simd)).slice(0, 120));
    assert.match(await person.text(`#pane-${side} .stats div:nth-child(1) dd`), / m?s$/);
    // The beginning's four tokens are in the cache, the last one written is not.
    const written = await person.number(`#pane-${side} .stats div:nth-child(2) dd`);
    const { tokens } = side === 'one' ? one : std;
    assert.ok(tokens >= written && tokens <= written + 5, `${written} written, ${tokens} kept`);
  }
  assert.ok(await person.evaluate('onekvDemo.duet.meter.plot.points') > 2);
  assert.equal(page.asked.filter((path) => path.endsWith('.gguf')).length >= 2, true);
}

/** A worker that the system has ended: the next run loads the model anew. */
async function testLost(person) {
  await person.evaluate(`(async () => {
    const { model } = onekvDemo.duet.one;
    await model.unload();
    model.dispatchEvent(new Event('lost'));
  })()`);
  await person.click('#run');
  await person.until(`${duetDone} && onekvDemo.duet.runs === 2`);
  assert.equal(await person.count('#duet .error'), 0);
  assert.ok(await person.evaluate('onekvDemo.duet.one.reading.tokens') > 12);
}

async function testBaselines(person) {
  assert.equal(await person.text('.plot .caption'), 'Bytes of cache over time');
  for (const name of ['GQA-8', 'GQA-4', 'MQA', 'MHA']) {
    await person.click(`input[name="baseline"][value="${name}"]`);
    assert.equal(await person.text('.ratio-number'), pair.times[name], name);
    assert.match(await person.text('.plot .caption'), /computed/, 'a run’s curve is of one');
  }
}

/** Another cache type runs both anew; Stop ends them early. */
async function testCacheTypes(person) {
  // A short story may be over before it could be stopped.
  await person.evaluate("document.querySelector('#length').value = '10000'");
  for (const type of ['f32', 'i8']) {
    await person.click(`input[name="cache"][value="${type}"]`);
    await person.until(`onekvDemo.duet.one.model?.cacheType === '${type}' &&
      onekvDemo.duet.one.reading?.tokens > 12 && onekvDemo.duet.std.reading?.tokens > 12`);
    await person.click('#stop');
    await person.until(duetDone);
    const [one, std] = await person.evaluate(memories);
    assert.deepEqual([one.used / one.tokens, std.used / std.tokens], perToken(type));
    assert.equal(await person.text('.ratio-number'), pair.times.MHA);
  }
  // Stopped before a story could begin: no progress is left standing.
  await person.evaluate(`(() => {
    document.querySelector('input[name="cache"][value="f16"]').click();
    setTimeout(() => document.querySelector('#stop').click(), 0);
  })()`);
  await person.until(`!document.querySelector('#duet progress') && ${duetDone}`);
  await person.evaluate("document.querySelector('#length').value = '240'");
}

/** Each way to attend: the bytes that are kept, and the tensor that is gone. */
async function testLayer(person) {
  for (const [name, bytes, gone] of [['QKV', '2,048 B', 0], ['Q-K=V', '1,024 B', 1],
    ['QKV MQA', '128 B', 0], ['Q-K=V MQA', '64 B', 1], ['MLA', '1,152 B', 1],
    ['Gemma’s K=V', '4,096 B', 1]]) {
    const at = await person.evaluate(`[...document.querySelectorAll('#layer-ways label')].findIndex(
      ({ textContent }) => textContent === '${name}')`);
    await person.click(`#layer-ways input[value="${at}"]`);
    assert.equal(await person.text('#layer-bytes'), bytes, name);
    assert.equal(await person.evaluate("document.querySelectorAll('.line.gone').length"), gone);
  }
  assert.equal(await person.evaluate("document.querySelectorAll('.line-k .there').length"), 4);
}

async function testBudget(person) {
  const row = (name) => `.budget-table tr[data-variant="${name}"]`;
  const pickShape = async (name) => person.pick('#budget-shape', await person.evaluate(
    `[...document.querySelectorAll('#budget-shape option')]
      .find(({ textContent }) => textContent === '${name}').value`));
  const tokens = async (name) =>
    Number(await person.evaluate(`document.querySelector('${row(name)}').dataset.tokens`));
  assert.equal(await tokens('QKV'), Math.floor(500e6 / 81_920));
  assert.equal(await tokens('Q-K=V MQA'), Math.floor(500e6 / 2_560));
  await person.click('#budget-weights');
  // With what core holds beside the weights, which changes with it.
  assert.ok(Math.abs(await tokens('QKV') - (500e6 - 327.4e6) / 81_920) < 2);
  await person.click('#budget-weights');
  // The slider by its keys, the shapes by theirs.
  await person.evaluate("document.querySelector('#budget-bytes').focus()");
  await person.press('ArrowRight');
  assert.equal(await person.text('#budget .big'), '1 GB');
  const conversations = async (name) => Number(await person.evaluate(
    `document.querySelector('${row(name)}').dataset.conversations`));
  assert.equal(await conversations('QKV'), Math.floor(1e9 / (81_920 * 2048)));
  assert.equal(await conversations('Q-K=V MQA'), Math.floor(1e9 / (2_560 * 2048)));
  for (const [shape, standard, one] of [[1, 180_224, 2_816],
    [2, ...perToken('f16').reverse()]]) {
    await person.pick('#budget-shape', String(shape));
    assert.equal(await tokens('QKV'), Math.floor(1e9 / standard));
    assert.equal(await tokens('Q-K=V MQA'), Math.floor(1e9 / one));
  }
  // A published shape: windows of 512 are full long before, then 3 of 18 layers grow.
  await pickShape('gemma-3-270m');
  assert.equal(await tokens('As published'), Math.floor(32_768 + (1e9 - 109_019_136) / 3072));
  assert.equal(await tokens('All heads'), Math.floor(32_768 + (1e9 - 436_076_544) / 12_288));
  assert.match(await person.text('#budget-says'),
    /its makers saved 3\.75 times .*; this runtime keeps 1\.07 times less than llama\.cpp\./);
  // As the list of models tells them apart.
  await pickShape('minicpm3-4b');
  assert.match(await person.text('#budget-says'),
    /llama\.cpp keeps keys and values of all heads; this runtime keeps 22\.2 times less/);
  await pickShape('smollm2-135m');
  assert.match(await person.text('#budget-says'),
    /its makers saved 3 times .*; this runtime keeps as much as llama\.cpp\./);
  await pickShape('bonsai-8b');
  assert.equal(await tokens('As published'), Math.floor(1e9 / (36 * 2 * 8 * 128 * 2)));
  await person.click('#budget-weights');
  assert.match(await person.text('#budget-says'), /^Weights in 1\.1 bits .* 1\.15 GB/);
  await person.click('#budget-weights');
}

/** Latents and windows keep less here than in llama.cpp; all others are as large. */
async function testPublished(person) {
  const says = (model) => person.text(`#published li[data-model="${model}"]`);
  assert.match(await says('minicpm3-4b'), /1\.17 GB.*22\.2× in llama\.cpp, 22\.2× for all heads/);
  assert.match(await says('gemma-3-1b'), /146 MB.*1\.07× in llama\.cpp, 4× for all heads/);
  assert.match(await says('llama-3.2-1b'), /1\.07 GB.*the same in llama\.cpp, 4× for all heads/);
  assert.match(await says('bonsai-1.7b'), /115 KB per token; the same in llama\.cpp, 2× for all/);
  assert.match(await person.text('#published .note'), /computed/);
}

async function testMany(person) {
  await person.click('#many-run');
  await person.until("/^\\d+ of \\d+$/.test(document.querySelector('#many-written').textContent)");
  await person.until("document.querySelector('#many-stop').disabled === true");
  const [at, of] = (await person.text('#many-written')).split(' of ').map(Number);
  assert.ok(at > 20 && at <= of, `${at} of ${of}`);
  const texts = await person.evaluate('onekvDemo.many.tiles.map(({ text }) => text)');
  assert.equal(texts.length, 64);
  assert.ok(texts.every((text) => text.length > 20));
  assert.ok(new Set(texts).size > 60, 'a story each');
  const bytes = await person.evaluate(`['cache', 'standard'].map((name) => Number(
    document.querySelector('#many-' + name).dataset.bytes))`);
  // More than attention saves: the prompt's pages are there once. Less than if nothing else were.
  const { timesWithin } = pair;
  assert.ok(bytes[1] / bytes[0] > timesWithin && bytes[1] / bytes[0] < 2 * timesWithin,
    String(bytes));
  assert.equal(bytes[0] % pageBytes, 0, 'whole pages');
  assert.match(await person.text('#many-split'),
    new RegExp(`^Of that, ${timesWithin} times is attention’s doing, `));
  // At the end a cell shows how its story begins.
  assert.deepEqual(await person.evaluate(`[...new Set([...document.querySelectorAll('.tile')].map(
    ({ scrollTop }) => scrollTop))]`), [0]);
  // A cell opens, and so do its neighbours; none of them is a tab stop.
  await person.click('#many .tile:nth-child(7)');
  assert.equal(await person.text('#many-reader h3'), 'Story 7 of 64');
  assert.ok((await person.text('#many-reader p')).includes(texts[6].trim().slice(0, 20)));
  await person.click('#many-reader button:nth-of-type(2)');
  assert.equal(await person.text('#many-reader h3'), 'Story 8 of 64');
  await person.click('#many-reader button:nth-of-type(3)');
  assert.equal(await person.evaluate("document.querySelector('#many-reader').open"), false);
  assert.equal(await person.evaluate("document.querySelector('#many .tile').tabIndex"), -1);
}

const longMs = 900_000;
const words = (branch) => `onekvDemo.travel.branches[${branch}].pieces`;
const travelDone = "!document.querySelector('.lanes').hasAttribute('aria-busy') && " +
  "document.querySelector('.branch .facts')?.textContent.length > 0";

async function testTravel(person) {
  await person.click('#travel-run');
  await person.until(travelDone);
  const told = await person.evaluate(words(0));
  await person.click('.branch .word:nth-of-type(42)');
  await person.until(`${travelDone} && ${words(0)}.join('') !== ${JSON.stringify(told.join(''))}`);
  const again = await person.evaluate(words(0));
  assert.deepEqual(again.slice(0, 40), told.slice(0, 40));
  assert.notDeepEqual(again, told);

  await person.click('input[name="travel-mode"][value="branch"]');
  await person.evaluate('onekvDemo.travel.branches[0].focus(60)');
  await person.press('ArrowRight');
  await person.press('Enter');
  await person.until(`onekvDemo.travel.branches.length === 2 && ${travelDone}`);
  const [origin, branch] = [await person.evaluate(words(0)), await person.evaluate(words(1))];
  assert.deepEqual(branch.slice(0, 61), origin.slice(0, 61));
  const facts = await person.evaluate(`[...document.querySelectorAll('.branch')].map((element) =>
    ({ own: Number(element.dataset.own), used: Number(element.dataset.used) }))`);
  assert.equal(facts[1].own % pageBytes, 0);
  assert.ok(facts[1].own < facts[1].used, 'it costs less than it holds');
  // As the text says: full pages before the cut are shared, the one with the cut is not.
  assert.match(await person.text('#travel-says'), /full by then are shared; .* was copied/);
  const { pages, own } = await person.evaluate(
    'onekvDemo.travel.branches[1].session.memory()');
  const before = await person.evaluate('onekvDemo.travel.branches[1].promptTokens') + 61;
  assert.equal(pages - own, Math.floor(before / pageTokens) * pageBytes);
}

async function testSave(person) {
  const saved = await person.evaluate('onekvDemo.travel.branches[0].text');
  await person.click('#travel-save');
  await person.until("/^Saved/.test(document.querySelector('#travel-says').textContent)");
  await person.evaluate('location.reload()').catch(() => {});
  await person.until("Boolean(globalThis.onekvDemo) && onekvDemo.travel.branches.length === 0 && " +
    "!document.querySelector('#travel-restore').disabled");
  await person.click('#travel-restore');
  await person.until(travelDone);
  assert.equal(await person.evaluate('onekvDemo.travel.branches[0].text'), saved);
  assert.match(await person.text('#travel-says'), /^Restored .* without computing/);
}

/** An hour's worth of writing: the faster model of the pair writes 10,000 tokens, the other as many
 * as it can meanwhile, and from the first slide of the window on no byte more is taken. In Chromium
 * that is a minute; others take many. With ONEKV_LONG=1 both write 10,000, in each browser. */
async function testLong(person) {
  const whole = process.env.ONEKV_LONG !== undefined;
  await person.pick('#length', '10000');
  await person.click('#run');
  const heaps = `Promise.all(['one', 'std'].map(async (side) =>
    (await onekvDemo.duet[side].model.memory()).peak))`;
  const written = (side, count) => `onekvDemo.duet.${side}.pane.count >= ${count}`;
  // The caches are full where the window is.
  const full = pair.context + 76;
  await person.until(`${written('one', full)} && ${written('std', full)}`, longMs);
  const early = await person.evaluate(heaps);
  // The window slides now.
  await person.until(written('one', 10_000), longMs);
  if (whole) await person.until(written('std', 10_000), longMs);
  assert.deepEqual(await person.evaluate(heaps), early);
  await person.evaluate("document.querySelector('#stop').click()");
  await person.until(duetDone);
  assert.equal(await person.text('.ratio-number'), pair.times.MHA);
  assert.ok(await person.evaluate('onekvDemo.duet.one.pane.text.length') < 8_000);
  assert.ok(await person.evaluate('onekvDemo.duet.meter.plot.points') <= 600);
  await person.pick('#length', '240');
}

/** All that the page ever asked for came from where it came from. */
async function testStrangers(person) {
  const strangers = await person.evaluate(`performance.getEntriesByType('resource')
    .map(({ name }) => name).filter((name) => !/^(blob:)?http:.{2}127/.test(name))`);
  assert.deepEqual(strangers, []);
}

/** Defines the tests of one browser; more(…) adds those that only this one can do. */
export function testDemo(name, more = () => {}) {
  let person;
  let page;
  before(async () => {
    page = await servePage();
    person = await visit(name);
  }, limit);
  after(async () => {
    // A browser that does not end would keep this process; its exit ends the browser.
    setTimeout(() => process.exit(1), 30_000).unref();
    await person?.close();
    await page?.close();
  });
  const tests = {
    'the page can be read before any model is loaded': testFirstPaint,
    'both models run, and the meter shows what they hold': testDuet,
    'a model whose worker has ended is loaded anew': testLost,
    'the baseline can be switched': testBaselines,
    'the cache type can be switched, and a run stopped': testCacheTypes,
    'a layer is drawn in each variant': testLayer,
    'a budget buys what arithmetic says': testBudget,
    'published models have their bytes': testPublished,
    'sixty-four stories share their prompt': testMany,
    'a word cuts the story, or branches it': testTravel,
    'a story is restored after a reload': testSave,
    'attention is drawn, with its asymmetry': testAttention,
    'drawn digits are read by both models': testDigits,
    'a visitor’s model is looked at, loaded and talked to': testOwn,
    'what goes wrong is said where it is seen': testProblems,
    'a beginning that is too long is refused': testTooLong,
    'the suggested model is looked at, loaded and talked to': testSuggested,
    'each row of the paper’s table leads to its file': testPaper,
    'the machine is described': testMachine,
    'the benchmark runs, and its report can be had': testBench,
    'no rule of accessibility is broken': testAccessibility,
    'nothing is wider than the screen': testWidths,
    'a phone has a list of sections, by keyboard too': testSections,
    'a phone shows the stories coming': testPhone,
    'the keyboard alone runs both models': testKeyboard,
    'thousands of tokens take no more memory than a window': testLong,
    'nothing was asked of anybody else': testStrangers,
  };
  for (const [what, work] of Object.entries(tests)) {
    const isLong = work === testLong;
    const skip = isLong && name !== 'chromium' && process.env.ONEKV_LONG === undefined &&
      'it takes many minutes there: ONEKV_LONG=1';
    test(`${name}: ${what}`, { skip, timeout: isLong ? 2 * longMs + 30_000 : limit.timeout },
      (context) => work(person, page, context));
  }
  more(() => person, () => page);
  test(`${name}: nothing went wrong unseen`, () => person.assertQuiet());
  const elsewhere = {
    'a host without headers, at any path, then no network': testPlainHost,
    'neither headers nor a service worker: one thread': testOneThread,
    'without WebAssembly the page says so': testNoWebAssembly,
    'the system’s wishes for motion and colours are followed': testSystem,
  };
  for (const [what, work] of Object.entries(elsewhere)) {
    test(`${name}: ${what}`, limit, () => work(name));
  }
}
