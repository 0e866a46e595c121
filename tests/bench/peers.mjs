// OneKV beside wllama and ONNX Runtime Web in headless Chromium: npm run bench:peers
//
// Every visit is a browser of its own that opens one page, which loads the file and measures
// (page/page.mjs). The engines take turns, and so does the one that begins; a further visit only
// fetches the file and hashes it. Of Q-K=V files wllama gets the expanded form, the same model for
// a runtime that knows only QKV; so does ONNX Runtime, in the translation of onnx-model.mjs.
//
// Results: one JSON a file and thread count in tests/bench/results/peers/, and peers.md, the table
// of all of them, made anew at each run.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { shapedModel, titleOf } from '../../dist/src/bench/shapes.js';
import { summarise } from '../../dist/src/bench/statistics.js';
import { need } from '../../wasm/toolchain/setup.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';
import { commit, machine } from './machine.mjs';
import { writeOnnx } from './onnx-model.mjs';
import { compareFile } from './peers-file.mjs';
import { peersMarkdown } from './peers-table.mjs';
import { persistentVisit, progress, say, serveSite } from './peers-visit.mjs';
import { shapeFolder, writeShape } from './shape.mjs';

const usage = `usage: node tests/bench/peers.mjs [options]

  --shapes S,M       of random weights, q8_0 (default S,M)
  --variants V,…     qkv-mha, keqv-mqa (default both)
  --threads N,…      default 1,2
  --repeat N         visits of each engine (default 5)
  --engines E,…      of wllama, onnx, onekv (default all; onekv is always one)
  --long             OneKV alone, with prompts of 128, 1024, 4096 and 8192 tokens: a file of its own
  --file F           that GGUF file instead, beside native llama.cpp too (peers-file.mjs): decode
                     after 8 tokens and prefill of 256
  --python P         a Python with llama-cpp-python, for --file (default python3)
  --quick            shape S, 2 threads, 3 visits
  --no-save          print the table of this run only
  --table            no run: peers.md anew from the results that are there`;

const allEngines = ['wllama', 'onnx', 'onekv', 'fetch'];
/** What is compared, or compared with. */
const always = ['onekv', 'fetch'];
const variants = {
  'qkv-mha': {},
  'keqv-mqa': { projection: 'Q-K=V', kvHeads: 1 },
};
/** By shape: what is read and chosen, in this order. The first is what a visitor meets first; the
 * short one comes last, when both engines' compilers have long seen all of the code. */
const prompts = {
  S: [{ count: 8, tokens: 33 }, { count: 512, tokens: 33 }, { count: 2048, tokens: 33 },
    { count: 8, tokens: 97 }],
  M: [{ count: 8, tokens: 33 }, { count: 512, tokens: 17 }, { count: 8, tokens: 49 }],
  L: [{ count: 8, tokens: 17 }, { count: 128, tokens: 9 }, { count: 8, tokens: 17 }],
};
/** wllama would take minutes to read the last one. */
const longPrompts = [{ count: 8, tokens: 33 },
  ...[128, 1024, 4096, 8192].map((count) => ({ count, tokens: 33 })), { count: 8, tokens: 49 }];
const resultFolder = join(root, 'tests/bench/results');

/** What is measured together: a model in the form that each engine gets. */
async function prepare(shape, variant) {
  const model = shapedModel(shape, variants[variant]);
  const standard = shapedModel(shape, { ...variants[variant],
    expand: model.projection !== 'QKV' });
  const paths = { wllama: await writeShape(standard), onnx: await writeOnnx(standard, 'int8'),
    onekv: await writeShape(model) };
  const files = Object.fromEntries(Object.entries(paths)
    .map(([engine, path]) => [engine, path.slice(shapeFolder.length + 1)]));
  return { model, files };
}

async function measure(origin, { shape, variant, threads, repeat, engines, long }) {
  const { model, files } = await prepare(shape, variant);
  const steps = long ? longPrompts : prompts[shape];
  const context = Math.max(...steps.map(({ count, tokens }) => count + tokens)) + 64;
  const visits = Object.fromEntries(engines.map((engine) => [engine, []]));
  const tell = progress(repeat * engines.length);
  for (let round = 0; round < repeat; round++) {
    const order = round % 2 === 0 ? engines : [...engines].reverse();
    for (const engine of order) {
      tell(`${titleOf(model)}, ${threads} threads, ${engine}`);
      visits[engine].push(await persistentVisit(origin, {
        engine, threads, context, url: `/files/${files[engine] ?? files.onekv}`,
        vocabulary: model.vocabulary, seed: 100 * round + 1, prompts: steps,
      }));
    }
  }
  return { title: titleOf(model), shape, variant, threads, long: long === true, files,
    prompts: steps, visits };
}

