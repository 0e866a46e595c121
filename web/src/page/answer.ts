// An answer as it comes out of a worker: parts, a result, and the way to cancel it.
import type { GeneratedPart, Generation, GenerationResult } from '../api/session.js';
import { isSignal } from '../api/options.js';
import { onAbort } from '../util/on-abort.js';

type StartAnswer = (signal: AbortSignal,
  onPart: (part: GeneratedPart) => void) => Promise<GenerationResult>;

export class Answer implements Generation {
  readonly result: Promise<GenerationResult>;
  readonly #controller = new AbortController();
  readonly #parts: GeneratedPart[] = [];
  #isOver = false;
  #wake = () => {};

  /** Starts at once. Aborting `signal` is passed on with its reason. */
  constructor(start: StartAnswer, signal: AbortSignal | undefined) {
    // What is no signal is refused by `start`.
    const release = onAbort(isSignal(signal) ? signal : undefined,
      () => this.#controller.abort(signal?.reason));
    const add = (part: GeneratedPart) => {
      this.#parts.push(part);
      this.#wake();
    };
    this.result = start(this.#controller.signal, add).then((result) => {
      add({ type: 'finish', text: '', result, token: undefined });
      return result;
    });
    const over = () => {
      release();
      this.#isOver = true;
      this.#wake();
    };
    // Also marks the promise as handled, so that a rejection is not reported as unhandled.
    this.result.then(over, over);
  }

  /** For one loop: parts are handed out once. */
  async* [Symbol.asyncIterator](): AsyncGenerator<GeneratedPart, undefined> {
    try {
      for (;;) {
        const part = this.#parts.shift();
        if (part !== undefined) yield part;
        else if (this.#isOver) break;
        else await new Promise<void>((resolve) => { this.#wake = resolve; });
      }
      await this.result;
      return undefined;
    } finally {
      // Left early: nothing goes on behind the caller's back.
      if (!this.#isOver) {
        this.#controller.abort();
        await this.result.catch(() => {});
      }
    }
  }
}

/** The answer's text as a stream. Cancelling it cancels the answer. */
export function textStream(answer: Answer): ReadableStream<string> & AsyncIterable<string> {
  const parts = answer[Symbol.asyncIterator]();
  const next = async (): Promise<string | undefined> => {
    for (;;) {
      const { done, value } = await parts.next();
      if (done === true) return undefined;
      if (value.type === 'text' && value.text !== '') return value.text;
    }
  };
  const stream = new ReadableStream<string>({
    pull: async (controller) => {
      const text = await next();
      if (text === undefined) controller.close();
      else controller.enqueue(text);
    },
    cancel: async () => {
      await parts.return(undefined);
    },
  }, { highWaterMark: 0 });
  if (Symbol.asyncIterator in stream) return stream;
  // Not all engines iterate streams by themselves.
  return Object.assign(stream as ReadableStream<string>, {
    [Symbol.asyncIterator]: async function* iterate() {
      try {
        for (let text = await next(); text !== undefined; text = await next()) yield text;
      } finally {
        await parts.return(undefined);
      }
    },
  });
}
