// Engines in turn, in one run, for a machine whose rate changes from minute to minute: this
// checkout's, other built checkouts', and native llama.cpp. All stay open; each round asks every
// one of them for a prefill and for some decoding, and the first round does not count.
//
//   node tests/bench/turns.mjs FILE [--threads N] [--prefill N] [--decode N] [--rounds N] WHO…
//
// WHO: folders of built checkouts, or `native` (ONEKV_PYTHON with llama-cpp-python; default
// python3). Prints tokens/s of each, best and median; with --save NAME they are written to
// results/turns/NAME.json too, of which the table in web/docs/performance.md is made.
import { spawn } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { busyShares, commit, machine, startWatch } from './machine.mjs';

const here = fileURLToPath(new URL('../../', import.meta.url));
const number = (value) => ({ type: 'string', default: value });
const { values, positionals: [file, ...others] } = parseArgs({ allowPositionals: true,
  options: { threads: number('2'), prefill: number('256'), decode: number('24'),
    rounds: number('5'), save: { type: 'string' } } });
if (file === undefined) throw new Error('usage: turns.mjs FILE [options] WHO…');
const [threads, prefill, decode, rounds] = ['threads', 'prefill', 'decode', 'rounds'].map((name) =>
  Number(values[name]));

/** Kept open as a process that answers lines. */
async function openNative() {
  const child = spawn(process.env.ONEKV_PYTHON ?? 'python3',
    [join(here, 'tests/bench/native.py'), file, JSON.stringify({ turns: true, threads,
      context: 512, vocabulary: 1000, prefill, decode })], { stdio: ['pipe', 'pipe', 'ignore'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const one = async () => {
    child.stdin.write('\n');
    const { done, value } = await lines.next();
    if (done) throw new Error('llama.cpp ended: is llama-cpp-python there, and the file its own?');
    return JSON.parse(value);
  };
  return { name: 'llama.cpp', one, end: () => child.kill() };
}

async function openCheckout(folder) {
  const from = (path) => import(join(resolve(folder), 'dist/src', path));
  // Older checkouts call their entry node.js.
  const { Engine, loadModel } = await from('engine-entry-node.js').catch(() => from('node.js'));
  const { measureDecode, measurePrefill, sessionsAt } = await from('bench/rates.js');
  const engine = await Engine.open({ threads });
  const model = await loadModel(engine, file, { cacheType: 'f16' });
  const [session] = sessionsAt(model, [8]);
  return { name: folder, simd: engine.simd, end: () => engine.destroy(), one: async () => ({
    prefill: measurePrefill(model, prefill).value,
    decode: measureDecode(session, decode).value }) };
}

const engines = [];
for (const who of [here, ...others]) {
  engines.push(who === 'native' ? await openNative() : await openCheckout(who));
}
const found = engines.map(() => ({ prefill: [], decode: [] }));
const date = new Date().toISOString();
const watch = startWatch();
for (let round = 0; round <= rounds; round++) {
  for (const [i, engine] of engines.entries()) {
    const rates = await engine.one();
    if (round === 0) continue;
    for (const what of ['prefill', 'decode']) found[i][what].push(rates[what]);
  }
}
const busy = busyShares(watch);
const figures = {};
for (const [i, { name, simd, end }] of engines.entries()) {
  const engine = i === 0 ? 'this checkout' : name;
  figures[engine] = {};
  for (const [what, rates] of Object.entries(found[i])) {
    rates.sort((a, b) => b - a);
    const [best, median, least] = [0, rates.length >> 1, rates.length - 1].map((k) => rates[k]);
    figures[engine][what] = { simd, best, median, least };
    const line = `best ${best.toFixed(1)}, median ${median.toFixed(1)} tokens/s`;
    console.log(`${engine}: ${what}, ${line}`);
  }
  end();
}
if (values.save !== undefined) {
  const folder = join(here, 'tests/bench/results/turns');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${values.save}.json`), `${JSON.stringify({ what: 'turns',
    file: basename(file), fileBytes: statSync(file).size, threads, prefill, decode, rounds, date,
    commit: commit(), machine: machine(), busy, figures }, null, 1)}\n`);
}
process.exit(0);
