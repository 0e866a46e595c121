// Whether the tokens/s of the page's two panes come to the same again: npm run bench:panes [-- N]
//
// Chromium opens the built page N times (6), presses "Run both" and reads both figures. It fails
// where the largest is more than a tenth above the smallest. Build first: npm run build:demo.
import { launch } from '../browser/drivers.mjs';
import { serve } from '../browser/server.mjs';
import { site } from '../../web/demo/build.mjs';
import { policy } from '../../web/demo/build/page-texts.mjs';
import { Stop, main, say } from '../../wasm/toolchain/shell.mjs';

const runs = Number(process.argv[2] ?? 6);
const most = 0.1;
const patience = { timeout: 120_000 };

async function visit(page, origin) {
  await page.goto(`${origin}/`);
  await page.click('#run');
  await page.waitForSelector('#duet[data-state="done"]', patience);
  const rates = await page.evaluate(() => ['one', 'std'].map((side) =>
    Number(document.querySelector(`#pane-${side} .stats dd`).textContent)));
  say(`tokens/s: ${rates.join(', ')}`);
  return rates;
}

await main(async () => {
  if (!Number.isInteger(runs) || runs < 2) throw new Stop('usage: npm run bench:panes [-- N]');
  const server = await serve({ mounts: { '/': site }, isolated: true, strict: policy });
  const driver = await launch('chromium');
  try {
    const found = [];
    for (let i = 0; i < runs; i += 1) found.push(await visit(driver.page, server.origin));
    for (const [i, side] of ['Q-K=V + MQA', 'standard QKV'].entries()) {
      const rates = found.map((pair) => pair[i]);
      const apart = Math.max(...rates) / Math.min(...rates) - 1;
      say(`${side}: ${Math.min(...rates)} to ${Math.max(...rates)}, ` +
        `${(100 * apart).toFixed(1)} % apart`);
      if (!(apart <= most)) throw new Stop(`${side}: more than ${100 * most} % apart`);
    }
  } finally {
    await driver.close();
    await server.close();
  }
});
