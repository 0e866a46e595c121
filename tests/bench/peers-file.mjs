// One GGUF file of anybody's: OneKV and wllama in Chromium, and native llama.cpp beside them.
//
// The engines take turns, and so does the order; each turn is a process or a browser of its own
// that loads the file, reads 8 tokens and chooses, reads 256, and does the first once more. wllama
// takes no ids, so it reads common English words, one token each in any usual vocabulary.
// native.py needs a Python with llama-cpp-python; without one that column is missing, and says so.
// Results: tests/bench/results/files/NAME-THREADSt.json, and files.md, the table of all.
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { summarise } from '../../dist/src/bench/statistics.js';
import { root } from '../../wasm/toolchain/shell.mjs';
import { busyShares, commit, machine, startWatch } from './machine.mjs';
import { filesMarkdown } from './peers-table.mjs';
import { persistentVisit, progress, say, serveSite } from './peers-visit.mjs';

const prompts = [{ count: 8, tokens: 17 }, { count: 256, tokens: 5 }, { count: 8, tokens: 33 }];
const context = 512;
const resultFolder = join(root, 'tests/bench/results');

/** What the engines must be told of the file. */
async function describe(path) {
  const engine = await Engine.open({ threads: 1 });
  try {
    const model = await loadModel(engine, path, {});
    return { vocabulary: model.description.vocabulary, fileBytes: statSync(path).size };
  } finally {
    engine.destroy();
  }
}

/** One process of native llama.cpp. */
async function runNative(path, python, job) {
  const watch = startWatch();
  const { stdout } = await promisify(execFile)(python,
    [join(root, 'tests/bench/native.py'), path, JSON.stringify(job)], { maxBuffer: 1 << 24 });
  return { ...JSON.parse(stdout.trim().split('\n').at(-1)), busy: busyShares(watch) };
}

/** What the processor has, as the kernel says it: the sets that decide about kernels. */
function instructionSets() {
  const flags = /^flags\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '';
  const all = flags.split(' ');
  return ['avx2', 'fma', 'f16c', 'avx_vnni', 'avx512_vnni', 'amx_int8', 'asimddp']
    .filter((name) => all.includes(name));
}

function figuresOf(turns) {
  const of = (pick) => summarise(turns.map(pick));
  return {
    'decode after 8': of(({ steps }) => steps[2].decode),
    'prefill 256': of(({ steps }) => steps[1].prefill),
    'first decode': of(({ steps }) => steps[0].decode),
    loadMs: of(({ loadMs }) => loadMs),
    peakBytes: of(({ peakBytes }) => peakBytes),
    ...(turns[0].memory === undefined ? {} : {
      weightBytes: of(({ memory }) => memory.weights),
      wasmBytes: of(({ memory }) => memory.heap),
    }),
  };
}

async function measure(server, path, { engines, threads, repeat, python, vocabulary }) {
  const turns = Object.fromEntries(engines.map((engine) => [engine, []]));
  const failures = {};
  const tell = progress(repeat * engines.length);
  for (let round = 0; round < repeat; round++) {
    for (const engine of round % 2 === 0 ? engines : [...engines].reverse()) {
      tell(`${basename(path)}, ${threads} threads, ${engine}`);
      if (failures[engine] !== undefined) continue;
      const job = { threads, context, vocabulary, seed: 100 * round + 1, prompts, plain: true };
      try {
        turns[engine].push(engine === 'native' ? await runNative(path, python, job)
          : await persistentVisit(server.origin,
            { ...job, engine, url: `/files/${encodeURIComponent(basename(path))}` }));
      } catch (error) {
        // A peer that can't do this file is a result too; OneKV must.
        if (engine === 'onekv') throw error;
        failures[engine] = error.message.split('\n').slice(0, 2).join(' ');
      }
    }
  }
  return { turns, failures };
}

function report(path, threads, { turns, failures }, { fileBytes }, started) {
  const all = Object.values(turns).flat();
  const [own] = turns.onekv;
  const wllama = JSON.parse(readFileSync(join(root, 'node_modules/@wllama/wllama/package.json'),
    'utf8')).version;
  const [native] = turns.native ?? [];
  return {
    what: 'file', file: basename(path), fileBytes, threads, date: started, commit: commit(),
    machine: { ...machine(), instructionSets: instructionSets() },
    browser: `Chromium ${own.browser}`,
    versions: { wllama, native: native?.version },
    nativeInstructions: native?.instructions,
    onekv: { simd: own.simd, threads: own.threads, notes: own.notes },
    busy: Object.fromEntries(['others', 'stolen'].map((name) =>
      [name, Math.max(...all.map(({ busy }) => busy[name]))])),
    failures,
    figures: Object.fromEntries(Object.entries(turns).filter(([, list]) => list.length > 0)
      .map(([engine, list]) => [engine, figuresOf(list)])),
  };
}

function save(result) {
  const folder = join(resultFolder, 'files');
  mkdirSync(folder, { recursive: true });
  const name = `${result.file.replace(/\.gguf$/, '')}-${result.threads}t.json`;
  writeFileSync(join(folder, name), `${JSON.stringify(result, null, 1)}\n`);
  const all = readdirSync(folder).filter((entry) => entry.endsWith('.json')).sort()
    .map((entry) => JSON.parse(readFileSync(join(folder, entry), 'utf8')));
  writeFileSync(join(resultFolder, 'files.md'), filesMarkdown(all));
}

/** Measures and saves; engines are some of native, wllama and onekv. */
export async function compareFile(file, { python, repeat, threads, engines, isSaved = true }) {
  const path = resolve(file);
  const what = await describe(path);
  const list = [...new Set([...engines, 'onekv'])];
  const server = await serveSite(dirname(path));
  const results = [];
  try {
    for (const count of threads) {
      const started = new Date().toISOString();
      const measured = await measure(server, path,
        { engines: list, threads: count, repeat, python, vocabulary: what.vocabulary });
      results.push(report(path, count, measured, what, started));
      if (isSaved) save(results.at(-1));
    }
  } finally {
    await server.close();
    say('');
    if (results.length > 0) console.log(filesMarkdown(results));
  }
}
