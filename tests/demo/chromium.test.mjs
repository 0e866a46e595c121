// The demo page in Chromium: what all browsers go through, and what only one need prove: rules of
// accessibility, widths, hosts without headers, no network, no WebAssembly, an hour of writing.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { testDemo } from './suite.mjs';
import { servePage, visit } from './visitor.mjs';

const limit = { timeout: 240_000 };
// ONEKV_LONG=10000 writes the whole length of the page's menu, which takes minutes.
const duetDone = "document.querySelector('#duet').dataset.state === 'done'";
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds against the page as it is now, as lines. */
async function violations(page) {
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  return found.violations.flatMap(({ id, nodes }) => nodes.map((node) =>
    `${id}: ${node.target.join(' ')}: ${node.failureSummary}`));
}

testDemo('chromium', (person) => {
  test('chromium: no rule of accessibility is broken', limit, async () => {
    const { page } = person();
    await page.evaluate(axe);
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [390, 1360]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        assert.deepEqual(await violations(page), [], `${colorScheme}, ${width} px`);
      }
    }
    await page.emulateMedia({ colorScheme: 'light', contrast: 'more' });
    assert.deepEqual(await violations(page), [], 'high contrast');
    await page.emulateMedia({ colorScheme: null, contrast: null });
  });

  test('chromium: nothing is wider than the screen', limit, async () => {
    const { page } = person();
    for (const width of [320, 390, 820, 1360]) {
      await page.setViewportSize({ width, height: 900 });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
        `${width} px`);
    }
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  test('chromium: the keyboard alone runs both models', limit, async () => {
    const { page } = person();
    await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
    await page.focus('#prompt');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'run');
    const runs = await person().evaluate('onekvDemo.duet.runs');
    await page.keyboard.press('Enter');
    await person().until(`onekvDemo.duet.runs > ${runs} && ${duetDone}`);
  });

  const long = Number(process.env.ONEKV_LONG ?? 2200);
  test(`chromium: ${long} tokens take no more memory than a window`, limit, async () => {
    const one = person();
    await one.page.selectOption('#length', '10000');
    await one.click('#run');
    const heaps = `Promise.all(['one', 'std'].map(async (side) =>
      (await onekvDemo.duet[side].model.memory()).peak))`;
    const written = 'Math.min(...["one", "std"].map((side) => onekvDemo.duet[side].pane.count))';
    // The window has slid once: all pages that will ever be taken are taken.
    await one.until(`${written} > 1200`, 120_000);
    const early = await one.evaluate(heaps);
    await one.until(`${written} >= ${Math.min(long, 10_000)}`, 200_000);
    assert.deepEqual(await one.evaluate(heaps), early);
    if (long < 10_000) await one.click('#stop');
    await one.until(duetDone);
    assert.equal(await one.text('.ratio-number'), '32');
    assert.ok(await one.evaluate('onekvDemo.duet.one.pane.text.length') < 16_000);
    assert.ok(await one.evaluate('onekvDemo.duet.meter.plot.points') <= 600);
  });
});

test('chromium: a host without headers, at any path, then no network', limit, async () => {
  const host = { path: '/some/where/', isolated: false };
  let page = await servePage(host);
  const port = Number(new URL(page.origin).port);
  const person = await visit('chromium');
  try {
    await person.come(page.address);
    await person.until('crossOriginIsolated && Boolean(globalThis.onekvDemo)');
    await page.close();
    await person.click('#run');
    assert.match(await person.until(
      "document.querySelector('#pane-one .error')?.textContent"), /Is there a network/);
    page = await servePage({ ...host, port });
    await person.come(page.address);
    await person.click('#run');
    await person.until(duetDone);
    assert.match(await person.text('#engine-note'), /SIMD, \d+ thread/);
    await page.close();
    await person.come(page.address);
    await person.click('#run');
    await person.until(`${duetDone} && document.querySelector('.story .error') === null`);
    assert.equal(await person.text('.ratio-number'), '32');
    assert.match(await person.text('.ratio-says'), /measured/);
  } finally {
    await person.close();
    await page.close();
  }
});

test('chromium: without WebAssembly the page says so', limit, async () => {
  const page = await servePage();
  const person = await visit('chromium', { args: ['--js-flags=--jitless'] });
  try {
    await person.come(page.address);
    await person.click('#run');
    assert.match(await person.until("document.querySelector('#pane-one .error')?.textContent"),
      /no WebAssembly/);
  } finally {
    await person.close();
    await page.close();
  }
});
