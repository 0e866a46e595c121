// onekv bench: the project's claims as data, measured here and now.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { paperCaches } from '../src/bench/paper.js';
import { makePlan, suiteNames } from '../src/bench/plan.js';
import type { PlanOptions, SuiteName } from '../src/bench/plan.js';
import { requantised } from '../src/bench/requantise.js';
import { expectedSeconds, runBatches } from '../src/bench/runner.js';
import { shapeTypes, shapedModel, shapes } from '../src/bench/shapes.js';
import type { ShapeOptions } from '../src/bench/shapes.js';
import { shapedSubject } from '../src/bench/subjects.js';
import type { Subject } from '../src/bench/subjects.js';
import { OneKVError, automaticThreads, hasRelaxedSimd, loadModel }
  from '../src/engine-entry-node.js';
import type { CacheType, Projection, SimdLevel } from '../src/engine-entry-node.js';
import { meant } from '../src/util/nearest.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { chartOf } from './bench/chart.js';
import { comparisonText } from './bench/compare.js';
import { commit, machine, packageVersion, runElsewhere, validationText, watchBusy }
  from './bench/host.js';
import { drawPng, findChromium } from './bench/picture.js';
import { markdownOf, textOf } from './bench/report.js';
import type { Report } from './bench/report.js';
import { accessTo } from './downloads.js';
import { findModel, knownNames } from './model-file.js';
import { Progress } from './progress.js';
import { cacheTypes, note, readText, write, writeJson } from './shared.js';
import { interrupted } from './signals.js';

/** "a,b" as a list of known words. */
function words<T extends string>(values: Values, name: string, known: readonly T[]):
  T[] | undefined {
  return values.text(name)?.split(',').map((word) => {
    const found = known.find((one) => one === word);
    if (found !== undefined) return found;
    throw new UsageError(`--${name}: found ${JSON.stringify(word)}, expected ` +
      `${known.join(', ')}, or several of them between commas`);
  });
}

function integers(values: Values, name: string, most: number): number[] | undefined {
  return values.text(name)?.split(',').map((word) => {
    const value = /^\d+$/.test(word) ? Number(word) : 0;
    if (value >= 1 && value <= most) return value;
    throw new UsageError(`--${name}: found ${JSON.stringify(word)}, expected integers from 1 to ` +
      `${most} between commas`);
  });
}

const projectionNames = ['QKV', 'Q-K=V', 'Q=K-V', 'Q=K=V'] as const satisfies
  readonly Projection[];

/** The variants of a shape that were asked for: by default those that the paper compares. */
function variantsOf(shape: string, projections: Projection[] | undefined,
  kvHeads: number[] | undefined): ShapeOptions[] {
  if (projections === undefined && kvHeads === undefined) {
    const paper = paperCaches.filter((cache) => cache.shape === shape);
    if (paper.length === 0) return [{ projection: 'QKV' }, { projection: 'Q-K=V', kvHeads: 1 }];
    return paper.map(({ projection, kvHeads: g }) => ({ projection, kvHeads: g }));
  }
  return (projections ?? ['QKV']).flatMap((projection) => (kvHeads === undefined ? [{ projection }]
    : kvHeads.map((g) => ({ projection, kvHeads: g }))));
}

const dimensions = {
  layers: { most: 1024, help: 'layers' },
  width: { most: 65536, help: 'width' },
  heads: { most: 1024, help: 'query heads' },
  'feed-forward': { most: 2 ** 20, help: 'width of the MLP' },
  vocabulary: { most: 2 ** 20, help: 'tokens of the vocabulary' },
  context: { most: 2 ** 20, help: 'context window in tokens' },
} as const;

function dimensionsOf(values: Values): ShapeOptions {
  const given = Object.entries(dimensions).flatMap(([name, { most }]) => {
    const value = values.integer(name, 1, most);
    return value === undefined ? [] : [[name === 'feed-forward' ? 'feedForward' : name, value]];
  });
  return Object.fromEntries(given) as ShapeOptions;
}

function shapedSubjects(values: Values): Subject[] {
  const given = dimensionsOf(values);
  const names = values.texts('shape');
  const known = Object.keys(shapes);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined && Object.keys(given).length === 0) {
    throw new UsageError(`--shape: found ${JSON.stringify(unknown)}, expected ${
      known.join(', ')}, or dimensions such as --layers and --width`);
  }
  if (names.length === 0 && Object.keys(given).length > 0) names.push('custom');
  const projections = words(values, 'projection', projectionNames);
  const kvHeads = integers(values, 'kv-heads', 1024);
  const types = words(values, 'type', shapeTypes) ?? ['q8_0'];
  if (names.length === 0 && (projections ?? kvHeads ?? values.text('type')) !== undefined) {
    throw new UsageError('--projection, --kv-heads and --type need a --shape');
  }
  try {
    return names.flatMap((shape) => variantsOf(shape, projections, kvHeads).flatMap((variant) =>
      types.map((type) => shapedSubject(shapedModel(shape, { ...variant, ...given, type })))));
  } catch (error) {
    if (error instanceof OneKVError) throw new UsageError(error.message);
    throw error;
  }
}