/** The figures of one engine's visits: { name: summary }. */
function figures(visits, steps) {
  const of = (pick) => summarise(visits.map(pick));
  if (visits[0].fetchMs !== undefined) {
    return { fetchMs: of((visit) => visit.fetchMs),
      fetchAndHashMs: of((visit) => visit.fetchAndHashMs) };
  }
  return {
    ...Object.fromEntries(steps.flatMap(({ count }, i) => [
      // The first answer is what follows a load, whatever was read; reading 8 tokens is not timed
      // as prefill.
      [i === 0 ? 'first decode' : `decode after ${count}`, of((visit) => visit.steps[i].decode)],
      ...(count > 8 ? [[`prefill ${count}`, of((visit) => visit.steps[i].prefill)]] : []),
    ])),
    ...(visits[0].steps.at(-1).seen === undefined ? {} : {
      'decode as the page sees it': of((visit) => visit.steps.at(-1).seen) }),
    loadMs: of((visit) => visit.loadMs),
    peakBytes: of((visit) => visit.peakBytes),
    ...(visits[0].memory === undefined ? {} : {
      wasmBytes: of((visit) => visit.memory.heap),
      weightBytes: of((visit) => visit.memory.weights),
      cacheBytes: of((visit) => visit.memory.cache),
    }),
  };
}

function report(measured, started) {
  const { visits, ...rest } = measured;
  const all = Object.values(visits).flat();
  const share = (name) => Math.max(...all.map(({ busy }) => busy[name]));
  const version = (name) => JSON.parse(readFileSync(join(root, 'node_modules', name,
    'package.json'), 'utf8')).version;
  return {
    what: 'peers', date: started, commit: commit(), machine: machine(),
    browser: `Chromium ${all[0].browser}`,
    versions: { wllama: version('@wllama/wllama'), onnx: version('onnxruntime-web'),
      'llama.cpp': visits.wllama?.[0].version },
    onekv: { simd: visits.onekv[0].simd, threads: visits.onekv[0].threads,
      notes: visits.onekv[0].notes },
    // Of the worst visit.
    busy: { others: share('others'), stolen: share('stolen') },
    ...rest,
    figures: Object.fromEntries(Object.entries(visits).map(([engine, those]) =>
      [engine, figures(those, rest.prompts)])),
  };
}

/** All results that are there, in the order of their names. */
function saved() {
  const folder = join(resultFolder, 'peers');
  return readdirSync(folder).filter((name) => name.endsWith('.json')).sort()
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
}

function writeTable() {
  writeFileSync(join(resultFolder, 'peers.md'), peersMarkdown(saved()));
}

function save(result) {
  const folder = join(resultFolder, 'peers');
  mkdirSync(folder, { recursive: true });
  const { shape, variant, threads, long } = result;
  const ending = long ? 't-long' : 't';
  writeFileSync(join(folder, `${shape.toLowerCase()}-${variant}-${threads}${ending}.json`),
    `${JSON.stringify(result, null, 1)}\n`);
  writeTable();
}

async function main() {
  const { values } = parseArgs({ options: {
    shapes: { type: 'string' }, variants: { type: 'string' }, threads: { type: 'string' },
    repeat: { type: 'string' }, engines: { type: 'string' }, quick: { type: 'boolean' },
    long: { type: 'boolean' }, 'no-save': { type: 'boolean' }, table: { type: 'boolean' },
    file: { type: 'string' }, python: { type: 'string', default: 'python3' },
    help: { type: 'boolean' },
  } });
  if (values.help) return console.log(usage);
  if (values.table) return writeTable();
  await need('browsers');
  const { quick, long } = values;
  if (values.file) {
    return compareFile(values.file, { python: values.python, repeat: Number(values.repeat ?? 3),
      threads: (values.threads ?? '1,2').split(',').map(Number),
      engines: (values.engines ?? 'native,wllama,onekv').split(',') });
  }
  const list = (name, all, short = all) => (values[name] ?? (quick ? short : all)).split(',');
  const asked = list('engines', allEngines.join());
  const engines = long ? ['onekv']
    : allEngines.filter((name) => always.includes(name) || asked.includes(name));
  const repeat = Number(values.repeat ?? (quick ? 3 : 5));
  const server = await serveSite(shapeFolder);
  const results = [];
  try {
    for (const shape of list('shapes', 'S,M', 'S')) {
      for (const variant of list('variants', Object.keys(variants).join())) {
        for (const threads of list('threads', '1,2', '2').map(Number)) {
          const started = new Date().toISOString();
          const measured = await measure(server.origin,
            { shape, variant, threads, repeat, engines, long });
          results.push(report(measured, started));
          if (!values['no-save']) save(results.at(-1));
        }
      }
    }
  } finally {
    await server.close();
    say('');
    // A Ctrl-C in a visit: what was measured before it is saved already.
    if (results.length > 0) console.log(peersMarkdown(results));
  }
}

await main();
