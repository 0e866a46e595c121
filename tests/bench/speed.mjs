// Prefill and decode speed in Node, each engine in turn: npm run bench:speed -- M --threads 1,2
//
// Engines (threads × SIMD level × cache type) take turns in every repetition, so that a machine
// that gets slower meanwhile is slower for all. The hashes are of the outputs' bits: those of one
// SIMD level and cache type must be the same at any number of threads.
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Engine, hasRelaxedSimd, loadModel } from '../../dist/src/engine-entry-node.js';
import { measureDecode, measurePrefill, sessionsAt } from '../../dist/src/bench/rates.js';
import { summarise } from '../../dist/src/bench/statistics.js';
import { modelOf, shapeOptions, writeShape } from './shape.mjs';

const usage = `usage: node tests/bench/speed.mjs SHAPE|FILE [options]

options:
  --threads N,…    default 1,2
  --simd L,…       relaxed, simd128; default: the better that this Node has
  --cache T,…      f16 (default), f32, i8, i4
  --arithmetic A,… int8 (default), int16, f32
  --prefill N      tokens read at once (default 512; 0: none)
  --depths N,…     decode after so many tokens (default 8)
  --decode N       tokens chosen in a measurement (default 32)
  --repeat N       default 5
  --json           all figures as one JSON object
and for a SHAPE those of tests/bench/shape.mjs`;

const numbers = (text) => text.split(',').map(Number);

async function openAll(file, values) {
  const best = hasRelaxedSimd() ? 'relaxed' : 'simd128';
  const opened = [];
  for (const simd of (values.simd ?? best).split(',')) {
    for (const threads of numbers(values.threads)) {
      const engine = await Engine.open({ simd, threads });
      for (const cacheType of values.cache.split(',')) {
        for (const arithmetic of values.arithmetic.split(',')) {
          opened.push({ engine, simd, threads, cacheType, arithmetic,
            model: await loadModel(engine, file, { cacheType, arithmetic }) });
        }
      }
    }
  }
  return opened;
}

/** { name, run() } of everything to measure with one model. */
function measurements({ model }, values) {
  const prefill = Number(values.prefill);
  const depths = numbers(values.depths).sort((a, b) => a - b);
  const sessions = sessionsAt(model, depths);
  return [
    ...(prefill > 0
      ? [{ name: `prefill ${prefill}`, run: () => measurePrefill(model, prefill) }] : []),
    ...depths.map((depth, i) => ({
      name: `decode after ${depth}`, run: () => measureDecode(sessions[i], Number(values.decode)),
    })),
  ];
}

function measure(opened, values) {
  const rows = opened.flatMap((one) => measurements(one, values)
    .map(({ name, run }) => ({ ...one, name, run, rates: [], hashes: new Set() })));
  const repeat = Number(values.repeat);
  // The first round warms up.
  for (let round = 0; round <= repeat; round++) {
    for (const row of rows) {
      const { value, hash } = row.run();
      row.hashes.add(hash);
      if (round > 0) row.rates.push(value);
    }
  }
  return rows.map(({ name, simd, threads, cacheType, arithmetic, rates, hashes }) => ({
    name, simd, threads, cacheType, arithmetic, hashes: [...hashes], ...summarise(rates),
  }));
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ...shapeOptions,
      threads: { type: 'string', default: '1,2' }, simd: { type: 'string' },
      cache: { type: 'string', default: 'f16' },
      arithmetic: { type: 'string', default: 'int8' }, prefill: { type: 'string', default: '512' },
      depths: { type: 'string', default: '8' }, decode: { type: 'string', default: '32' },
      repeat: { type: 'string', default: '5' }, json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help || positionals.length !== 1) {
    console.error(usage);
    return values.help ? 0 : 2;
  }
  const [name] = positionals;
  const file = existsSync(name) ? name : await writeShape(modelOf(name, values));
  const opened = await openAll(file, values);
  const rows = measure(opened, values);
  if (values.json) console.log(JSON.stringify({ file, rows }, null, 2));
  for (const row of values.json ? [] : rows) {
    console.log(`${row.name.padEnd(20)} ${row.simd.padEnd(8)} ${row.threads}t ` +
      `${row.cacheType.padEnd(3)} ${row.arithmetic.padEnd(5)} ` +
      `${row.median.toFixed(1).padStart(8)} tokens/s ` +
      `±${(100 * row.spread).toFixed(1)} %  (${row.least.toFixed(1)} to ${row.most.toFixed(1)})` +
      `  ${row.hashes.join(' ')}`);
  }
  for (const { engine } of opened) engine.destroy();
  return 0;
}

process.exitCode = await main();
