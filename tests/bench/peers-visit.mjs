// Visits of the peers' page: each is a headless Chromium of its own that opens it once.
import { join } from 'node:path';
import { root } from '../../wasm/toolchain/shell.mjs';
import { launch } from '../browser/drivers.mjs';
import { serve } from '../browser/server.mjs';
import { busyShares, rendererPeak, startWatch } from './machine.mjs';

const visitTimeout = 600_000;
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** The page, the engines, and under /files/ a folder of models. */
export const serveSite = (folder) => serve({ isolated: true, mounts: {
  '/': join(root, 'tests/bench/page'),
  '/dist/': join(root, 'dist'),
  '/wllama/': join(root, 'node_modules/@wllama/wllama/esm'),
  '/ort/': join(root, 'node_modules/onnxruntime-web/dist'),
  '/files/': folder,
} });

/** The report of one visit. */
async function visit(origin, job) {
  const driver = await launch('chromium');
  try {
    const watch = startWatch();
    await driver.open(`${origin}/?job=${encodeURIComponent(JSON.stringify(job))}`);
    const end = performance.now() + visitTimeout;
    for (;;) {
      const text = await driver.text('#report');
      if (text) {
        const report = JSON.parse(text);
        if (report.error) throw new Error(`${job.engine}: ${report.error}`);
        return { ...report, peakBytes: rendererPeak(), busy: busyShares(watch),
          browser: driver.version };
      }
      if (performance.now() > end) throw new Error(`${job.engine}: ${driver.log.join('\n')}`);
      // Looking costs the page time: seldom.
      await pause(250);
    }
  } finally {
    await driver.close();
  }
}

export const say = (text) =>
  process.stderr.write(process.stderr.isTTY ? `\r${text}\x1b[K` : `${text}\n`);

/** Tells how far a run is and how long the rest takes. */
export function progress(total) {
  const started = performance.now();
  let done = 0;
  return (label) => {
    const left = done === 0 ? '' : `, ${Math.ceil((performance.now() - started) / done *
      (total - done) / 1000)} s left`;
    say(`${label}: visit ${done + 1} of ${total}${left}`);
    done += 1;
  };
}

/** A visit that broke down is repeated once: a browser may fail to start on a busy machine. */
export async function persistentVisit(origin, job) {
  try {
    return await visit(origin, job);
  } catch (error) {
    say(`once more, after: ${error.message.split('\n')[0]}`);
    return visit(origin, job);
  }
}
