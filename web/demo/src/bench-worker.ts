// The suites of onekv bench in a worker of their own. Message in: { suites, repeat }; out:
// progress, then a report of the command line's schema but for what only the page knows.
/// <reference lib="webworker" />
import { makePlan, runBatches } from 'onekv/bench';
import type { SuiteName } from 'onekv/bench';
import { Engine, hasRelaxedSimd, threadsFromPage } from 'onekv/engine';

interface BenchJob {
  suites: SuiteName[];
  repeat: number;
}

/** What this page can start: both of two threads, or one. */
async function findThreads(): Promise<{ threads: number[]; notes: readonly string[] }> {
  const engine = await Engine.open({ threads: 2 });
  const { threads, notes } = engine;
  engine.destroy();
  return { threads: [...new Set([threads, 1])], notes };
}

async function run({ suites, repeat }: BenchJob) {
  const { threads, notes } = await findThreads();
  const models = new Map<string, { title: string; hash: string; parameters: number }>();
  const started = performance.now();
  const batches = makePlan({
    suites, quick: true, threads, subjects: [], qualitySubjects: [], quality: undefined,
    simd: hasRelaxedSimd() ? ['relaxed', 'simd128'] : ['simd128'],
    cacheTypes: undefined, depths: undefined, pause: async () => {},
    onLoad: (title, { hash, estimate }) => {
      models.set(title, { title, hash, parameters: estimate.parameters });
    },
  });
  const results = await runBatches(batches, {
    repeat,
    onProgress: (done, total, title) => postMessage({ done, total, title }),
  });
  return {
    ...results, notes: [...notes, ...results.notes], models: [...models.values()],
    options: { suites, quick: true, repeat, threads },
    seconds: (performance.now() - started) / 1000,
  };
}

export type BenchReport = Awaited<ReturnType<typeof run>>;
export type BenchMessage = { done: number; total: number; title: string } |
  { report: BenchReport } | { error: string };

threadsFromPage();
addEventListener('message', ({ data }: MessageEvent<BenchJob>) => {
  run(data).then((report) => postMessage({ report }), (error: unknown) =>
    postMessage({ error: error instanceof Error ? error.message : String(error) }));
});
