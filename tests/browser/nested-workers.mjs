// Counts how often a worker that starts a worker is never heard of: why
// web/src/engine/thread-guest.ts is there, and whether it still has to be.
//
//   node tests/browser/nested-workers.mjs [firefox|chromium|webkit] [ROUNDS]      (firefox, 300)
//
// A round is two workers at once, ended after their word; five seconds without one is never. The
// same without the inner worker comes after it. Firefox needs busy cores to show it.
import { fileURLToPath } from 'node:url';
import { launch } from './drivers.mjs';
import { serve } from './server.mjs';

const [name = 'firefox', rounds = '300'] = process.argv.slice(2);

/** In the page: how many of two workers were not heard of. */
const round = (how) => `Promise.all([0, 1].map(() => new Promise((resolve) => {
  const worker = new Worker('outer.js${how}');
  const end = (missing) => { clearTimeout(timer); worker.terminate(); resolve(missing); };
  const timer = setTimeout(end, 5000, 1);
  worker.onmessage = () => end(0);
}))).then(([a, b]) => a + b)`;

const folder = fileURLToPath(new URL('nested', import.meta.url));
const server = await serve({ mounts: { '/': folder }, isolated: true });
const driver = await launch(name);
await driver.open(`${server.origin}/`);
for (const [what, how] of [['a worker in a worker', ''], ['a worker alone', '?alone']]) {
  let missing = 0;
  for (let i = 0; i < Number(rounds); i++) missing += await driver.evaluate(round(how));
  console.log(`${name} ${driver.version}, ${what}: ${missing} of ${2 * rounds} never heard of`);
}
await driver.close();
await server.close();
