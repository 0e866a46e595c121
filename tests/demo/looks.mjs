// How the page looks and feels, in every browser: rules of accessibility, widths, keyboard, the
// list of sections on a phone, what a person has set in the system.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { servePage, visit } from './visitor.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const phone = [390, 844];
const desktop = [1280, 900];
export const duetDone = "document.querySelector('#duet').dataset.state === 'done'";

/** What axe-core finds against the page as it is now, as lines. */
export async function violations(person) {
  if (!await person.evaluate('Boolean(globalThis.axe)')) {
    await person.evaluate(`(() => { ${axe}; return true; })()`);
  }
  // The header sticks to the top, and axe takes what is behind it for too small to be hit.
  await person.evaluate("scrollTo({ top: 0, behavior: 'instant' })");
  return person.evaluate(`axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa',
    'wcag22aa', 'best-practice'] }).then(({ violations }) => violations.flatMap(({ id, nodes }) =>
      nodes.map((node) => id + ': ' + node.target.join(' ') + ': ' + node.failureSummary)))`);
}

/** The page's own switch of colours, as often as it takes. */
async function choose(person, theme) {
  for (let i = 0; i < 3; i += 1) {
    if (await person.evaluate("document.querySelector('#theme').dataset.theme") === theme) return;
    await person.click('#theme');
  }
  assert.fail(`no ${theme}`);
}

/** What the Tab key stops at, by section: a group of radio buttons is one stop. */
export const tabStops = (person) => person.evaluate(`Object.fromEntries(
  [...document.querySelectorAll('section')].map((section) => [section.id, new Set(
    [...section.querySelectorAll('a[href], button:enabled, input:enabled, select:enabled, ' +
      'summary, [tabindex="0"]')].filter((element) => element.checkVisibility())
      .map((element, i) => (element.type === 'radio' ? element.name : i))).size]))`);

export async function testAccessibility(person) {
  // The paper's tables are open by now.
  for (const [section, count] of Object.entries(await tabStops(person))) {
    assert.ok(count <= (section === 'paper' ? 30 : 16), `${section}: ${count} tab stops`);
  }
  for (const [theme, size] of [['light', desktop], ['dark', phone]]) {
    await choose(person, theme);
    await person.resize(...size);
    assert.deepEqual(await violations(person), [], `${theme}, ${size[0]} px`);
  }
  await choose(person, 'auto');
}

export async function testWidths(person) {
  for (const width of [320, 390, 820, 1280]) {
    await person.resize(width, 900);
    const inner = await person.evaluate('innerWidth');
    assert.ok(inner < 460 || Math.abs(inner - width) < 20, `it is ${inner} px wide, not ${width}`);
    // The chart follows a moment later.
    await person.until('document.documentElement.scrollWidth <= innerWidth');
    if (inner >= 390) assert.ok(await person.evaluate(areWhole('document')), `${inner} px`);
  }
  await person.resize(...desktop);
}

/** What has to be seen whole on a phone, without moving it sideways. */
const tables = '#paper .scroll, #budget .scroll';
const areWhole = (page) => `[...${page}.querySelectorAll('${tables}')].every(
  ({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)`;

/** The same for widths that the browser does not give its windows: in a frame. */
export async function testNarrow(name) {
  const page = await servePage({ framed: true });
  const person = await visit(name);
  try {
    await person.open(`${page.origin}/frame/`);
    const frame = "document.querySelector('#frame')";
    await person.until(`Boolean(${frame}?.contentWindow?.onekvDemo)`);
    for (const width of [320, 390]) {
      await person.evaluate(`(() => { ${frame}.width = ${width}; })()`);
      await person.until(`${frame}.contentWindow.innerWidth === ${width}`);
      await person.until(`${frame}.contentDocument.documentElement.scrollWidth === ${width}`);
    }
    assert.equal(await person.evaluate(
      `${frame}.contentDocument.querySelectorAll('${tables}').length > 3`), true);
    assert.equal(await person.evaluate(areWhole(`${frame}.contentDocument`)), true);
  } finally {
    await person.close();
    await page.close();
  }
}

const isShown = (selector) => `(() => {
  const element = document.querySelector('${selector}');
  return element.checkVisibility() && element.getClientRects().length > 0;
})()`;
const active = 'document.activeElement?.getAttribute("href") ?? document.activeElement?.id';

