// Attention, digits, the visitor's own model, what goes wrong with it, the paper, the machine, the
// benchmark.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Unavailable, fetchModel } from '../../models/fetch/fetch.mjs';
import { randomModel } from '../../dist/src/bench/random-model.js';
import { shapedModel } from '../../dist/src/bench/shapes.js';
import { check } from '../node/schema.mjs';
import { tabStops } from './looks.mjs';
import { pair } from './pair.mjs';

const schema = JSON.parse(readFileSync(
  new URL('../../web/cli/bench/schema.json', import.meta.url), 'utf8'));

/** Keeps all texts that an element has from now on; gives the name under which they are. */
const watch = (selector) => `(() => {
  const kept = globalThis['seen ${selector}'] = [];
  const element = document.querySelector('${selector}');
  new MutationObserver(() => kept.push(element.textContent)).observe(element,
    { childList: true, characterData: true, subtree: true });
  return 'seen ${selector}';
})()`;

export async function testAttention(person, page) {
  assert.ok(!page.asked.some((path) => path.includes('table-')), 'nothing is loaded unasked');
  const seen = await person.evaluate(watch('#attention-says'));
  await person.click('#attention-run');
  await person.until("document.querySelectorAll('.map[data-mean]').length === 2");
  assert.match((await person.evaluate(`globalThis['${seen}']`)).join('|'), /Loading.*Computing …/);
  const of = (key) => person.evaluate(`[...document.querySelectorAll('.map')].map((map) =>
    Number(map.dataset.${key}))`);
  const [own, symmetric] = await of('mean');
  assert.ok(own > 0.3, `mean asymmetry ${own}`);
  assert.ok(symmetric < 1e-3, `Q=K is symmetric, found ${symmetric}`);
  // What the text beside says of the heads that were searched for is what the maps show.
  const shares = /(\d+)\s%/g;
  const promised = (await person.text('#attention-more p')).match(shares);
  const said = await person.text('#attention-says');
  assert.match(said, /^“She” looks at “Lily” \d+ %.*mutual: “Lily” \d+ %/);
  assert.deepEqual([...said.matchAll(/“Lily” (\d+) %/g)].map(([, share]) => Number(share)),
    promised.slice(0, 2).map(parseFloat));
  const means = await person.evaluate(`[...document.querySelectorAll('.map .mean')].map(
    ({ textContent }) => parseFloat(/, (\\d+) % on/.exec(textContent)[1]))`);
  assert.deepEqual(means.reverse(), promised.slice(4, 6).map(parseFloat));
  assert.equal(await person.text('.axis.down span:nth-child(9)'), 'She');
  const [before] = await of('asymmetry');
  await person.pick('#attention-head', '5');
  await person.until(`document.querySelector('.map').dataset.asymmetry !== '${before}'`);
  assert.match(await person.text('.map figcaption'), /^Layer 1, head 6, one of 48\./);
  await person.evaluate("document.querySelector('#attention-row').focus()");
  await person.press('ArrowLeft');
  assert.match(await person.text('#attention-says'), /^“\.” looks at/);
  // Any text: the story that was restored above.
  const rows = await person.evaluate("document.querySelector('#attention-row').max");
  await person.click('#attention-story');
  await person.until(`document.querySelector('#attention-row').max !== '${rows}'`);
  assert.ok((await person.evaluate('onekvDemo.travel.branches[0].text')).replace(/\s+/g, ' ')
    .startsWith(await person.evaluate("document.querySelector('#attention-text').value")));
}

