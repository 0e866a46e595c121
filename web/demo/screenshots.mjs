// Pictures of the page for the README and for those who change it: npm run screenshots.
//
// Every state at three widths, light and dark, each reached as a person reaches it, in Chromium;
// with names (npm run screenshots -- own), those only.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from '../../tests/browser/drivers.mjs';
import { serve } from '../../tests/browser/server.mjs';
import { Stop, main, root, say } from '../../wasm/toolchain/shell.mjs';
import { site } from './build.mjs';
import { policy } from './build/page-texts.mjs';

const folder = join(root, 'web/demo/screenshots');
const widths = { phone: [390, 844], tablet: [820, 1180], desktop: [1280, 900] };
const quality = 60;
const wanted = process.argv.slice(2);
const patience = { timeout: 120_000 };

/** What a person does until a part shows something, and the part that is then pictured; without
 * one, what the screen shows. */
const states = {
  before: { act: async () => {} },
  run: {
    act: async (page) => {
      await page.click('#run');
      await page.waitForSelector('#duet[data-state="done"]', patience);
    },
  },
  layer: { part: '#layer', act: async () => {} },
  budget: { part: '#budget', act: async () => {} },
  published: { part: '#published', act: async () => {} },
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
      await page.click('.branch .word:nth-child(50)');
      await page.waitForSelector('.branch:nth-child(2) .facts:not(:empty)', patience);
      await page.waitForSelector('.lanes:not([aria-busy])', patience);
    },
  },
  attention: {
    part: '#attention',
    act: async (page) => {
      await page.click('#attention-run');
      await page.waitForSelector('.map[data-map="std"][data-mean]', patience);
      await page.waitForSelector('.map[data-map="one"][data-mean]', patience);
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
  own: {
    part: '#own',
    act: async (page, origin) => {
      await page.fill('#own-url', `${origin}/models/stories-q-mqa.q8_0.gguf`);
      await page.click('#own-inspect');
      await page.click('#own-load', patience);
      await page.fill('#own-say', 'Once upon a time');
      await page.click('#own-send');
      await page.waitForSelector('#own-send:text("Send")', patience);
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
  // What sticks to the top of the screen would stand in the middle of the picture.
  await page.evaluate(() => scrollTo(0, 0));
  await page.waitForTimeout(250);
  const clip = part === undefined ? undefined : await page.locator(part).boundingBox();
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send('Page.captureScreenshot', {
    format: 'webp', quality, captureBeyondViewport: clip !== undefined,
    ...(clip ? { clip: { ...clip, scale: 1 } } : {}),
  });
  await session.detach();
  const bytes = Buffer.from(data, 'base64');
  writeFileSync(join(folder, `${name}.webp`), bytes);
  say(`${name}.webp: ${(bytes.length / 1000).toFixed(0)} KB`);
}

async function tour(browser, origin, width, colorScheme) {
  const [w, h] = widths[width];
  const context = await browser.newContext({
    viewport: { width: w, height: h }, colorScheme, reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  await page.goto(`${origin}/`);
  await page.waitForLoadState('networkidle');
  for (const [name, { part, act }] of Object.entries(states)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    await act(page, origin);
    await picture(page, `${name}-${width}-${colorScheme}`, part);
  }
  await context.close();
}

await main(async () => {
  if (!existsSync(join(site, 'index.html'))) throw new Stop('no page yet: npm run build:demo');
  mkdirSync(folder, { recursive: true });
  if (wanted.length === 0) for (const file of readdirSync(folder)) rmSync(join(folder, file));
  const server = await serve({ mounts: { '/': site }, isolated: true, strict: policy });
  const driver = await launch('chromium');
  const browser = driver.page.context().browser();
  try {
    for (const width of Object.keys(widths)) {
      for (const scheme of ['light', 'dark']) await tour(browser, server.origin, width, scheme);
    }
  } finally {
    await driver.close();
    await server.close();
  }
});
