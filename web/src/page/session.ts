// The page's end of a session in a worker.
import type { AppendOptions, AttentionMap, AttentionOptions, GenerationResult, PromptInput,
  PromptOptions, SaveOptions, Session, SessionEventMap, SessionOptions,
  TokenConstraint } from '../api/session.js';
import type { SessionMemory } from '../api/memory.js';
import type { SignalOptions } from '../api/options.js';
import type { ChatMessage } from '../api/messages.js';
import type { SamplingOptions } from '../api/sampling.js';
import { Answer, textStream } from './answer.js';
import { isTokenConstraint, wireGrammar } from './constraint.js';
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import { TypedTarget } from './events.js';
import type { Args, CallName, Notice, Result, SessionState, WireInput } from '../wire/protocol.js';
import type { RemoteModel } from './model.js';
import type { CallOptions, Client } from './client.js';

/** An input as it is sent. Error: INVALID_ARGUMENT. */
export function wireInput(input: PromptInput): WireInput {
  if (typeof input === 'string') return { text: input };
  if (Array.isArray(input)) {
    return { messages: input.map(({ role, content, prefix }: ChatMessage) =>
      ({ role, content, ...(prefix === undefined ? {} : { prefix }) })) };
  }
  if (typeof input === 'object' && input !== null && 'tokens' in input) {
    const ids = Array.from(input.tokens);
    const wrong = ids.findIndex((id) => !Number.isInteger(id));
    if (wrong < 0) return { tokens: Int32Array.from(ids) };
    throw invalidArgument(`token ${wrong}`, ids[wrong], 'an integer');
  }
  throw invalidArgument('input', input, 'text, messages or { tokens }');
}

/** The options of a new session as they are sent. */
export function wireSessionOptions(options: SessionOptions): Args<'createSession'> {
  const { signal: _, onPrefill: __, initialPrompts, ...rest } = options;
  const initial = initialPrompts === undefined ? undefined : wireInput(initialPrompts);
  return { ...rest, initial };
}

/** Hears notices of prefill. */
export function onPrefill(options: AppendOptions): CallOptions {
  return {
    signal: options.signal,
    onNotice: (notice) => {
      if (notice.type === 'prefill') options.onPrefill?.(notice.done, notice.total);
    },
  };
}

/** Asks the constraint what the worker asks, one thing after the other. */
function obeying(constraint: TokenConstraint, client: Client) {
  let last = Promise.resolve();
  return (notice: Notice, call: number) => {
    const then = (work: () => Promise<void>) => {
      last = last.then(work).catch((error) => client.refuse(call, reasonOf(error)));
    };
    if (notice.type === 'part' && notice.part.token !== undefined) {
      const { token } = notice.part;
      then(async () => constraint.accept(token));
    } else if (notice.type === 'ask') {
      then(async () => client.allow(call, await constraint.allowed()));
    }
  };
}

export class RemoteSession extends TypedTarget<SessionEventMap> implements Session {
  oncontextoverflow: ((event: Event) => void) | null = null;
  readonly model: RemoteModel;
  #state: SessionState;

  /** @internal */
  constructor(model: RemoteModel, state: SessionState) {
    super();
    this.model = model;
    this.#state = state;
    this.addEventListener('contextoverflow', (event) => this.oncontextoverflow?.(event));
  }

  get id(): number {
    return this.#state.id;
  }

  get contextUsage(): number {
    return this.#state.length;
  }

  get contextWindow(): number {
    return this.#state.window;
  }

  get contextBytes(): number {
    return this.#state.bytes;
  }

  get messages(): readonly ChatMessage[] {
    return this.#state.messages;
  }