export async function testDigits(person) {
  const seen = await person.evaluate(watch('.answer.one .soft:last-child'));
  await person.drag('#digit', [[120, 30], [120, 60], [120, 100], [120, 140], [120, 180],
    [120, 205]]);
  const best = "[...document.querySelectorAll('.answer')].map(({ dataset }) => dataset.best)";
  await person.until(`${best}.every(Boolean)`);
  assert.deepEqual(await person.evaluate(best), ['1', '1']);
  assert.match((await person.evaluate(`globalThis['${seen}']`)).join('|'), /Loading.*in \d+ m?s$/);
  assert.match(await person.text('#digits .said'), /no cache here/);
  const shares = await person.evaluate(`[...document.querySelectorAll('.guesses')].map((list) =>
    [...list.querySelectorAll('span')].reduce((sum, { textContent }) =>
      sum + parseFloat(textContent), 0))`);
  assert.ok(shares.every((sum) => Math.abs(sum - 100) < 2), `percent: ${shares}`);
  let right = 0;
  for (let digit = 0; digit < 10; digit += 1) {
    await person.click(`[aria-label="Draw a ${digit}"]`);
    await person.until(`${best}.every(Boolean)`);
    const answers = await person.evaluate(best);
    right += answers.filter((answer) => answer === String(digit)).length;
  }
  assert.ok(right >= 18, `${right} of 20 strokes are read right`);
}

/** No driver drops files: the event is made, with a file as a file manager would give it. */
const drop = (make) => `(async () => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([${make}], 'mine.gguf'));
  document.querySelector('#own-drop').dispatchEvent(
    new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
  return true;
})()`;

export async function testOwn(person, page) {
  const model = `${page.address}models/stories-qkv.q8_0.gguf`;
  await person.type('#own-url', model);
  await person.click('#own-inspect');
  await person.until("Boolean(document.querySelector('#own-verdict'))");
  const [one, std] = [pair.one, pair.std].map((model) =>
    `${model.perToken.f16.toLocaleString('en')} B of cache`);
  assert.match(await person.text('.facts-list'),
    new RegExp(`QKV MHA: ${pair.std.kvHeads} of ${pair.std.queryHeads} heads.*${std}`));
  assert.match(await person.text('#own-verdict'), /^It fits/);
  await person.evaluate(drop(`await (await fetch('models/stories-q-mqa.q8_0.gguf')).blob()`));
  await person.until(`/${one}/.test(document.querySelector('#own .found').textContent)`);
  await person.click('#own-load');
  await person.until("Boolean(document.querySelector('#own-say'))");
  await person.type('#own-say', 'Once upon a time');
  await person.click('#own-send');
  await person.until("document.querySelector('.log .model p')?.textContent.length > 40");
  await person.click('#own-send');
  await person.until("document.querySelector('#own-send').textContent === 'Send'");
  assert.equal(await person.text('#own .ratio-number'), String(pair.timesWithin));
  assert.match(await person.text('#own .ratio-says'), /computed/);
}

/** The header, as base64, of a model that just misses a wasm memory's 4 GiB. */
async function tooLarge() {
  const shaped = shapedModel('paper-1.2B',
    { type: 'f32', layers: 21, feedForward: 8320, vocabulary: 768 });
  const { value } = await randomModel(shaped).chunks.next();
  return Buffer.from(value).toString('base64');
}

/** A beginning that no window holds is refused in plain words, above what is shown of it. */
export async function testTooLong(person) {
  await person.evaluate(`(async () => {
    document.querySelector('#prompt').value = 'word '.repeat(6000);
    await onekvDemo.duet.run();
  })()`);
  const says = /Your text is too long: [\d,]+ tokens, at most 4,096\./;
  const error = '[...document.querySelectorAll(".stage .story > .error:first-child")][0]';
  assert.match(await person.until(`${error}?.textContent`), says);
  await person.until(`${says}.test(document.querySelector('#announcer').textContent)`);
  assert.ok(await person.evaluate(`document.querySelector('.story .given').textContent.length`) <
    1000);
  // Some drivers type behind what is there.
  await person.evaluate("document.querySelector('#prompt').value = 'Once upon a time'");
}

