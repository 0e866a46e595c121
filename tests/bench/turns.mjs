// Engines in turn, in one run, for a machine whose rate changes from minute to minute: this
// checkout's, other built checkouts', and native llama.cpp. All stay open; each round asks every
// one of them for a prefill and for some decoding, and the first round does not count.
//
//   node tests/bench/turns.mjs FILE [--threads N] [--prefill N] [--decode N] [--rounds N] WHO…
//
// WHO: folders of built checkouts, or `native` (ONEKV_PYTHON with llama-cpp-python; default
// python3). Prints tokens/s of each, best and median.
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = fileURLToPath(new URL('../../', import.meta.url));
const number = (value) => ({ type: 'string', default: value });
const { values, positionals: [file, ...others] } = parseArgs({ allowPositionals: true,
  options: { threads: number('2'), prefill: number('256'), decode: number('24'),
    rounds: number('5') } });
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
  return { name: folder, end: () => engine.destroy(), one: async () => ({
    prefill: measurePrefill(model, prefill).value,
    decode: measureDecode(session, decode).value }) };
}

const engines = [];
for (const who of [here, ...others]) {
  engines.push(who === 'native' ? await openNative() : await openCheckout(who));
}
const found = engines.map(() => ({ prefill: [], decode: [] }));
for (let round = 0; round <= rounds; round++) {
  for (const [i, engine] of engines.entries()) {
    const rates = await engine.one();
    if (round === 0) continue;
    for (const what of ['prefill', 'decode']) found[i][what].push(rates[what]);
  }
}
for (const [i, { name, end }] of engines.entries()) {
  for (const [what, rates] of Object.entries(found[i])) {
    rates.sort((a, b) => b - a);
    console.log(`${i === 0 ? 'this checkout' : name}: ${what}, best ${rates[0].toFixed(1)}, ` +
      `median ${rates[rates.length >> 1].toFixed(1)} tokens/s`);
  }
  end();
}
process.exit(0);
