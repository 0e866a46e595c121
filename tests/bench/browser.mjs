// The suites of onekv bench in real browsers: npm run bench:browser [-- options]
//
// Each browser's report has the schema of the command line's and goes to
// tests/bench/results/browser-NAME.json; all tables stand in browsers.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { commit, machine, packageVersion } from '../../dist/cli/bench/host.js';
import { suiteNames } from '../../dist/src/bench/plan.js';
import { markdownOf, textOf } from '../../dist/cli/bench/report.js';
import { need } from '../../wasm/toolchain/setup.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from '../browser/drivers.mjs';
import { serve } from '../browser/server.mjs';
import { busyShares, startWatch } from './machine.mjs';

const usage = `usage: node tests/bench/browser.mjs [options]

  --browsers B,…   chromium, firefox, webkit (default all)
  --suites S,…     quality, memory, speed, batch, load, kernels (default all)
  --repeat N       measured repetitions (default 5)
  --full           not the quick form
  --no-save        print the tables only`;

const names = { chromium: 'Chromium', firefox: 'Firefox', webkit: 'WebKitGTK' };
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function serveSite() {
  const folder = join(root, 'build/bench/src');
  await build({
    entryPoints: [join(root, 'tests/bench/page/suites-worker.mjs')],
    outfile: join(folder, 'suites-worker.js'),
    bundle: true, format: 'esm', platform: 'browser', target: 'es2022',
    external: ['node:*'], logLevel: 'warning',
  });
  return serve({ isolated: true, mounts: {
    '/': join(root, 'tests/bench/page'), '/src/': folder, '/wasm/': join(root, 'dist/wasm'),
    '/dist/': join(root, 'dist'), '/models/': join(root, 'models'),
  } });
}

/** A report of one browser; `late` is when to give up. */
async function measure(origin, name, job, late) {
  const driver = await launch(name);
  try {
    const date = new Date().toISOString();
    const watch = startWatch();
    await driver.open(`${origin}/suites.html?job=${encodeURIComponent(JSON.stringify(job))}`);
    for (let shown = ''; ; await pause(1000)) {
      const text = await driver.text('#report');
      if (text) {
        const { error, isolated: _, ...found } = JSON.parse(text);
        if (error) throw new Error(`${name}: ${error}`);
        const { own, others } = busyShares(watch);
        const rest = machine();
        return { format: 'onekv-bench', version: 1, date, package: packageVersion(),
          commit: commit(), machine: rest,
          engine: `${names[name]} ${driver.version.replace(/^\w+\//, '')}`,
          busy: { own, others }, ...found };
      }
      const state = await driver.text('#state');
      if (state !== shown) process.stderr.write(`\r${name}: ${shown = state}\x1b[K`);
      if (performance.now() > late) {
        throw new Error(`${name} is late, at ${state}\n${driver.log.join('\n')}`);
      }
    }
  } finally {
    process.stderr.write('\n');
    await driver.close();
  }
}

async function main() {
  const { values } = parseArgs({ options: {
    browsers: { type: 'string', default: Object.keys(names).join() },
    suites: { type: 'string', default: suiteNames.join() },
    repeat: { type: 'string', default: '5' }, full: { type: 'boolean' },
    'no-save': { type: 'boolean' }, help: { type: 'boolean' },
  } });
  if (values.help) return console.log(usage);
  const job = { suites: values.suites.split(','), quick: !values.full,
    repeat: Number(values.repeat) };
  await need('browsers');
  const folder = join(root, 'tests/bench/results');
  const server = await serveSite();
  const reports = [];
  try {
    for (const name of values.browsers.split(',')) {
      const late = performance.now() + (values.full ? 3600_000 : 300_000);
      const report = await measure(server.origin, name, job, late);
      reports.push(report);
      console.log(`${report.engine}\n\n${textOf(report)}`);
      if (values['no-save']) continue;
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, `browser-${name}.json`), `${JSON.stringify(report, null, 1)}\n`);
    }
  } finally {
    await server.close();
  }
  if (values['no-save']) return undefined;
  const sections = reports.map((report) =>
    markdownOf(report, 'npm run bench:browser').replace(/^# OneKV bench/, `## ${report.engine}`)
      .replace(/^## (?=[a-z]+(?:, |$))/gm, '### '));
  writeFileSync(join(folder, 'browsers.md'), `# OneKV in browsers\n\n${sections.join('\n')}`);
  return undefined;
}

await main();