export async function testProblems(person, page) {
  const error = "document.querySelector('#own .found .error')?.textContent";
  await person.evaluate(drop(
    `Uint8Array.from(atob('${await tooLarge()}'), (c) => c.charCodeAt(0))`));
  assert.match(await person.until(error), /^It does not fit: .*4\.29 GB.*4\.3\d GB/);
  assert.equal(await person.count('#own-load'), 0);
  for (const [typed, says] of [['hf:org/repo', /^Names such as hf:… work in the package/],
    ['foo', /could not be read|404/]]) {
    await person.evaluate("document.querySelector('#own-url').value = ''");
    await person.type('#own-url', typed);
    await person.click('#own-inspect');
    await person.until(`${says}.test(${error})`);
  }
  // An address of the page's own server, as a script of the page would write it.
  await person.evaluate("document.querySelector('#own-url').value = ''");
  await person.type('#own-url', `${new URL(page.address).pathname}models/stories-q-mqa.q8_0.gguf`);
  await person.click('#own-inspect');
  await person.until("Boolean(document.querySelector('#own-load'))");
  await person.evaluate(drop("'this is no model at all, only text'"));
  await person.until(`/^This is not a GGUF file/.test(${error})`);
  assert.equal(await person.evaluate("document.querySelector('#own-url').value"), '');
  await person.type('#own-url', `${page.address}models/none.gguf`);
  await person.click('#own-inspect');
  assert.match(await person.until(`/404/.test(${error}) && ${error}`), /could not be read/);
  await person.evaluate(drop(
    `(await (await fetch('models/stories-q-mqa.q8_0.gguf')).blob()).slice(0, 900000)`));
  await person.until("Boolean(document.querySelector('#own-load'))");
  await person.click('#own-load');
  assert.match(await person.until(error), /ends too early|damaged/);
}

/** The model that the page suggests, as a file of this machine: looked at by its address, chosen as
 * a file, loaded, talked to. SmolLM2-135M has 30 layers of 3 KV heads for 9 queries, 64 wide. */
export async function testSuggested(person, page, context) {
  let file;
  try {
    file = await fetchModel('smollm2-135m-instruct');
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return context.skip(`SmolLM2 cannot be had from here: ${error.message}`);
  }
  const facts = "document.querySelector('.facts-list')?.textContent";
  const described = /SmolLM2.*QKV GQA-3: 3 of 9 heads.*23,040 B of cache.*69,120 B, 3×/is;
  await person.click('#own-suggested');
  assert.match(await person.until(`/23,040/.test(${facts}) && ${facts}`), described);
  assert.match(await person.text('#own-verdict'), /^It fits/);
  assert.ok(await person.evaluate(
    "document.querySelector('#own-url').value.includes('/fetched/')"), 'from this server');
  await person.choose('#own-file', file);
  await person.until(`!/23,040/.test(${facts})`, 100).catch(() => {});
  assert.match(await person.until(`/23,040/.test(${facts}) && ${facts}`), described);
  await person.click('#own-load');
  await person.until("Boolean(document.querySelector('#own-say'))", 120_000);
  await person.type('#own-say', 'Tell me a fact about the sea.');
  await person.click('#own-send');
  const said = "document.querySelector('.log .model p')?.textContent.length";
  const early = await person.until(`${said} > 0 && ${said}`, 120_000);
  await person.until(`${said} > ${early} + 20`, 120_000);
  await person.click('#own-send');
  await person.until("document.querySelector('#own-send').textContent === 'Send'");
  assert.equal(await person.text('#own .ratio-number'), '3');
  assert.match(await person.text('#own .ratio-says'), /computed/);
  const { used, tokens, standard } = await person.evaluate('onekvDemo.own.session.memory()');
  assert.deepEqual([used / tokens, standard.MHA / tokens], [23_040, 69_120]);
  assert.equal(await person.number('#own .figures tbody tr:nth-child(3) td:nth-child(2)'), 23_040);
}