  #update(state: SessionState): void {
    const hasSlid = state.slides > this.#state.slides;
    this.#state = state;
    if (hasSlid) this.dispatch(new Event('contextoverflow'));
  }

  async #call<N extends CallName>(name: N, args: Omit<Args<N>, 'session'>,
    options: CallOptions = {}): Promise<Result<N>> {
    try {
      return await this.model.client.call(name, { ...args, session: this.id } as Args<N>,
        { ...options, onState: (state) => this.#update(state) });
    } catch (error) {
      const isFull = error instanceof OneKVError && error.code === 'CONTEXT_FULL';
      if (isFull) this.dispatch(new Event('contextoverflow'));
      throw error;
    }
  }

  async #change(name: 'append' | 'truncate', args: object, options: CallOptions): Promise<void> {
    this.#update(await this.#call(name, args as Args<'append'>, options));
  }

  generate(input: PromptInput, options: PromptOptions = {}): Answer {
    return new Answer(async (signal, onPart) => {
      const { maxTokens, stop, logprobs, constraint } = options;
      const own = isTokenConstraint(constraint) ? constraint : undefined;
      const obey = own === undefined ? () => {} : obeying(own, this.model.client);
      const result = await this.#call('generate', {
        input: wireInput(input),
        options: {
          maxTokens, logprobs,
          stop: typeof stop === 'string' ? [stop] : stop === undefined ? undefined : [...stop],
          constrained: own !== undefined,
          grammar: own !== undefined || constraint === undefined ? undefined
            : wireGrammar(constraint),
        },
      }, {
        signal,
        onNotice: (notice, call) => {
          if (notice.type === 'prefill') options.onPrefill?.(notice.done, notice.total);
          if (notice.type === 'part') {
            const { length, bytes, slides } = notice;
            this.#update({ ...this.#state, length, bytes, slides });
            onPart(notice.part);
          }
          obey(notice, call);
        },
      });
      const { state, ...rest } = result;
      this.#update(state);
      return rest satisfies GenerationResult;
    }, options.signal);
  }

  async prompt(input: PromptInput, options: PromptOptions = {}): Promise<string> {
    const { text } = await this.generate(input, options).result;
    return text;
  }

  promptStreaming(input: PromptInput,
    options: PromptOptions = {}): ReadableStream<string> & AsyncIterable<string> {
    return textStream(this.generate(input, options));
  }

  async append(input: PromptInput, options: AppendOptions = {}): Promise<void> {
    await this.#change('append', { input: wireInput(input) }, onPrefill(options));
  }

  async measureContextUsage(input: PromptInput, { signal }: SignalOptions = {}): Promise<number> {
    return this.#call('measure', { input: wireInput(input) }, { signal });
  }

  async clone({ signal }: SignalOptions = {}): Promise<RemoteSession> {
    return this.model.hold(await this.#call('clone', {}, { signal }));
  }

  async truncate(count: number, { signal }: SignalOptions = {}): Promise<void> {
    await this.#change('truncate', { count }, { signal });
  }

  tokens({ signal }: SignalOptions = {}): Promise<Int32Array> {
    return this.#call('tokens', {}, { signal });
  }

  async setSampling(sampling: SamplingOptions, { signal }: SignalOptions = {}): Promise<void> {
    await this.#call('setSampling', { sampling }, { signal });
  }

  async save({ format = 'cache', signal }: SaveOptions = {}): Promise<Blob> {
    const bytes = await this.#call('save', { format }, { signal });
    return new Blob([bytes], { type: 'application/octet-stream' });
  }

  memory({ signal }: SignalOptions = {}): Promise<SessionMemory> {
    return this.#call('sessionMemory', {}, { signal });
  }

  attention({ layer, head, queries, signal }: AttentionOptions): Promise<AttentionMap> {
    return this.#call('attention', { layer, head, queries }, { signal });
  }

  async destroy(): Promise<void> {
    try {
      await this.#call('destroy', {});
    } catch (error) {
      // Gone already, by itself or with its worker.
      if (!(error instanceof OneKVError)) throw error;
      if (error.code !== 'DESTROYED' && error.code !== 'WORKER_LOST') throw error;
    }
  }
}
