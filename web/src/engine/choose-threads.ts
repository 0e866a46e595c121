// With how many threads a model is fastest, found by trying steps of one row, as decoding has them.
//
// The time is bounded: two samples of 15 ms and one step for each number of threads, with steps of
// at most 100 ms.
import type { Model } from './model.js';
import type { Runner } from './runner.js';

/** Milliseconds of a sample, long enough for threads to wake up, and its steps, for a clock that
 * stands still. */
const sampleMs = 15;
const stepsMost = 250;
/** Milliseconds of a step from which on threads are worth their while. */
const longStep = 100;

/** Milliseconds of the quickest step of one row in a sample. */
function quickest(runner: Runner): number {
  const end = performance.now() + sampleMs;
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i === 0 || (i < stepsMost && performance.now() < end); i++) {
    const started = performance.now();
    runner.step(1);
    best = Math.min(best, performance.now() - started);
  }
  return best;
}

/**
 * The number of threads with the quickest step of one row: one, half of them, or all, twice, so
 * that a machine that is slow for a moment is slow for each. A model whose steps are long with one
 * gets all of them unasked. Steps that are long with several only are those of a machine that has
 * no cores to spare: there the threads wait for each other.
 */
export function chooseThreads(model: Model, runner: Runner, threads: number): number {
  const counts = [...new Set([1, Math.ceil(threads / 2), threads])];
  const best = counts.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < 2; round++) {
    for (const [k, count] of counts.entries()) {
      model.useThreads(count);
      best[k] = Math.min(best[k] ?? 0, quickest(runner));
      if (count === 1 && (best[k] ?? 0) > longStep) return threads;
    }
  }
  return counts[best.indexOf(best.reduce((a, b) => Math.min(a, b)))] ?? 1;
}
