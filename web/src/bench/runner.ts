// Runs measurements: warm-up, repetitions in turn, summaries, and what there is after an interrupt.
//
// A suite is a list of batches, and a batch is what is compared: its cases run one after the
// other, again and again, every second time backwards, so that a machine that gets slower does so
// for all of them alike. Batches are plain descriptions until they are opened: their number is
// what progress is measured by.
import { yieldToOthers } from '../util/event-loop.js';
import { summarise } from './statistics.js';
import type { Summary } from './statistics.js';

export interface Labels {
  suite: string;
  /** Which model, in words. */
  model: string;
  /** What was measured: "decode after 1024". */
  name: string;
  unit: string;
  /** Which direction is better; 'none': neither. */
  better: 'more' | 'less' | 'none';
  threads?: number;
  simd?: string;
  cacheType?: string;
  /** Not measured but computed from something measured: how. */
  computed?: string;
}

export interface Outcome {
  value: number;
  /** Of the output's bits. */
  hash?: string;
}

export interface Case {
  labels: Labels;
  /** Bytes and perplexities are what they are: one run, no warm-up. */
  exact?: boolean;
  /** What one run takes, about; default 1. */
  seconds?: number;
  /** undefined: there is nothing to measure (a note says why). */
  run(): Outcome | undefined | Promise<Outcome | undefined>;
}

export interface Batch {
  /** For progress. */
  title: string;
  cases: readonly Case[];
  /** What opening takes, about; default 1. */
  seconds?: number;
  /** Gets ready what the cases need. Where that takes long, `pause` tells what part of it is done,
   * and lets an interrupt in. */
  open(pause: (part: number) => Promise<void>): Promise<void>;
  close(): void;
}

export interface Row extends Labels, Summary {
  /** Distinct hashes of all runs: one, if the outputs agree. */
  hashes: string[];
}

/** What a batch took, and what was expected of it. */
interface Timing {
  title: string;
  seconds: number;
  expected: number;
}

export interface Results {
  rows: Row[];
  timings: Timing[];
  /** What is off, or was left out. */
  notes: string[];
  /** Spread of a fixed piece of work that ran between the measurements, in parts of its median. */
  noise: number;
  /** false: interrupted. */
  complete: boolean;
}

export interface RunOptions {
  /** Measured repetitions, at least 1. */
  repeat: number;
  signal?: AbortSignal;
  /** done of total, in seconds that were expected. */
  onProgress?: (done: number, total: number, title: string) => void;
}

const roundsOf = (one: Case, repeat: number) => (one.exact === true ? 1 : repeat + 1);

/** Seconds that a batch will take, about. */
const batchSeconds = ({ cases, seconds = 1 }: Batch, repeat: number) => seconds +
  cases.reduce((sum, one) => sum + roundsOf(one, repeat) * (one.seconds ?? 1), 0);

/** Seconds that a run will take, about. */
export const expectedSeconds = (batches: readonly Batch[], repeat: number) =>
  batches.reduce((sum, batch) => sum + batchSeconds(batch, repeat), 0);

interface Taken {
  labels: Labels;
  values: number[];
  hashes: Set<string>;
}

/** Milliseconds of the same arithmetic each time. */
function fixedWork(): number {
  const started = performance.now();
  let state = 1;
  for (let i = 0; i < 4_000_000; i++) state = (Math.imul(state, 1664525) + 1013904223) | 0;
  // The result is looked at, so that no compiler leaves the work out.
  return state === 0 ? 0 : performance.now() - started;
}

class Runner {
  readonly #options: RunOptions;
  readonly #total: number;
  readonly #fixed: number[] = [];
  readonly notes: string[] = [];
  readonly rows: Row[] = [];
  readonly timings: Timing[] = [];
  #done = 0;

  constructor(batches: readonly Batch[], options: RunOptions) {
    this.#options = options;
    this.#total = expectedSeconds(batches, options.repeat);
    for (let i = 0; i < 3; i++) fixedWork();
  }

  get noise(): number {
    return this.#fixed.length < 2 ? 0 : summarise(this.#fixed).spread;
  }

  /** Tells how far the run is, and lets interrupts in. */
  async #pause(title: string, seconds = 0): Promise<void> {
    this.#options.onProgress?.(this.#done + seconds, this.#total, title);
    await yieldToOthers();
    this.#options.signal?.throwIfAborted();
  }

  async #step(title: string, seconds: number, work: () => Promise<void>): Promise<void> {
    await this.#pause(title);
    await work();
    this.#done += seconds;
  }

  async #once(one: Case, taken: Taken, counts: boolean): Promise<void> {
    const outcome = await one.run();
    if (outcome === undefined) return;
    if (outcome.hash !== undefined) taken.hashes.add(outcome.hash);
    if (counts) taken.values.push(outcome.value);
  }

  /** Rows of what was taken, be it all or not. */
  #finish(taken: ReadonlyMap<Case, Taken>): void {
    for (const { labels, values, hashes } of taken.values()) {
      if (values.length === 0) continue;
      this.rows.push({ ...labels, hashes: [...hashes], ...summarise(values) });
      if (hashes.size > 1) {
        this.notes.push(`${labels.model}, ${labels.name}: runs gave different outputs`);
      }
    }
  }

  async batch(batch: Batch): Promise<void> {
    const { title, cases, open, close, seconds = 1 } = batch;
    const { repeat } = this.#options;
    const started = performance.now();
    const before = this.#done;
    const expected = batchSeconds(batch, repeat);
    const taken = new Map(cases.map((one) => [one,
      { labels: one.labels, values: [], hashes: new Set<string>() } as Taken]));
    try {
      await this.#step(title, seconds, () =>
        open((part) => this.#pause(title, part * seconds)));
      const rounds = Math.max(0, ...cases.map((one) => roundsOf(one, repeat)));
      for (let round = 0; round < rounds; round++) {
        const order = round % 2 === 0 ? cases : [...cases].reverse();
        for (const one of order) {
          if (round >= roundsOf(one, repeat)) continue;
          await this.#step(title, one.seconds ?? 1, () =>
            this.#once(one, taken.get(one) as Taken, one.exact === true || round > 0));
        }
        const fixed = fixedWork();
        // The engine still tidies up after opening: half as long again, on the quietest machine.
        if (round > 0) this.#fixed.push(fixed);
      }
    } finally {
      this.#finish(taken);
      close();
      this.#done = before + expected;
      this.timings.push({ title, seconds: (performance.now() - started) / 1000, expected });
    }
  }
}

/**
 * Runs the batches. An abort ends the run after the measurement that is under way, and what was
 * measured until then is the result; a batch that fails becomes a note.
 */
export async function runBatches(batches: readonly Batch[], options: RunOptions):
  Promise<Results> {
  const runner = new Runner(batches, options);
  let complete = true;
  for (const batch of batches) {
    try {
      await runner.batch(batch);
    } catch (error) {
      complete = options.signal?.aborted !== true;
      if (!complete) break;
      runner.notes.push(`${batch.title}: ${error instanceof Error ? error.message : error}`);
    }
  }
  const { rows, notes, noise, timings } = runner;
  return { rows, notes, noise, timings, complete };
}
