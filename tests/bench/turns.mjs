// Engines in turn, in one run, for a machine whose rate changes from minute to minute: this
// checkout's, other built checkouts', and native llama.cpp. All stay open; each round asks every
// one of them for a piece of work, and the first round does not count.
//
//   node tests/bench/turns.mjs FILE [--threads N] [--prefill N] [--decode N] [--rounds N]
//     [--depths N,N…] [--peer-file F] WHO…
//
// WHO: folders of built checkouts, or `native` or `native-flash` (ONEKV_PYTHON with
// llama-cpp-python; default python3), without and with its flash attention. Decoding is measured
// after as many tokens as --depths says, prefill unless it is 0. llama.cpp is given --peer-file
// where it needs another form of the same model. Prints tokens/s of each, best and median; with
// --save NAME they are written to results/turns/NAME.json too, of which the table in
// web/docs/performance.md is made. depths.mjs has several models.
import { spawn } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { busyShares, commit, machine, startWatch } from './machine.mjs';

const here = fileURLToPath(new URL('../../', import.meta.url));
const number = (value) => ({ type: 'string', default: value });

export const turnOptions = { threads: number('2'), prefill: number('256'), decode: number('24'),
  rounds: number('5'), depths: number('8') };

/** The numbers among parsed options. */
export const turnNumbers = ({ threads, prefill, decode, rounds, depths }) => ({
  threads: Number(threads), prefill: Number(prefill), decode: Number(decode),
  rounds: Number(rounds), depths: depths.split(',').map(Number) });

/** Kept open as a process that answers lines. */
async function openNative(flash, { file, peerFile, threads, prefill, decode, depths }) {
  const context = Math.max(prefill, ...depths) + decode;
  const words = { turns: true, flash, threads, vocabulary: 1000,
    context: 256 * Math.ceil((context + 1) / 256) }; // llama.cpp takes positions in such blocks
  const child = spawn(process.env.ONEKV_PYTHON ?? 'python3',
    [join(here, 'tests/bench/native.py'), peerFile ?? file, JSON.stringify(words)],
    { stdio: ['pipe', 'pipe', 'ignore'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { done, value } = await lines.next();
    if (done) throw new Error('llama.cpp ended: is llama-cpp-python there, and the file its own?');
    return JSON.parse(value);
  };
  const about = await answer();
  const one = (work) => {
    child.stdin.write(`${JSON.stringify(work)}\n`);
    return answer();
  };
  return { name: flash ? 'llama.cpp, flash attention' : 'llama.cpp', about, one,
    end: () => child.kill() };
}

async function openCheckout(folder, { file, threads, depths }) {
  const from = (path) => import(join(resolve(folder), 'dist/src', path));
  // Older checkouts call their entry node.js.
  const { Engine, loadModel } = await from('engine-entry-node.js').catch(() => from('node.js'));
  const { measureDecode, measurePrefill, sessionsAt } = await from('bench/rates.js');
  const engine = await Engine.open({ threads });
  const model = await loadModel(engine, file, { cacheType: 'f16' });
  const sessions = new Map(sessionsAt(model, depths).map((session, i) => [depths[i], session]));
  return { name: folder, simd: engine.simd, end: () => engine.destroy(),
    one: async ({ prefill, decode, after }) => (prefill === undefined
      ? measureDecode(sessions.get(after), decode) : measurePrefill(model, prefill)).value };
}

/** Name of a figure and the work that gives it. */
const piecesOf = ({ prefill, decode, depths }) => [
  ...(prefill > 0 ? [['prefill', { prefill }]] : []),
  ...depths.map((after) => [depths.length > 1 ? `decode after ${after}` : 'decode',
    { decode, after }])];

function summary(rates) {
  rates.sort((a, b) => b - a);
  const [best, median, least] = [0, rates.length >> 1, rates.length - 1].map((k) => rates[k]);
  return { best, median, least };
}

/** What each of `who` reaches, beside this checkout: { date, busy, figures, native }. */
export async function takeTurns(job, who) {
  const engines = [];
  for (const one of [here, ...who]) {
    engines.push(one.startsWith('native') ? await openNative(one === 'native-flash', job)
      : await openCheckout(one, job));
  }
  const found = engines.map(() => ({}));
  const date = new Date().toISOString();
  const watch = startWatch();
  for (const [name, work] of piecesOf(job)) {
    for (let round = 0; round <= job.rounds; round++) {
      for (const [i, engine] of engines.entries()) {
        const rate = await engine.one(work);
        if (round > 0) (found[i][name] ??= []).push(rate);
      }
    }
  }
  const busy = busyShares(watch);
  const figures = {};
  for (const [i, { name, simd, end }] of engines.entries()) {
    figures[i === 0 ? 'this checkout' : name] = Object.fromEntries(Object.entries(found[i])
      .map(([what, rates]) => [what, { simd, ...summary(rates) }]));
    end();
  }
  return { date, busy, figures, native: engines.find(({ about }) => about)?.about };
}

export function printTurns({ figures }) {
  for (const [engine, rates] of Object.entries(figures)) {
    for (const [what, { best, median }] of Object.entries(rates)) {
      const line = `best ${best.toFixed(1)}, median ${median.toFixed(1)} tokens/s`;
      console.log(`${engine}: ${what}, ${line}`);
    }
  }
}

export function saveTurns(name, { file, peerFile, ...job }, found) {
  const folder = join(here, 'tests/bench/results/turns');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify({ what: 'turns',
    file: basename(file), ...(peerFile && { peerFile: basename(peerFile) }),
    fileBytes: statSync(file).size, ...job, date: found.date, commit: commit(),
    machine: machine(), native: found.native, busy: found.busy, figures: found.figures },
  null, 1)}\n`);
}

if (import.meta.filename === process.argv[1]) {
  const { values, positionals: [file, ...who] } = parseArgs({ allowPositionals: true, options: {
    ...turnOptions, 'peer-file': { type: 'string' }, save: { type: 'string' } } });
  if (file === undefined) throw new Error('usage: turns.mjs FILE [options] WHO…');
  const job = { file, peerFile: values['peer-file'], ...turnNumbers(values) };
  const found = await takeTurns(job, who);
  printTurns(found);
  if (values.save !== undefined) saveTurns(values.save, job, found);
  process.exit(0);
}