/** The paper's table and charts: a caption leads to the file, which is there and says it. */
export async function testPaper(person) {
  assert.equal((await tabStops(person)).paper, 7, 'three links, and four tables to open');
  await person.evaluate(`[...document.querySelectorAll('#paper details')].forEach((details) => {
    details.open = true;
  })`);
  const rows = await person.evaluate(`[...document.querySelectorAll('.paper-table tbody tr')].map(
    (row) => [row.dataset.variant, row.querySelector('.ours small')?.textContent])`);
  assert.equal(rows.length, 8);
  assert.deepEqual([rows[0][1], rows[7][1]], ['81,920 B', '2,560 B']);
  assert.equal(await person.text('.paper-table caption a'), 'memory-paper.json');
  assert.equal(await person.evaluate("document.querySelectorAll('#paper td a').length"), 0);
  const widths = await person.evaluate(`[...document.querySelectorAll('#paper table')].map(
    (table) => Math.round(table.getBoundingClientRect().width))`);
  assert.equal(new Set(widths).size, 1, `tables are ${widths} px wide`);
  const costs = await person.evaluate(`[...document.querySelectorAll('#cost li')].map((row) =>
    [row.dataset.variant, row.querySelector('.share').textContent, row.querySelector('small')
      .textContent])`);
  assert.deepEqual(costs.at(-1).slice(0, 2), ['Q-MQA', '1/32']);
  assert.match(costs.at(-1)[2],
    /^the paper \+4\.8 %, ours \+\d+\.\d %, equal parameters \+\d+\.\d %$/);
  assert.ok(await person.evaluate("document.querySelectorAll('#peers li').length") >= 10);
  const files = await person.evaluate(`Promise.all([...new Set([...document.querySelectorAll(
    '#paper a[href^="results/"]')].map(({ href }) => href))].map(async (href) =>
      [href.split('/').at(-1), Object.keys(await (await fetch(href)).json()).length]))`);
  const names = files.map(([name]) => name);
  for (const name of ['losses.json', 'tasks.json', 'browser-firefox.json', 's-qkv-mha-1t.json']) {
    assert.ok(names.includes(name), name);
  }
  assert.ok(files.every(([, keys]) => keys > 1));
}

export async function testMachine(person) {
  await person.evaluate("document.querySelector('#machine').scrollIntoView()");
  await person.until("Boolean(document.querySelector('#abilities table'))");
  assert.match(await person.text('[data-ability="runs here"]'), /yes/);
  assert.match(await person.text('[data-ability="SIMD"]'), /relaxed|simd128/);
  assert.match(await person.text('[data-ability="threads"]'), /\d/);
  assert.match(await person.text('[data-ability="isolated"]'), /yes/);
  await person.click('#bench-run');
  await person.until("/\\d %:/.test(document.querySelector('#bench-says').textContent)");
  await person.click('#bench-run');
  assert.equal(await person.text('#bench-says'), 'Stopped.');
}

/** To its end; the file that the link gives is read where it is made. */
export async function testBench(person) {
  await person.evaluate(`(() => {
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => {
      if (blob.type === 'application/json') globalThis.benchFile = blob;
      return make.call(URL, blob);
    };
  })()`);
  await person.click('#bench-run');
  await person.until("Boolean(document.querySelector('#bench-json'))", 220_000);
  assert.match(await person.text('#bench-says'),
    /^\d+ measurements in \d+ s\. The same work, .* \d+ %:/);
  const report = JSON.parse(await person.evaluate('benchFile.text()'));
  check(report, schema);
  const suites = [...new Set(report.rows.map(({ suite }) => suite))];
  assert.deepEqual(suites.sort(), ['memory', 'speed']);
  assert.equal(await person.count('.bench-table tbody tr'), report.rows.length);
  assert.equal(await person.evaluate("document.querySelector('#bench-json').download"),
    'onekv-bench.json');
}
