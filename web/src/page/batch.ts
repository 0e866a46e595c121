// Prompts for many sessions at once: their answers as one sequence of parts. That the sessions
// advance in common steps is the worker's doing (scheduler.ts).
import type { GeneratedPart, PromptInput, PromptOptions, Session, SessionBatch }
  from '../api/session.js';
import { invalidArgument } from '../api/errors.js';
import { checkOptions } from '../api/options.js';
import { promptNames } from '../api/session.js';
import { onAbort } from '../util/on-abort.js';

type Part = GeneratedPart & { index: number };

/** Parts of several answers in the order of their coming. */
class Parts {
  readonly #parts: Part[] = [];
  #running = 0;
  #failure: { error: unknown } | undefined;
  #wake = () => {};

  async add(index: number, answer: AsyncIterable<GeneratedPart>): Promise<void> {
    this.#running += 1;
    try {
      for await (const part of answer) {
        this.#parts.push({ ...part, index });
        this.#wake();
      }
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      this.#running -= 1;
      this.#wake();
    }
  }

  async* [Symbol.asyncIterator](): AsyncGenerator<Part, undefined> {
    for (;;) {
      const part = this.#parts.shift();
      if (part !== undefined) yield part;
      else if (this.#failure !== undefined) throw this.#failure.error;
      else if (this.#running === 0) return undefined;
      else await new Promise<void>((resolve) => { this.#wake = resolve; });
    }
  }
}

export class Batch implements SessionBatch {
  readonly #sessions: readonly Session[];

  constructor(sessions: readonly Session[]) {
    if (!Array.isArray(sessions)) throw invalidArgument('sessions', sessions, 'a list of sessions');
    this.#sessions = sessions.map((session: Partial<Session> | null, i) => {
      if (typeof session?.generate === 'function') return session as Session;
      throw invalidArgument(`sessions[${i}]`, session, 'a session');
    });
  }

  async prompt(input: PromptInput | readonly PromptInput[],
    options: PromptOptions = {}): Promise<string[]> {
    const texts = this.#sessions.map(() => '');
    for await (const { index, type, text } of this.promptStreaming(input, options)) {
      if (type === 'text') texts[index] += text;
    }
    return texts;
  }

  async* promptStreaming(input: PromptInput | readonly PromptInput[],
    options: PromptOptions = {}): AsyncGenerator<Part, undefined> {
    const { signal } = checkOptions('prompt', options, promptNames);
    const inputs = this.#sessions.map((_, index) => this.#inputOf(input, index));
    const controller = new AbortController();
    const release = onAbort(signal, () => controller.abort(signal?.reason));
    const parts = new Parts();
    const works = this.#sessions.map((session, index) => parts.add(index,
      session.generate(inputs[index] as PromptInput, { ...options, signal: controller.signal })));
    try {
      yield* parts;
      return undefined;
    } finally {
      release();
      // Those that have ended do not mind; after a failure or an early leave the rest ends now.
      controller.abort();
      await Promise.all(works);
    }
  }

  #inputOf(input: PromptInput | readonly PromptInput[], index: number): PromptInput {
    // An array of messages is one input; an array of anything else is one for each.
    const isEach = Array.isArray(input) && !(input.length > 0 && 'role' in Object(input[0]));
    if (!isEach) return input as PromptInput;
    if (input.length === this.#sessions.length) return input[index] as PromptInput;
    throw invalidArgument('input', `${input.length} inputs`, `${this.#sessions.length}`);
  }
}
