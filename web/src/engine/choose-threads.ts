// With how many threads a model is fastest, found by trying steps of one row, as decoding has them.
//
// The time is bounded: two samples of 15 ms for each number of threads; where a step takes more
// than 100 ms with one thread, a step or two of two numbers alone.
import type { Model } from './model.js';
import type { Runner } from './runner.js';

/** Milliseconds of a sample, long enough for threads to wake up, and its steps, for a clock that
 * stands still. */
const sampleMs = 15;
const stepsMost = 250;
/** Milliseconds of a step from which on many threads are worth their while. */
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

/** 1, 2, 4 and so on, and all of them. */
function numbers(threads: number): number[] {
  const counts = [];
  for (let count = 1; count < threads; count *= 2) counts.push(count);
  return [...counts, threads];
}

/**
 * The number of threads with the quickest step of one row, each tried twice, so that a machine that
 * is slow for a moment is slow for each. Logical cores may be halves of one, and other programs may
 * want them: there threads wait for each other, which only trying tells. A model whose steps are
 * long with one thread tries the two largest numbers beside it, and once.
 */
export function chooseThreads(model: Model, runner: Runner, threads: number): number {
  const best = new Map<number, number>();
  const trial = (count: number): number => {
    model.useThreads(count);
    const ms = Math.min(best.get(count) ?? Number.POSITIVE_INFINITY, quickest(runner));
    best.set(count, ms);
    return ms;
  };
  const all = numbers(threads), several = all.slice(1);
  const rest = trial(1) > longStep ? several.slice(-2) : [...several, ...all];
  for (const count of rest) trial(count);
  return [...best].reduce((a, b) => (b[1] < a[1] ? b : a))[0];
}