const fileSubject = (path: string): Subject => ({
  title: basename(path).replace(/\.gguf$/, ''),
  load: (engine, options) => loadModel(engine, path, { ...accessTo(path, note), ...options }),
});

const smallerSubject = (path: string): Subject => ({
  title: basename(path).replace(/q8_0\.gguf$/, 'q4_0'),
  load: (engine, options) => loadModel(engine, requantised(readFileSync(path), path), options),
});

/** The pair of models that ships, as far as it is there; the weights as they are and in q4_0. */
function shipped(quick: boolean): Subject[] {
  return ['stories-qkv', 'stories-q-mqa'].flatMap((name) => {
    try {
      const path = findModel(name);
      return [fileSubject(path), ...(quick ? [] : [smallerSubject(path)])];
    } catch {
      return [];
    }
  });
}

/** Held-out text for the shipped models: --text, or the checkout's. */
function qualityText(values: Values): string | undefined {
  const given = values.text('text');
  if (given !== undefined) return readText(given);
  return existsSync(validationText) ? readText(validationText) : undefined;
}

/** What is no file may be a suite that was typed wrong. */
function checkFile(word: string): void {
  try {
    findModel(word);
  } catch (error) {
    const hint = meant(word, [...suiteNames, 'all']);
    if (/[./]/.test(word) || knownNames().includes(word)) throw error;
    throw new UsageError(`${word}: no such suite or file${
      hint || `; suites are ${suiteNames.join(', ')}`}`);
  }
}

function suitesOf(values: Values): { suites: SuiteName[]; files: string[] } {
  const isSuite = (word: string) => word === 'all' || suiteNames.some((name) => name === word);
  const named = values.positionals.filter(isSuite);
  const suites = named.length === 0 || named.includes('all') ? [...suiteNames]
    : named as SuiteName[];
  const files = values.positionals.filter((word) => !isSuite(word));
  for (const file of files) checkFile(file);
  return { suites, files };
}

function readPlan(values: Values): PlanOptions {
  const { suites, files } = suitesOf(values);
  const quick = values.flag('quick');
  const cores = automaticThreads(availableParallelism());
  const threads = integers(values, 'threads', 32) ?? [cores, 1];
  const levels = hasRelaxedSimd() ? ['relaxed', 'simd128'] as const : ['simd128'] as const;
  const text = qualityText(values);
  const context = values.integer('context', 2, 2 ** 20);
  return {
    suites, quick,
    subjects: [...files.map((file) => fileSubject(findModel(file))), ...shapedSubjects(values)],
    qualitySubjects: shipped(quick),
    quality: text === undefined ? undefined : {
      text, tokens: quick ? 4000 : Number.POSITIVE_INFINITY,
      ...(context === undefined ? {} : { context }),
    },
    threads: [...new Set(threads)].sort((a, b) => b - a),
    simd: words<SimdLevel>(values, 'simd', ['relaxed', 'simd128']) ?? [...levels],
    cacheTypes: words<CacheType>(values, 'cache-type', cacheTypes),
    depths: integers(values, 'depths', 2 ** 20)?.sort((a, b) => a - b),
    pause: async () => {
      await new Promise((resolve) => { setImmediate(resolve); });
      interrupted.throwIfAborted();
    },
  };
}

/** "12 s", "3 min". */
const duration = (seconds: number) =>
  (seconds < 100 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`);

/** What is left, from what was done and what was expected at first. */
function timeLeft(started: number, done: number, total: number): string {
  const passed = (performance.now() - started) / 1000;
  // At first one measurement says little about all the others.
  const factor = (passed + 10) / (done + 10);
  return `${duration((total - done) * factor)} left`;
}

async function measure(plan: PlanOptions, repeat: number): Promise<Report> {
  const started = performance.now();
  const date = new Date().toISOString();
  const busy = watchBusy();
  const progress = new Progress('measuring');
  const models = new Map<string, Report['models'][number]>();
  const batches = makePlan({ ...plan, onLoad: (title, model) => {
    models.set(title, { title, hash: model.hash, parameters: model.estimate.parameters });
  } });
  const expected = expectedSeconds(batches, repeat);
  if (expected > 60) {
    note(`this takes about ${duration(expected)} on two quiet cores${
      plan.quick === true ? '' : '; --quick takes less'}`);
  }
  const results = await runBatches(batches, {
    repeat, signal: interrupted,
    onProgress(done, total, title) {
      progress.show(done, total, `${timeLeft(started, done, total)}, ${title}`);
    },
  });
  progress.clear();
  if (plan.suites.includes('quality') && plan.quality === undefined) {
    results.notes.push('quality was left out: outside of a checkout it needs --text');
  }
  return {
    format: 'onekv-bench', version: 1, date, package: packageVersion(), commit: commit(),
    machine: machine(), engine: `Node ${process.version}, V8 ${process.versions.v8}`,
    options: { suites: plan.suites, quick: plan.quick, repeat, threads: plan.threads,
      simd: plan.simd, cacheTypes: plan.cacheTypes ?? null, depths: plan.depths ?? null },
    models: [...models.values()], seconds: (performance.now() - started) / 1000, busy: busy(),
    ...results,
  };
}

function readReport(file: string): Report {
  let report: Partial<Report>;
  try {
    report = JSON.parse(readText(file)) as Partial<Report>;
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : error}`);
  }
  if (report.format === 'onekv-bench' && report.version === 1) return report as Report;
  throw new UsageError(`${file}: not a report of onekv bench`);
}

