// Which measurements a run consists of: suites and their defaults, as batches for the runner.
import type { CacheType, Projection } from '../description.js';
import type { SimdLevel } from '../wasm-module.js';
import { kernelBatches } from './kernels.js';
import { memoryBatch } from './memory.js';
import { paperCaches } from './paper.js';
import { qualityBatch } from './quality.js';
import type { QualityOptions } from './quality.js';
import type { Batch } from './runner.js';
import { shapedModel } from './shapes.js';
import type { ShapeOptions, ShapeType } from './shapes.js';
import { loadBatch, sessionsBatch, speedBatch } from './speed.js';
import { shapedSubject } from './subjects.js';
import type { Contender, Setting, Subject } from './subjects.js';

export const suiteNames = ['quality', 'memory', 'speed', 'batch', 'load', 'kernels'] as const;
export type SuiteName = (typeof suiteNames)[number];

export interface PlanOptions {
  suites: readonly SuiteName[];
  /** Models to measure instead of the suites' own shapes. */
  subjects: readonly Subject[];
  /** Models with a tokenizer, for quality without subjects. */
  qualitySubjects: readonly Subject[];
  /** Undefined: no quality. */
  quality: Omit<QualityOptions, 'pause'> | undefined;
  quick: boolean;
  /** In falling order: what the first one reads, the others need not. */
  threads: readonly number[];
  simd: readonly SimdLevel[];
  /** What was asked for; undefined: the suites' own choice. */
  cacheTypes: readonly CacheType[] | undefined;
  depths: readonly number[] | undefined;
  pause(): Promise<void>;
}

/** A model's variants: standard attention, and the smallest cache. */
const twins: readonly { projection: Projection; kvHeads?: number }[] = [
  { projection: 'QKV' }, { projection: 'Q-K=V', kvHeads: 1 },
];

const shaped = (shape: string, options: ShapeOptions = {}) =>
  shapedSubject(shapedModel(shape, options));
const twinsOf = (shape: string, options: ShapeOptions = {}) =>
  twins.map((variant) => shaped(shape, { ...variant, ...options }));

/** All subjects under all settings; subjects alternate first. */
function cross(subjects: readonly Subject[], threads: readonly number[],
  simd: readonly SimdLevel[], cacheTypes: readonly CacheType[]): Contender[] {
  return threads.flatMap((count) => simd.flatMap((level) => cacheTypes.flatMap((cacheType) =>
    subjects.map((subject) => ({
      subject, setting: { threads: count, simd: level, cacheType } satisfies Setting,
    })))));
}

const best = (options: PlanOptions) => ({
  threads: options.threads[0] as number, simd: options.simd[0] as SimdLevel,
});

function speedBatches(options: PlanOptions): Batch[] {
  const { quick, threads, simd, cacheTypes } = options;
  const sizes = quick ? { prefill: 128, decode: 16 } : { prefill: 512, decode: 32 };
  const depths = options.depths ?? (quick ? [128, 1024] : [128, 1024, 4096, 16384]);
  const speeds = { ...sizes, depths };
  const types = cacheTypes ?? ['f16'];
  if (options.subjects.length > 0) {
    return [speedBatch(cross(options.subjects, threads, simd, types), speeds)];
  }
  const small = twinsOf('S');
  const first = speedBatch(cross(small, quick ? [best(options).threads] : threads,
    quick ? [best(options).simd] : simd, types), speeds);
  if (quick) return [first];
  const shallow = { ...speeds, depths: depths.filter((depth) => depth <= 1024) };
  return [
    first,
    // Other caches where a cache matters.
    ...(cacheTypes === undefined ? [speedBatch(cross(small, [best(options).threads],
      [best(options).simd], ['f16', 'f32', 'i8']),
    { ...sizes, prefill: 0, depths: depths.filter((depth) => depth === 4096) })] : []),
    speedBatch(cross(twinsOf('M'), threads, simd, types), shallow),
  ];
}

function sessionBatches(options: PlanOptions): Batch[] {
  const { quick, subjects, cacheTypes } = options;
  const measured = subjects.length > 0 ? subjects
    : [shaped(quick ? 'S' : 'M', { projection: 'Q-K=V', kvHeads: 1 })];
  const counts = quick ? [1, 2, 8] : [1, 2, 4, 8, 16, 32, 64];
  return cross(measured, [best(options).threads], [best(options).simd], cacheTypes ?? ['f16'])
    .map((contender) => sessionsBatch(contender, counts, quick ? 4 : 8));
}

function loadBatches(options: PlanOptions): Batch[] {
  const { quick, subjects } = options;
  const measured = subjects.length > 0 ? subjects : quick ? [shaped('S')]
    : [shaped('S'), shaped('M'), shaped('M', { type: 'q4_0' })];
  return measured.map((subject) => loadBatch(subject, { ...best(options), cacheType: 'f16' }));
}

/** The paper's variants of its models. The cache does not ask for the weights' type. */
function paperSubjects(type: ShapeType): Subject[] {
  return paperCaches.map(({ shape, projection, kvHeads }) =>
    shaped(shape, { projection, kvHeads, type }));
}

function memoryBatches(options: PlanOptions): Batch[] {
  const { quick, subjects, cacheTypes } = options;
  const all = cacheTypes ?? (quick ? ['f16'] as const : ['f16', 'f32', 'i8'] as const);
  const setting = { threads: 1, simd: best(options).simd };
  const at = (measured: readonly Subject[], types: readonly CacheType[]) =>
    cross(measured, [setting.threads], [setting.simd], types).map(memoryBatch);
  if (subjects.length > 0) return at(subjects, all);
  if (quick) return at(twinsOf('S'), all);
  return [...at(paperSubjects('q8_0'), all), ...at(paperSubjects('q4_0'), ['f16'])];
}

function qualityBatches(options: PlanOptions): Batch[] {
  const { quality, pause, cacheTypes, quick } = options;
  if (quality === undefined) return [];
  const subjects = options.subjects.filter(({ shaped: random }) => random === undefined);
  const measured = subjects.length > 0 ? subjects : options.qualitySubjects;
  return cross(measured, [best(options).threads], [best(options).simd],
    cacheTypes ?? (quick ? ['f16'] : ['f16', 'f32', 'i8']))
    .map((contender) => qualityBatch(contender, { ...quality, pause }));
}

const makers: Record<SuiteName, (options: PlanOptions) => Batch[]> = {
  quality: qualityBatches,
  memory: memoryBatches,
  speed: speedBatches,
  batch: sessionBatches,
  load: loadBatches,
  kernels: ({ quick, ...options }) => kernelBatches(best({ quick, ...options }), quick),
};

/** The batches of the suites asked for, in the order of suiteNames. */
export function makePlan(options: PlanOptions): Batch[] {
  return suiteNames.filter((name) => options.suites.includes(name))
    .flatMap((name) => makers[name](options));
}
