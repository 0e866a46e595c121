// The tables of web/docs/families.md and web/docs/performance.md, made of committed result files
// (readme.mjs writes them). What is computed for other devices stands here with its rule.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../wasm/toolchain/shell.mjs';
import { bytes, rate, table } from './markdown.mjs';

const readJson = (name) => JSON.parse(readFileSync(join(root, 'tests/bench/results', name)));

const counted = (n) => (n < 999.5e6 ? `${Math.round(n / 1e6)} M` : `${(n / 1e9).toFixed(1)} B`);
const ratio = (x) => (x > 0.985 && x < 1.015 ? '1' : `${x.toFixed(x < 2 ? 2 : 1)} ×`);

/** Caches of published models, and who saved what. */
function caches() {
  const { models } = readJson('families.json');
  return table(['model', 'parameters', 'layers', '4 Ki', '32 Ki here', 'llama.cpp', 'all heads',
    'its makers saved', 'this runtime'],
  Object.entries(models).map(([name, { parameters, layers, contexts }]) => {
    const { here, llama_cpp: llama, expanded } = contexts[32768];
    return [name, counted(parameters), layers, ...[contexts[4096].here, here, llama, expanded]
      .map(bytes), ratio(expanded / llama), ratio(llama / here)];
  }));
}

const node = () => readJson('all.json');
const browsers = () => ['chromium', 'firefox', 'webkit']
  .map((name) => readJson(`browser-${name}.json`));

/** What the figures were measured on: a line for each machine and day. */
function machine() {
  const lines = new Map();
  for (const { machine: { cpu, cores, memoryBytes }, engine, date } of [node(), ...browsers()]) {
    const line = [`${cpu}, ${cores} cores`, bytes(memoryBytes), date.slice(0, 10)];
    const key = line.join();
    lines.set(key, { line, engines: [...lines.get(key)?.engines ?? [], engine.split(',')[0]] });
  }
  return table(['machine', 'memory', 'day', 'engines'],
    [...lines.values()].map(({ line, engines }) => [...line, engines.join(', ')]));
}

const finder = ({ rows }) => (wanted) => rows.find((row) =>
  Object.entries(wanted).every(([key, value]) => row[key] === value))?.median;

/** Tokens/s by model and engine; of the larger shape in browsers, as bench:peers measured it. */
function measured() {
  const shapes = ['QKV MHA', 'Q-K=V MQA'];
  const names = ['prefill', 'decode after 128', 'decode after 1024'];
  const cells = (report, model, threads, simd) => {
    const find = finder(report);
    const of = (name) => find({ suite: 'speed', model, threads, simd, cacheType: 'f16', name });
    return names.map((name) => (name === 'prefill' ? of('prefill 512') ?? of('prefill 128')
      : of(name))).map(rate);
  };
  const line = (report, engine, model, threads, simd) => [model.replace(' q8_0', ''), engine,
    `${threads}, ${simd}`, ...cells(report, model, threads, simd)];
  return table(['model', 'engine', 'threads, SIMD', ...names], [
    ...['S', 'M'].flatMap((size) => shapes.flatMap((shape) => [1, 2].map((threads) =>
      line(node(), 'Node', `${size} ${shape} q8_0`, threads, 'relaxed')))),
    ...browsers().flatMap((report) => shapes.map((shape) => {
      const { threads, simd } = report.rows.find(({ suite }) => suite === 'speed');
      return line(report, report.engine.split(' ')[0], `S ${shape} q8_0`, threads, simd);
    })),
  ]);
}

/** Large files in Node beside native llama.cpp, in turn in one run: best and median of each. */
function beside() {
  const both = ({ best, median }) => `${rate(best)}, ${rate(median)}`;
  const folder = join(root, 'tests/bench/results/turns');
  const files = existsSync(folder) ? readdirSync(folder)
    .filter((name) => !name.startsWith('deep-')).sort() : [];
  return table(['file', 'bytes', 'prefill here', 'llama.cpp', '', 'decode here', 'llama.cpp', '',
    'on'], files.map((name) => {
      const { file, fileBytes, figures, machine: { cpu }, date } = readJson(`turns/${name}`);
      const [here, native] = [figures['this checkout'], figures['llama.cpp']];
      return [file.replace('.gguf', ''), bytes(fileBytes), ...['prefill', 'decode'].flatMap(
        (what) => [both(here[what]), both(native[what]),
          `${(here[what].median / native[what].median).toFixed(2)} ×`]),
      `${cpu}, ${date.slice(5, 10)}`];
    }));
}

