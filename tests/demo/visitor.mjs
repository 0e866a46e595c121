// A person at the demo page: a browser, the page's address, and patience.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { modelFolder } from '../../models/fetch/fetch.mjs';
import { launch } from '../browser/drivers.mjs';
import { serve } from '../browser/server.mjs';
import { site } from '../../web/demo/build.mjs';
import { policy } from '../../web/demo/build/page-texts.mjs';

/** Many times what anything takes on a quiet machine. */
export const patience = 180_000;
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Whether an error says that the browser itself has ended: it has shown nothing, good or bad. */
export const browserEnded = (error) => error.name === 'NoSuchSessionError' ||
  /session (?:closed|deleted)|target closed|browser has been closed/i.test(error.message);

/** Serves the page as npm start does; worker: false leaves the service worker out, framed: true
 * lets a page at /frame/ hold it. `asked` collects the paths that were asked for. */
export async function servePage({
  path = '/', isolated = true, worker = true, framed = false, port,
} = {}) {
  const asked = [];
  const mounts = { [path]: site, [`${path}fetched/`]: modelFolder };
  if (!worker) mounts[`${path}service-worker.js`] = join(site, 'nothing');
  if (framed) mounts['/frame/'] = fileURLToPath(new URL('frame', import.meta.url));
  const server = await serve({ mounts, isolated, strict: framed ? false : policy, port,
    seen: (url) => asked.push(url) });
  return { ...server, address: server.origin + path, asked };
}

/** The driver's methods, and what waits, reads and checks. */
export async function visit(name, options) {
  const driver = await launch(name, options);
  const visitor = {
    ...driver,
    /** The value of an expression as soon as it is true. */
    until: async (expression, limit = patience) => {
      const end = performance.now() + limit;
      for (;;) {
        // While a page goes and another comes there is nothing to ask.
        const value = await driver.evaluate(expression).catch((error) => {
          if (browserEnded(error)) throw error;
        });
        if (value) return value;
        if (performance.now() > end) {
          const errors = await driver.evaluate(
            "[...document.querySelectorAll('.error')].map((e) => e.textContent)");
          throw new Error(`${name}: not within ${limit} ms: ${expression}\n` +
            `the page says: ${errors.join('; ') || 'no error'}\n${driver.log.join('\n')}`);
        }
        await pause(100);
      }
    },
    /** Opens the page and waits until it can be used. */
    come: async (address) => {
      await driver.open(address);
      await visitor.until('Boolean(globalThis.onekvDemo)');
    },
    /** Chooses from a list. No two drivers do that alike. */
    pick: (selector, value) => driver.evaluate(`(() => {
      const list = document.querySelector('${selector}');
      list.value = '${value}';
      for (const type of ['input', 'change']) {
        list.dispatchEvent(new Event(type, { bubbles: true }));
      }
    })()`),
    count: (selector) => driver.evaluate(`document.querySelectorAll('${selector}').length`),
    /** Numbers of a text: '1,730,560 B' is 1730560. */
    number: async (selector) => {
      const text = await driver.text(selector);
      const found = /[\d,]*\.?\d+/.exec(text ?? '');
      assert.ok(found, `${selector}: no number in ${text}`);
      return Number(found[0].replaceAll(',', ''));
    },
    /** Nothing went wrong that nobody was told of. */
    assertQuiet: () => {
      const bad = driver.log.filter((line) => /page error|console error|crashed/.test(line));
      assert.deepEqual(bad, []);
    },
  };
  return visitor;
}
