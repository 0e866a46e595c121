// What loading ends with: the model runs for a moment, so that the engine's optimising compiler has
// taken the kernels before the first token is asked for, and finds out how many threads are
// fastest.
//
// A kernel is compiled anew after some hundred calls, in the background; a function that is entered
// once stays slow to its end. The time is bounded: 60 ms and one step for the first part; two turns
// of 15 ms and one step for each number of threads, with steps of at most 100 ms, for the second.
// Nothing of it is left but a higher peak of the memory report, by one page of the cache.
import { OneKVError } from '../api/errors.js';
import type { Model } from './model.js';

/** Milliseconds of the first part. */
const budget = 60;
/** Milliseconds with one number of threads. */
const turn = 15;
/** Milliseconds of a step from which on threads are worth their while. */
const longStep = 100;
/** Rows of the few steps with many rows: prefill has kernels of its own. */
const manyRows = 16;

/** Runs one step of some rows; `close` leaves nothing behind. */
interface Runner {
  step(rows: number): void;
  close(): void;
}

/** A bidirectional model has one kind of step: a whole sequence. */
function openEncoder(model: Model): Runner {
  const { features, contextWindow } = model.description;
  const rows = Math.max(1, Math.min(64, contextWindow - 1));
  const input = features > 0 ? new Float32Array(rows * features) : new Int32Array(rows);
  return { step: () => { model.encode(input); }, close: () => model.trim() };
}

function openRunner(model: Model): Runner {
  if (!model.description.causal) return openEncoder(model);
  const { contextWindow } = model;
  const session = model.openSession({ temperature: 0 });
  return {
    step: (asked) => {
      const rows = Math.min(asked, contextWindow);
      if (session.length + rows > contextWindow) session.truncate(0);
      session.append(new Int32Array(rows));
      session.logits();
    },
    close: () => {
      session.destroy();
      model.trim();
    },
  };
}

/** Milliseconds of the quickest step of one row, in a turn long enough for threads to wake up. */
function quickest(runner: Runner): number {
  const end = performance.now() + turn;
  let best = Number.POSITIVE_INFINITY;
  let started = 0;
  do {
    started = performance.now();
    runner.step(1);
    best = Math.min(best, performance.now() - started);
  } while (performance.now() < end);
  return best;
}

/** Lets other code on this thread run. */
const pause = () => new Promise<void>((resolve) => {
  setTimeout(resolve, 0);
});

/** Steps until the budget is spent: mostly of one row, as decoding has. */
function warm(runner: Runner): void {
  const end = performance.now() + budget;
  for (let i = 0; i === 0 || performance.now() < end; i++) {
    runner.step(i % 8 === 1 ? manyRows : 1);
  }
}

/**
 * The number of threads with the quickest step of one row: one, half of them, or all, in turns, so
 * that a machine that is slow for a moment is slow for each. A model whose steps are long with one
 * gets all of them unasked. Steps that are long with several only are those of a machine that has
 * no cores to spare: there the threads wait for each other.
 */
function fastest(model: Model, runner: Runner, threads: number): number {
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

async function run(model: Model, signal: AbortSignal | undefined): Promise<void> {
  const { engine } = model;
  const runner = openRunner(model);
  try {
    warm(runner);
    await pause();
    signal?.throwIfAborted();
    if (engine.choosesThreads && engine.threads > 1) {
      model.useThreads(fastest(model, runner, engine.threads));
    }
  } finally {
    runner.close();
  }
}

/** The model stays the caller's. An abort throws the signal's reason; where there is no memory for
 * a session of a page the model is left as it is. */
export async function warmUp(model: Model, signal?: AbortSignal): Promise<void> {
  try {
    await run(model, signal);
  } catch (error) {
    if (!(error instanceof OneKVError && error.code === 'OUT_OF_MEMORY')) throw error;
    model.useThreads(model.engine.threads);
  }
}