async function compare(values: Values): Promise<number> {
  const [before, after, extra] = values.positionals;
  if (before === undefined || after === undefined || extra !== undefined) {
    throw new UsageError('--compare takes two reports: before.json after.json');
  }
  await write(comparisonText(readReport(before), readReport(after)));
  return 0;
}

/** What writes the chart, found before anything is measured. */
function plotter(file: string): (report: Report) => void {
  if (!file.endsWith('.png')) return (report) => writeFileSync(file, chartOf(report));
  const chromium = findChromium();
  if (chromium === undefined) {
    throw new UsageError(`${file}: a PNG is drawn by Chromium or Chrome, and none is on PATH; ` +
      'an SVG needs nothing');
  }
  return (report) => drawPng(chartOf(report), file, chromium);
}

async function run(values: Values): Promise<number> {
  if (values.flag('compare')) return compare(values);
  const plot = values.texts('plot').map(plotter);
  const plan = readPlan(values);
  const repeat = values.integer('repeat', 1, 1000) ?? 5;
  const elsewhere = values.text('simd') === 'simd128' ? undefined : await runElsewhere();
  if (elsewhere !== undefined) return elsewhere;
  const report = await measure(plan, repeat);
  const save = values.text('save');
  if (save !== undefined) {
    writeFileSync(`${save}.json`, `${JSON.stringify(report, null, 1)}\n`);
    writeFileSync(`${save}.md`, markdownOf(report,
      ['npx onekv bench', ...process.argv.slice(3)].join(' ')));
  }
  for (const draw of plot) draw(report);
  if (values.flag('json')) await writeJson(report);
  else await write(textOf(report));
  return report.complete ? 0 : 130;
}

export const bench: Command = {
  name: 'bench',
  summary: 'measure speed, memory and quality of variants, as tables and data',
  usage: '[SUITE…] [FILE…] [options]',
  details: `Suites: ${suiteNames.join(', ')}, or all (default). Without FILE or --shape each ` +
    'suite measures models of its own, mostly with random weights. Ctrl-C ends it and reports ' +
    'what was measured so far. The schema of reports is web/cli/bench/schema.json.',
  example: 'onekv bench speed --quick',
  options: [
    { name: 'quick', help: 'measure less: about two minutes for all suites' },
    { name: 'shape', value: 'NAME', multiple: true, help: 'a model with random weights: ' +
      `${Object.keys(shapes).join(', ')}; or give its dimensions with the next six options` },
    ...Object.entries(dimensions).map(([name, { help }]) => ({ name, value: 'N', help })),
    { name: 'projection', value: 'P,…', help: 'QKV, Q-K=V, Q=K-V, Q=K=V (default: QKV with MHA ' +
      "and Q-K=V with MQA; for the paper's shapes all of its variants)" },
    { name: 'kv-heads', value: 'N,…', help: 'KV heads (default: as many as query heads)' },
    { name: 'type', value: 'T,…', help: 'weights: q8_0 (default), q4_0, f16, f32' },
    { name: 'threads', value: 'N,…', help: 'default: the automatic choice, and 1' },
    { name: 'simd', value: 'L,…', help: 'relaxed, simd128 (default: what this Node has)' },
    { name: 'cache-type', value: 'T,…', help: 'element type of the cache: f16, f32, i8, i4' },
    { name: 'depths', value: 'N,…', help: 'speed: decode after so many tokens' },
    { name: 'text', value: 'FILE', help: 'quality: the text to score (default: ' +
      'models/validation.txt of a checkout), document by document where lines <|end|> or ' +
      '<|endoftext|> part it' },
    { name: 'repeat', value: 'N', help: 'repetitions of each measurement (default 5)' },
    { name: 'json', help: 'print the report as JSON' },
    { name: 'save', value: 'NAME', help: 'write the report to NAME.json and NAME.md' },
    { name: 'plot', value: 'FILE', multiple: true,
      help: 'write a chart as SVG, or as PNG if Chromium is installed' },
    { name: 'compare', help: 'compare two reports, BEFORE.json AFTER.json: what changed ' +
      'beyond noise' },
  ],
  run,
};
