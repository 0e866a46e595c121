// Moves the sessions of a model on together: each round appends some of the inputs
// that wait, then chooses a token for every session that wants one, all in common steps. Between
// rounds the event loop runs, so that aborts are heard and what came out is sent.
//
// A session is in here at most once: the caller ensures it (one call at a time per session).
import type { Stepper } from '../engine/generate.js';
import type { Model } from '../engine/model.js';
import type { Session } from '../engine/session.js';
import type { AdvanceOptions, AdvanceOutcome, Choice } from '../engine/step.js';
import { yieldToOthers } from '../util/event-loop.js';

interface Append {
  session: Session;
  tokens: Int32Array;
  done: number;
  signal: AbortSignal | undefined;
  onDone: (done: number) => void;
  resolve: () => void;
  reject: (reason: unknown) => void;
}

interface Next {
  session: Session;
  options: AdvanceOptions;
  resolve: (choice: Choice) => void;
  reject: (reason: unknown) => void;
}

/** Tokens of input in one round: as many as take about this long, within limits. */
const inputMs = 30;
const inputLeast = 16;
const inputMost = 512;

export class Scheduler implements Stepper {
  readonly #model: Model;
  readonly #onRound: () => void;
  #appends: Append[] = [];
  #nexts: Next[] = [];
  #inputTokens = 32;
  #runs = false;

  /** onRound is called after each round. */
  constructor(model: Model, onRound: () => void = () => {}) {
    this.#model = model;
    this.#onRound = onRound;
  }

  /** Aborting rejects with the signal's reason; the session then has a part of the tokens. */
  append(session: Session, tokens: Int32Array, signal: AbortSignal | undefined,
    onDone: (done: number) => void): Promise<void> {
    if (tokens.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#appends.push({ session, tokens, done: 0, signal, onDone, resolve, reject });
      this.#start();
    });
  }

  next(session: Session, options: AdvanceOptions): Promise<Choice> {
    return new Promise((resolve, reject) => {
      this.#nexts.push({ session, options, resolve, reject });
      this.#start();
    });
  }

  #start(): void {
    if (this.#runs) return;
    this.#runs = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    // Those who ask at the same time come along.
    await yieldToOthers();
    while (this.#appends.length + this.#nexts.length > 0) {
      this.#dropAborted();
      this.#appendSome();
      this.#choose();
      this.#onRound();
      await yieldToOthers();
    }
    this.#runs = false;
  }

  #dropAborted(): void {
    const aborted = this.#appends.filter(({ signal }) => signal?.aborted);
    this.#appends = this.#appends.filter((job) => !aborted.includes(job));
    for (const { reject, signal } of aborted) reject(signal?.reason);
  }

  /** Whole inputs that fit in the round's tokens, then a part of the next one, which then waits
   * behind the others: a long input holds up none. */
  #appendSome(): void {
    let room = this.#inputTokens;
    const jobs: Append[] = [];
    for (const job of this.#appends) {
      if (room === 0) break;
      jobs.push(job);
      room -= Math.min(room, job.tokens.length - job.done);
    }
    if (jobs.length === 0) return;
    room = this.#inputTokens;
    const requests = jobs.map(({ session, tokens, done }) => {
      const count = session.stepLimit(Math.min(room, tokens.length - done));
      room -= count;
      return { session, tokens: tokens.subarray(done, done + count) };
    });
    const started = performance.now();
    let errors: unknown[];
    try {
      errors = this.#model.appendEach(requests);
    } catch (error) {
      errors = jobs.map(() => error);
    }
    if (room === 0) this.#adjust(performance.now() - started);
    jobs.forEach((job, i) => {
      job.done += requests[i]?.tokens.length ?? 0;
      if (errors[i] !== undefined) job.reject(errors[i]);
      else this.#tell(job);
    });
    const open = jobs.filter((job, i) => errors[i] === undefined &&
      job.done < job.tokens.length);
    this.#appends = [...this.#appends.slice(jobs.length), ...open];
  }

  #tell(job: Append): void {
    job.onDone(job.done);
    if (job.done === job.tokens.length) job.resolve();
  }

  #adjust(ms: number): void {
    if (ms < inputMs / 2) this.#inputTokens = Math.min(inputMost, this.#inputTokens * 2);
    else if (ms > inputMs * 2) this.#inputTokens = Math.max(inputLeast, this.#inputTokens / 2);
  }

  #choose(): void {
    const jobs = this.#nexts;
    this.#nexts = [];
    if (jobs.length === 0) return;
    let outcomes: AdvanceOutcome[];
    try {
      outcomes = this.#model.advanceEach(jobs);
    } catch (error) {
      outcomes = jobs.map(() => ({ error }));
    }
    outcomes.forEach((outcome, i) => {
      if ('error' in outcome) jobs[i]?.reject(outcome.error);
      else jobs[i]?.resolve(outcome.choice);
    });
  }
}
