// Pictures of the page for the README and for whoever changes it: npm run screenshots.
//
// Every state is reached as a person reaches it, in Chromium. The first screen is taken at three
// widths in light and dark; the parts below at the widest in light and the narrowest in dark.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from '../../tests/browser/drivers.mjs';
import { serve } from '../../tests/browser/server.mjs';
import { main, root, say } from '../../wasm/toolchain/shell.mjs';
import { site } from './build.mjs';
import { policy } from './build/page-texts.mjs';

const folder = join(root, 'web/demo/screenshots');
const widths = { phone: [390, 844], tablet: [820, 1180], desktop: [1360, 900] };
const quality = 68;
const patience = { timeout: 120_000 };

/** What a person does until a part shows something, and the part that is then pictured. */
const states = {
  budget: { part: '#budget', act: async () => {} },
  many: {
    part: '#many',
    act: async (page) => {
      await page.click('#many-run');
      await page.waitForSelector('#many-run:not([disabled])', patience);
    },
  },
  travel: {
    part: '#travel',
    act: async (page) => {
      await page.click('#travel-run');
      await page.waitForSelector('.branch .facts:not(:empty)', patience);
      await page.check('input[value="branch"]');
      await page.click('.branch .word:nth-child(84)');
      await page.waitForSelector('.branch:nth-child(2) .facts:not(:empty)', patience);
      await page.waitForSelector('.lanes:not([aria-busy])', patience);
    },
  },
  attention: {
    part: '#attention',
    act: async (page) => {
      await page.click('#attention-run');
      await page.waitForSelector('.map[data-asymmetry]', patience);
    },
  },
  digits: {
    part: '#digits',
    act: async (page) => {
      await page.click('[aria-label="Draw a 3"]');
      await page.waitForSelector('.answer.std[data-best]', patience);
      await page.waitForSelector('.answer.one[data-best]', patience);
    },
  },
  paper: { part: '#paper', act: async () => {} },
  machine: {
    part: '#machine',
    act: async (page) => {
      await page.locator('#machine').scrollIntoViewIfNeeded();
      await page.waitForSelector('#abilities table', patience);
    },
  },
};

async function picture(page, name, part) {
  await page.waitForTimeout(250);
  const clip = part === undefined ? undefined : await page.locator(part).boundingBox();
  const scroll = await page.evaluate(() => scrollY);
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send('Page.captureScreenshot', {
    format: 'webp', quality, captureBeyondViewport: clip !== undefined,
    ...(clip ? { clip: { ...clip, y: clip.y + scroll, scale: 1 } } : {}),
  });
  await session.detach();
  const bytes = Buffer.from(data, 'base64');
  writeFileSync(join(folder, `${name}.webp`), bytes);
  say(`${name}.webp: ${(bytes.length / 1000).toFixed(0)} KB`);
}

async function open(browser, origin, width, colorScheme) {
  const [w, h] = widths[width];
  const context = await browser.newContext({
    viewport: { width: w, height: h }, colorScheme, reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  await page.goto(`${origin}/`);
  await page.waitForLoadState('networkidle');
  return page;
}

async function first(browser, origin, width, scheme) {
  const page = await open(browser, origin, width, scheme);
  if (width === 'desktop' && scheme === 'light') await picture(page, 'before-desktop-light');
  await page.click('#run');
  await page.waitForSelector('#duet[data-state="done"]', patience);
  await page.evaluate(() => scrollTo(0, 0));
  await picture(page, `run-${width}-${scheme}`);
  await page.context().close();
}

async function parts(browser, origin, width, scheme) {
  const page = await open(browser, origin, width, scheme);
  for (const [name, { part, act }] of Object.entries(states)) {
    await act(page);
    await picture(page, `${name}-${width}-${scheme}`, part);
  }
  await page.context().close();
}

await main(async () => {
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(folder)) rmSync(join(folder, file));
  const server = await serve({ mounts: { '/': site }, isolated: true, strict: policy });
  const driver = await launch('chromium');
  const browser = driver.page.context().browser();
  try {
    for (const width of Object.keys(widths)) {
      for (const scheme of ['light', 'dark']) await first(browser, server.origin, width, scheme);
    }
    await parts(browser, server.origin, 'desktop', 'light');
    await parts(browser, server.origin, 'phone', 'dark');
  } finally {
    await driver.close();
    await server.close();
  }
});