/** Decoding in Node with one thread, beside what reading memory allows. */
function bound() {
  const find = finder(node());
  const read = find({ model: 'the engine\'s peak', name: 'reading memory', simd: 'relaxed' });
  return table(['model', 'bytes read per token', 'at most, tokens/s', 'measured', 'of it'],
    ['S', 'M'].flatMap((size) => [128, 1024].map((behind) => {
      const model = `${size} QKV MHA q8_0`;
      const weights = find({ suite: 'load', model, name: 'weights in memory' });
      const found = find({ suite: 'speed', model, threads: 1, simd: 'relaxed', cacheType: 'f16',
        name: `decode after ${behind}` });
      const all = weights + behind * tokenBytes[size];
      const most = read * 1e9 / all;
      return [`${size} QKV MHA, ${behind} behind`, bytes(all), rate(most), rate(found),
        `${Math.round(100 * found / most)} %`];
    })));
}

/** Of the shapes S and M as QKV with all heads, f16: 2 rows of d in each layer. */
const tokenBytes = { S: 2 * 2 * 6 * 288, M: 2 * 2 * 12 * 768 };

/** Devices by [bytes/s of reading memory, int8 operations/s], and what we take to be like them. */
const devices = {
  slow: [8e9, 30e9, 'a phone of some years ago, or a browser without relaxed SIMD'],
  middle: [16e9, 100e9, 'a phone or laptop of today'],
  fast: [32e9, 250e9, 'a desktop or server of today'],
};
const deviceRows = () => table(['', 'reading memory', 'int8 products', 'like'],
  Object.entries(devices).map(([name, [read, products, like]]) =>
    [name, `${read / 1e9} GB/s`, `${products / 1e9} GOP/s`, like]));

const people = ['gemma-3-270m', 'smollm2-135m', 'qwen2.5-coder-0.5b', 'qwen3-0.6b', 'gemma-3-1b',
  'llama-3.2-1b', 'lfm2-1.2b', 'youtu-llm-2b', 'smollm3-3b', 'phi-4-mini'];
const bitsPerWeight = 4.5;

const seconds = (x) => (x < 9.95 ? x.toFixed(1) : String(Math.round(x)));

/** Tokens/s of decoding at most, seconds of a prompt of 512. */
function elsewhere() {
  const { models } = readJson('families.json');
  return table(['model', ...Object.keys(devices).map((name) => `${name}: tokens/s, s`),
    'weights', 'with 32 Ki'], people.map((name) => {
    const { parameters, contexts } = models[name];
    const weights = parameters * bitsPerWeight / 8;
    return [name, ...Object.values(devices).map(([read, products]) =>
      `${rate(read / (weights + contexts[4096].here))}, ` +
      seconds(2 * parameters * 512 / products)),
    bytes(weights), bytes(weights + contexts[32768].here)];
  }));
}

/** What smaller caches cost: bytes per token, and perplexity on the held-out stories. */
function cacheTypes() {
  const types = ['f32', 'f16', 'i8', 'i4'];
  return table(['model', ...types.flatMap((type) => [type, ''])],
    readJson('caches.json').rows.map(({ file, caches: by }) => [file.replace('.gguf', ''),
      ...types.flatMap((type) => [`${by[type].bytesPerToken} B`,
        by[type].perplexity.toPrecision(4)])]));
}

export const pageTables = {
  'web/docs/memory.md': { cacheTypes },
  'web/docs/families.md': { caches },
  'web/docs/performance.md': { machine, measured, beside, bound, devices: deviceRows, elsewhere },
};
