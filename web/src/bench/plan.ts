// Which measurements a run consists of: suites and their defaults, as batches for the runner.
import type { CacheType, Projection, SimdLevel } from '../api/description.js';
import type { Model } from '../engine/model.js';
import { kernelBatches } from './kernels.js';
import { memoryBatches } from './memory.js';
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
  /** Called for each model that was loaded. */
  onLoad?: (title: string, model: Model) => void;
}

/** A model's variants: standard attention, and the smallest cache. */
const twins: readonly { projection: Projection; kvHeads?: number }[] = [
  { projection: 'QKV' }, { projection: 'Q-K=V', kvHeads: 1 },
];

/** The variants between them, for a shape of 6 heads. */
const others: readonly { projection: Projection; kvHeads?: number }[] = [
  { projection: 'Q-K=V' }, { projection: 'Q=K-V' }, { projection: 'Q=K=V' },
  { projection: 'QKV', kvHeads: 2 }, { projection: 'QKV', kvHeads: 1 },
  { projection: 'Q-K=V', kvHeads: 2 },
];

const shaped = (shape: string, options: ShapeOptions = {}) =>
  shapedSubject(shapedModel(shape, options));
const twinsOf = (shape: string, options: ShapeOptions = {}) =>
  twins.map((variant) => shaped(shape, { ...variant, ...options }));

/** The subject, telling of each model that it loads. */
function heard(subject: Subject, { onLoad }: PlanOptions): Subject {
  return {
    ...subject,
    async load(engine, options) {
      const model = await subject.load(engine, options);
      onLoad?.(subject.title, model);
      return model;
    },
  };
}

interface Grid {
  threads: readonly number[];
  simd: readonly SimdLevel[];
  cacheTypes: readonly CacheType[];
}

/** All subjects under all settings; subjects alternate first. */
function cross(options: PlanOptions, subjects: readonly Subject[],
  { threads, simd, cacheTypes }: Grid): Contender[] {
  return threads.flatMap((count) => simd.flatMap((level) => cacheTypes.flatMap((cacheType) =>
    subjects.map((subject) => ({
      subject: heard(subject, options),
      setting: { threads: count, simd: level, cacheType } satisfies Setting,
    })))));
}

/** One setting but for the cache: the most threads, the best SIMD level. */
const best = ({ threads, simd }: PlanOptions) => ({
  threads: threads.slice(0, 1), simd: simd.slice(0, 1),
});

function speedBatches(options: PlanOptions): Batch[] {
  const { quick, threads, simd } = options;
  const sizes = quick ? { prefill: 128, read: 128, decode: 16 }
    : { prefill: 512, read: 128, decode: 32 };
  const depths = options.depths ?? (quick ? [128, 1024] : [128, 1024, 4096, 16384]);
  const speeds = { ...sizes, depths };
  const f16 = options.cacheTypes ?? ['f16'] as const;
  if (options.subjects.length > 0) {
    return [speedBatch(cross(options, options.subjects, { threads, simd, cacheTypes: f16 }),
      speeds)];
  }
  const small = twinsOf('S');
  const fastest = { ...best(options), cacheTypes: f16 };
  if (quick) return [speedBatch(cross(options, small, fastest), speeds)];
  const every = options.cacheTypes ?? ['f16', 'f32', 'i8', 'i4'] as const;
  // A level a batch: all of its caches of 16 Ki tokens are in memory at the same time.
  const deep = simd.map((level, i) => speedBatch([
    ...cross(options, small, { threads, simd: [level], cacheTypes: every }),
    ...(i === 0 ? cross(options, others.map((variant) => shaped('S', variant)), fastest) : []),
  ], speeds));
  const shallow = { ...speeds, depths: depths.filter((depth) => depth <= 1024) };
  return [...deep,
    speedBatch(cross(options, twinsOf('M'), { threads, simd, cacheTypes: f16 }), shallow)];
}

function sessionBatches(options: PlanOptions): Batch[] {
  const { quick, subjects, cacheTypes = ['f16'] } = options;
  const measured = subjects.length > 0 ? subjects
    : [shaped(quick ? 'S' : 'M', { projection: 'Q-K=V', kvHeads: 1 })];
  const counts = quick ? [1, 2, 8] : [1, 2, 4, 8, 16, 32, 64];
  return cross(options, measured, { ...best(options), cacheTypes })
    .map((contender) => sessionsBatch(contender, counts, 16));
}

function loadBatches(options: PlanOptions): Batch[] {
  const { quick, subjects } = options;
  const measured = subjects.length > 0 ? subjects : quick ? [shaped('S')]
    : [shaped('S'), shaped('M'), shaped('M', { type: 'q4_0' })];
  return cross(options, measured, { ...best(options), cacheTypes: ['f16'] }).map(loadBatch);
}

/** The paper's variants of its models. */
function paperSubjects(type: ShapeType): Subject[] {
  return paperCaches.map(({ shape, projection, kvHeads }) =>
    shaped(shape, { projection, kvHeads, type }));
}

function bytesBatches(options: PlanOptions): Batch[] {
  const { quick, subjects } = options;
  const every = options.cacheTypes ??
    (quick ? ['f16'] as const : ['f16', 'f32', 'i8', 'i4'] as const);
  const at = (measured: readonly Subject[], cacheTypes: readonly CacheType[]) =>
    cross(options, measured, { ...best(options), threads: [1], cacheTypes });
  if (subjects.length > 0) return memoryBatches(at(subjects, every));
  if (quick) return memoryBatches(at(twinsOf('S'), every));
  return memoryBatches(at([...paperSubjects('q8_0'), ...paperSubjects('q4_0')], every));
}

function qualityBatches(options: PlanOptions): Batch[] {
  const { quality, pause, quick } = options;
  if (quality === undefined) return [];
  const subjects = options.subjects.filter(({ shaped: random }) => random === undefined);
  const measured = subjects.length > 0 ? subjects : options.qualitySubjects;
  const cacheTypes = options.cacheTypes ??
    (quick ? ['f16'] as const : ['f16', 'f32', 'i8', 'i4'] as const);
  return cross(options, measured, { ...best(options), cacheTypes })
    .map((contender) => qualityBatch(contender, { ...quality, pause }));
}

const makers: Record<SuiteName, (options: PlanOptions) => Batch[]> = {
  quality: qualityBatches,
  memory: bytesBatches,
  speed: speedBatches,
  batch: sessionBatches,
  load: loadBatches,
  kernels: ({ quick, simd: [simd = 'simd128'] }) => kernelBatches({ simd }, quick),
};

/** The batches of the suites asked for, in the order of suiteNames. */
export function makePlan(options: PlanOptions): Batch[] {
  return suiteNames.filter((name) => options.suites.includes(name))
    .flatMap((name) => makers[name](options));
}
