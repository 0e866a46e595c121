// Suite of kernels: how near each one comes to what the engine can do (peaks.ts), seen through
// whole models that are made of little else.
//
// Matrices: a model whose work is its weights. One token reads all of them (bytes per second), many
// tokens multiply with them (operations per second). Attention: what 4096 positions more take.
import type { CacheType, SimdLevel } from '../api/description.js';
import { chooseSeconds, loadSeconds, readSeconds } from './costs.js';
import { measurePeaks } from './peaks.js';
import type { Peaks } from './peaks.js';
import { measureDecode, measurePrefill, sessionsAt } from './rates.js';
import type { Batch, Case, Labels } from './runner.js';
import { shapeTypes, shapedModel } from './shapes.js';
import type { ShapeOptions } from './shapes.js';
import { Stable, labelsOf, shapedSubject } from './subjects.js';
import type { Contender } from './subjects.js';

interface Level {
  simd: SimdLevel;
}

const small = { vocabulary: 512, context: 8192, layers: 2, heads: 16, width: 1024 } as const;
const matrices: ShapeOptions = { ...small, kvHeads: 1, feedForward: 4096 };
const attention: ShapeOptions = { ...small, feedForward: 32, type: 'q8_0' };
const deep = 4096;

const contenderOf = (title: string, options: ShapeOptions, simd: SimdLevel,
  cacheType: CacheType = 'f16'): Contender => ({
  subject: { ...shapedSubject(shapedModel('kernels', options)), title },
  setting: { threads: 1, simd, cacheType },
});

function labelsFor(contender: Contender, name: string, unit: string): Labels {
  return { suite: 'kernels', ...labelsOf(contender), name, unit, better: 'more' };
}

function peaksBatch({ simd }: Level): Batch {
  let peaks: Peaks | undefined;
  const figure = (name: keyof Peaks, title: string, unit: string): Case => ({
    labels: { suite: 'kernels', model: "the engine's peak", threads: 1, simd, name: title, unit,
      better: 'none' },
    exact: true,
    seconds: 0.1,
    async run() {
      peaks ??= await measurePeaks(simd);
      return { value: peaks[name] };
    },
  });
  return {
    title: 'kernels: peaks',
    cases: [figure('int8', 'int8 products', 'GOP/s'), figure('int4', '4-bit products', 'GOP/s'),
      figure('f32', 'f32 products', 'GFLOP/s'), figure('read', 'reading memory', 'GB/s')],
    open: async () => {},
    close: () => {},
  };
}

/** Bytes and multiplications of one token: all matrices but the embedding's other rows. */
function matricesBatch({ simd }: Level, quick: boolean): Batch {
  const stable = new Stable();
  const contenders = shapeTypes.map((type) =>
    contenderOf(`matrices ${type}`, { ...matrices, type }, simd));
  const many = quick ? 64 : 256;
  const cases = contenders.flatMap((contender): Case[] => [
    {
      labels: labelsFor(contender, '1 token', 'GB/s'),
      seconds: chooseSeconds(contender, 8, quick ? 8 : 16),
      run() {
        const model = stable.model(contender);
        const [session] = sessionsAt(model, [8]);
        const { value, hash } = measureDecode(session!, quick ? 8 : 16);
        session!.destroy();
        return { value: value * model.estimate.weightBytes / 1e9, hash };
      },
    },
    {
      labels: labelsFor(contender, `${many} tokens`, 'GOP/s'),
      seconds: readSeconds(contender, many),
      run() {
        const model = stable.model(contender);
        const { value, hash } = measurePrefill(model, many);
        return { value: value * 2 * model.estimate.parameters / 1e9, hash };
      },
    },
  ]);
  return {
    title: 'kernels: matrices',
    cases,
    seconds: contenders.reduce((sum, { subject }) => sum + loadSeconds(subject), 0),
    async open() {
      for (const contender of contenders) await stable.load(contender);
    },
    close: () => stable.close(),
  };
}

/** Scores and sums over the cache: 2 products of 2 operations for each query element. */
const attentionWork = 4 * small.layers * small.width * (deep - 8);

function attentionBatch({ simd }: Level, quick: boolean): Batch {
  const stable = new Stable();
  const variants: [string, ShapeOptions][] = [
    ['attention QKV MHA', { kvHeads: small.heads }],
    ['attention Q-K=V MQA', { projection: 'Q-K=V', kvHeads: 1 }],
  ];
  const types: CacheType[] = quick ? ['f16'] : ['f16', 'f32', 'i8', 'i4'];
  const contenders = variants.flatMap(([title, options]) => types.map((type) =>
    contenderOf(title, { ...attention, ...options }, simd, type)));
  const sessions = new Map<Contender, ReturnType<typeof sessionsAt>>();
  const decode = quick ? 8 : 16;
  return {
    title: 'kernels: attention',
    seconds: contenders.reduce((sum, contender) => sum + readSeconds(contender, deep), 0),
    cases: contenders.map((contender) => ({
      labels: labelsFor(contender, `${deep} positions`, 'GFLOP/s'),
      seconds: chooseSeconds(contender, deep, decode),
      run() {
        const [near, far] = sessions.get(contender)!.map((session) =>
          1 / measureDecode(session, decode).value);
        const seconds = far! - near!;
        return seconds > 0 ? { value: attentionWork / seconds / 1e9 } : undefined;
      },
    })),
    async open() {
      for (const contender of contenders) {
        sessions.set(contender, sessionsAt(await stable.load(contender), [8, deep]));
      }
    },
    close: () => stable.close(),
  };
}

export function kernelBatches(level: Level, quick: boolean): Batch[] {
  return [peaksBatch(level), matricesBatch(level, quick), attentionBatch(level, quick)];
}