/** By keyboard: Enter opens, Tab goes in, Enter chooses, and what was chosen is seen. */
export async function testSections(person) {
  assert.equal(await person.evaluate(isShown('#menu')), false, 'a line of links has no button');
  assert.equal(await person.evaluate(isShown('#sections a')), true);
  await person.resize(...phone);
  assert.equal(await person.evaluate(isShown('#sections a')), false);
  await person.click('#menu');
  await person.until(isShown('#sections a'));
  await person.press('Escape');
  await person.until(`!${isShown('#sections a')}`);
  await person.evaluate("document.querySelector('#menu').focus()");
  await person.press('Enter');
  await person.until(isShown('#sections a'));
  await person.press('Tab');
  assert.equal(await person.evaluate(active), '#layer');
  await person.press('Tab');
  await person.press('Enter');
  await person.until(`location.hash === '#budget' && !${isShown('#sections a')}`);
  const top = "document.querySelector('#budget-title').getBoundingClientRect().top";
  const header = "document.querySelector('.masthead').getBoundingClientRect().bottom";
  await person.until(`${top} >= ${header} && ${top} < innerHeight / 2`);
  await person.click('#menu');
  await person.click('#sections a[href="#paper"]');
  await person.until(`location.hash === '#paper' && !${isShown('#sections a')}`);
  await person.resize(...desktop);
}

export async function testKeyboard(person) {
  await person.evaluate('document.activeElement?.blur(), scrollTo(0, 0)');
  await person.evaluate("document.querySelector('#prompt').focus()");
  await person.press('Tab');
  assert.equal(await person.evaluate(active), 'run');
  const runs = await person.evaluate('onekvDemo.duet.runs');
  await person.press('Enter');
  await person.until(`onekvDemo.duet.runs > ${runs} && ${duetDone}`);
}

/** On a phone the stories are seen coming, though the button is a screen above them. */
export async function testPhone(person) {
  await person.resize(390, 800);
  await person.evaluate("scrollTo({ top: 0, behavior: 'instant' })");
  await person.click('#run');
  await person.until(`onekvDemo.duet.one.pane.count > 0 && ['one', 'std'].every((side) => {
    const { top, bottom } = document.querySelector('#pane-' + side + ' .story')
      .getBoundingClientRect();
    return top > 0 && bottom <= innerHeight + 1;
  })`);
  await person.until(duetDone);
  await person.resize(...desktop);
}

/** What makes each browser take the system's settings for others. */
function systemSettings(name) {
  if (name === 'firefox') {
    return { prefs: { 'ui.prefersReducedMotion': 1, 'browser.display.document_color_use': 2 } };
  }
  if (name !== 'webkit') return {};
  const folder = mkdtempSync(join(tmpdir(), 'onekv-gtk-'));
  for (const version of ['gtk-3.0', 'gtk-4.0']) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, 'settings.ini'),
      '[Settings]\ngtk-enable-animations=0\ngtk-theme-name=HighContrast\n');
  }
  return { env: { XDG_CONFIG_HOME: folder }, done: () => rmSync(folder, { recursive: true }) };
}

const media = (query) => `matchMedia('(${query})').matches`;
const ground = (selector) =>
  `getComputedStyle(document.querySelector('${selector}')).backgroundColor`;

/** Reduced motion, and colours of the system's own where the browser can be told. */
export async function testSystem(name) {
  const { done, ...options } = systemSettings(name);
  const page = await servePage();
  const person = await visit(name, options);
  try {
    await person.page?.emulateMedia({ reducedMotion: 'reduce', forcedColors: 'active' });
    await person.come(page.address);
    assert.equal(await person.evaluate(media('prefers-reduced-motion: reduce')), true);
    assert.equal(await person.evaluate("document.querySelector('#paper').scrollIntoView(), " +
      "Math.round(document.querySelector('#paper').getBoundingClientRect().top) < innerHeight"),
    true, 'it is there at once');
    await person.click('#run');
    await person.until('onekvDemo.duet.one.pane.count > 10');
    assert.equal(await person.evaluate('document.getAnimations().length'), 0);
    await person.until(duetDone);
    assert.equal(await person.evaluate('document.getAnimations().length'), 0);
    if (name === 'webkit') return;
    assert.equal(await person.evaluate(media('forced-colors: active')), true);
    for (const [full, empty] of [['.cells .full', '.one .cells i:not(.full)'],
      ['#settings input:checked + span', '#settings input:not(:checked) + span']]) {
      assert.notEqual(await person.evaluate(ground(full)), await person.evaluate(ground(empty)),
        `${full} is told from ${empty}`);
    }
    assert.deepEqual(await violations(person), []);
  } finally {
    await person.close();
    await page.close();
    done?.();
  }
}
