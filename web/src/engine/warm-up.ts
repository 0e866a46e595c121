// What loading ends with: the model runs for a moment, so that the engine's optimising compiler has
// taken the kernels before the first token is asked for, and chooses its threads.
//
// A kernel is compiled anew after some hundred calls, in the background; a function that is entered
// once stays slow to its end. The time is bounded: 60 ms and one step, and what choose-threads.ts
// takes; so is the number of steps, for a clock that stands still. Nothing of it is left but a
// higher peak of the memory report, by one page of the cache.
import { OneKVError } from '../api/errors.js';
import { yieldToOthers } from '../util/event-loop.js';
import { chooseThreads } from './choose-threads.js';
import type { Model } from './model.js';
import { openRunner } from './runner.js';
import type { Runner } from './runner.js';

/** Milliseconds. */
const budget = 60;
const stepsMost = 250;
/** Rows of the few steps with many rows: prefill has kernels of its own. */
const manyRows = 16;

/** Steps until the budget is spent: mostly of one row, as decoding has. */
function warm(runner: Runner): void {
  const end = performance.now() + budget;
  for (let i = 0; i === 0 || (i < stepsMost && performance.now() < end); i++) {
    runner.step(i % 8 === 1 ? manyRows : 1);
  }
}

async function run(model: Model, signal: AbortSignal | undefined): Promise<void> {
  const { engine } = model;
  const runner = openRunner(model);
  try {
    warm(runner);
    await yieldToOthers();
    signal?.throwIfAborted();
    if (engine.choosesThreads && engine.threads > 1) {
      model.useThreads(chooseThreads(model, runner, engine.threads));
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
