// The page's end of a session in a worker.
import type { AppendOptions, AttentionMap, AttentionOptions, GeneratedPart, GenerationResult,
  PromptInput,
  PromptOptions, SaveOptions, Session, SessionEventMap, SessionOptions,
  TokenConstraint } from '../api/session.js';
import type { SessionMemory } from '../api/memory.js';
import { checkOptions, checkSignal } from '../api/options.js';
import type { SignalOptions } from '../api/options.js';
import { samplingNames } from '../api/sampling.js';
import { appendNames, attentionNames, draftModes, promptNames, saveNames } from '../api/session.js';
import type { ChatMessage } from '../api/messages.js';
import type { SamplingOptions } from '../api/sampling.js';
import { Answer, textStream } from './answer.js';
import { isTokenConstraint, wireGrammar } from './constraint.js';
import { OneKVError, checkIds, checkInteger, checkOneOf, checkTexts,
  invalidArgument } from '../api/errors.js';
import type { Tool, ToolCall, ToolResult } from '../api/tools.js';
import { TypedTarget } from './events.js';
import type { Args, CallName, Notice, Result, SessionState, WireInput } from '../wire/protocol.js';
import { onAbort, unlessAborted } from '../util/on-abort.js';
import type { RemoteModel } from './model.js';
import type { CallOptions, Client } from './client.js';
import { execute, toolsByName, wireTools } from './tools.js';

const messageFields = ['role', 'content', 'prefix', 'toolCalls', 'toolCallId', 'name',
  'reasoning'] as const;

/** An input as it is sent. Error: INVALID_ARGUMENT. */
export function wireInput(input: PromptInput): WireInput {
  if (typeof input === 'string') return { text: input };
  if (Array.isArray(input)) {
    return { messages: input.map((message: ChatMessage) =>
      Object.fromEntries(messageFields.map((field) => [field, message?.[field]])
        .filter(([, value]) => value !== undefined)) as unknown as ChatMessage) };
  }
  if (typeof input === 'object' && input !== null && 'tokens' in input) {
    return { tokens: checkIds(input.tokens) };
  }
  throw invalidArgument('input', input, 'text, messages or { tokens }');
}

/** The options of a new session as they are sent. */
export function wireSessionOptions(options: SessionOptions,
  byName: ReadonlyMap<string, Tool>): Args<'createSession'> {
  const { signal: _, onPrefill: __, initialPrompts, tools, ...rest } = options;
  checkOneOf('draft', rest.draft ?? 'off', draftModes);
  const initial = initialPrompts === undefined ? undefined : wireInput(initialPrompts);
  return { ...rest, initial,
    ...(tools === undefined ? {} : { tools: wireTools(byName) }) };
}

/** Hears notices of prefill. */
export function onPrefill(options: AppendOptions): CallOptions {
  return {
    signal: options.signal,
    onNotice: (notice) => (notice.type === 'prefill'
      ? options.onPrefill?.(notice.done, notice.total) : undefined),
  };
}

/** Asks the constraint what the worker asks, one thing after the other. `last` is the last thing;
 * where one fails, nothing comes after it. */
function obeying(constraint: TokenConstraint, client: Client) {
  const work = async (notice: Notice, call: number): Promise<void> => {
    if (notice.type === 'part' && notice.part.token !== undefined) {
      await constraint.accept(notice.part.token);
    } else if (notice.type === 'ask') {
      client.allow(call, await constraint.allowed());
    }
  };
  const asked = {
    last: Promise.resolve(),
    hear: (notice: Notice, call: number) =>
      (asked.last = asked.last.then(() => work(notice, call))),
  };
  return asked;
}

/** What a call asks for. */
const keyOf = ({ name, arguments: given }: ToolCall) => `${name} ${JSON.stringify(given)}`;

/** Calls that do not wait for tools. */
const atOnce: readonly CallName[] = ['sessionMemory', 'save', 'destroy'];

export class RemoteSession extends TypedTarget<SessionEventMap> implements Session {
  oncontextoverflow: ((event: Event) => void) | null = null;
  readonly model: RemoteModel;
  readonly #tools: ReadonlyMap<string, Tool>;
  #state: SessionState;
  readonly #ended = new AbortController();
  /** Tools are executed between two answers: what else is asked for waits. */
  #busy: Promise<void> | undefined;

  /** @internal */
  constructor(model: RemoteModel, state: SessionState, tools: ReadonlyMap<string, Tool>) {
    super();
    this.model = model;
    this.#tools = tools;
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
    return this.#state.contextWindow;
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
    if (hasSlid) this.dispatchEvent(new Event('contextoverflow'));
  }

  async #call<N extends CallName>(name: N, args: Omit<Args<N>, 'session'>,
    options: CallOptions = {}): Promise<Result<N>> {
    while (this.#busy !== undefined && !atOnce.includes(name)) {
      await unlessAborted(this.#busy, options.signal);
    }
    return this.#callNow(name, args, options);
  }

  async #callNow<N extends CallName>(name: N, args: Omit<Args<N>, 'session'>,
    options: CallOptions): Promise<Result<N>> {
    try {
      return await this.model.client.call(name, { ...args, session: this.id } as Args<N>,
        { ...options, onState: (state) => this.#update(state) });
    } catch (error) {
      const isFull = error instanceof OneKVError && error.code === 'CONTEXT_FULL';
      if (isFull) this.dispatchEvent(new Event('contextoverflow'));
      throw error;
    }
  }

  async #change(name: 'append' | 'truncate', args: object, options: CallOptions): Promise<void> {
    this.#update(await this.#call(name, args as Args<'append'>, options));
  }

  generate(input: PromptInput, options: PromptOptions = {}): Answer {
    return new Answer(async (signal, onPart) => {
      checkOptions('prompt', options, promptNames);
      const most = checkInteger('maxToolRounds', options.maxToolRounds ?? 8, 0, 1024);
      return this.#canExecute ? this.#rounds(input, options, most, signal, onPart)
        : this.#round(input, options, signal, onPart);
    }, options?.signal);
  }

  get #canExecute(): boolean {
    return [...this.#tools.values()].some((tool) => tool.execute !== undefined);
  }

  /** One answer. */
  async #round(input: PromptInput, options: PromptOptions, signal: AbortSignal,
    onPart: (part: GeneratedPart) => void, isInside = false): Promise<GenerationResult> {
    const { maxTokens, stop, logprobs, constraint, toolChoice, parallelToolCalls,
      reasoningBudget, templateArguments } = options;
    const own = isTokenConstraint(constraint) ? constraint : undefined;
    const asked = own && obeying(own, this.model.client);
    const args = {
      input: wireInput(input),
      options: {
        maxTokens, logprobs, toolChoice, parallelToolCalls, reasoningBudget,
        templateArguments,
        tools: options.tools === undefined ? undefined : wireTools(toolsByName(options.tools)),
        stop: stop === undefined ? undefined : checkTexts('stop', stop),
        ...(own !== undefined ? { constrained: true }
          : constraint === undefined ? {} : { grammar: wireGrammar(constraint) }),
      },
    };
    const hearing: CallOptions = {
      signal,
      onNotice: (notice, call) => {
        if (notice.type === 'prefill') return options.onPrefill?.(notice.done, notice.total);
        if (notice.type === 'part') {
          const { length, bytes, slides } = notice;
          this.#update({ ...this.#state, length, bytes, slides });
          onPart(notice.part);
        }
        return asked?.hear(notice, call);
      },
    };
    const { state, ...rest } = await (isInside ? this.#callNow('generate', args, hearing)
      : this.#call('generate', args, hearing));
    this.#update(state);
    if (asked !== undefined) await unlessAborted(asked.last, signal);
    return rest satisfies GenerationResult;
  }

  /** Answers until one calls no tool that is executed here. */
  async #rounds(input: PromptInput, options: PromptOptions, most: number, asked: AbortSignal,
    onPart: (part: GeneratedPart) => void): Promise<GenerationResult> {
    while (this.#busy !== undefined) await unlessAborted(this.#busy, asked);
    // While tools run the worker knows of nothing that it could end.
    const controller = new AbortController();
    const { signal } = controller;
    const releases = [asked, this.#ended.signal, this.model.gone].map((by) =>
      onAbort(by, () => controller.abort(by.reason)));
    this.#busy = new Promise((resolve) => { releases.push(resolve); });
    try {
      let result = await this.#round(input, options, signal, onPart, true);
      const known = new Map<string, ToolResult>();
      for (let round = 0; round < most; round++) {
        const tools = result.toolCalls.map(({ name }) => this.#tools.get(name));
        const canGoOn = tools.length > 0 && tools.every((tool) => tool?.execute !== undefined);
        if (!canGoOn) break;
        const calls = result.toolCalls;
        // Small models like to ask again what they have been told: that is told again, and the
        // next answer is one in words.
        const isRepeated = calls.every((call) => known.has(keyOf(call)));
        const results = await Promise.all(calls.map(async (call, i) => {
          const before = known.get(keyOf(call));
          return before === undefined ? execute(tools[i] as Tool, call, signal)
            : { ...before, id: call.id };
        }));
        signal.throwIfAborted();
        results.forEach((one, i) => known.set(keyOf(calls[i] as ToolCall), one));
        for (const toolResult of results) {
          onPart({ type: 'tool-result', text: '', toolResult, token: undefined });
        }
        // A call that was asked for has been made: the answer to its result is free.
        result = await this.#round(results.map(({ id, name, content }) =>
          ({ role: 'tool', content, toolCallId: id, name })), { ...options,
          toolChoice: isRepeated ? 'none' : 'auto' }, signal, onPart, true);
      }
      return result;
    } finally {
      this.#busy = undefined;
      for (const release of releases) release();
    }
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
    checkOptions('append', options, appendNames);
    await this.#change('append', { input: wireInput(input) }, onPrefill(options));
  }

  async measureContextUsage(input: PromptInput, options: SignalOptions = {}): Promise<number> {
    const { signal } = checkSignal('measureContextUsage', options);
    return this.#call('measure', { input: wireInput(input) }, { signal });
  }

  async clone(options: SignalOptions = {}): Promise<RemoteSession> {
    const { signal } = checkSignal('clone', options);
    return this.model.hold(await this.#call('clone', {}, { signal }), this.#tools);
  }

  async truncate(count: number, options: SignalOptions = {}): Promise<void> {
    const { signal } = checkSignal('truncate', options);
    await this.#change('truncate', { count }, { signal });
  }

  async tokens(options: SignalOptions = {}): Promise<Int32Array> {
    const { signal } = checkSignal('tokens', options);
    return this.#call('tokens', {}, { signal });
  }

  async setSampling(sampling: SamplingOptions, options: SignalOptions = {}): Promise<void> {
    const { signal } = checkSignal('setSampling', options);
    checkOptions('setSampling', sampling, samplingNames);
    await this.#call('setSampling', { sampling }, { signal });
  }

  async save(options: SaveOptions = {}): Promise<Blob> {
    const { format = 'cache', signal } = checkOptions('save', options, saveNames);
    const bytes = await this.#call('save', { format }, { signal });
    return new Blob([bytes], { type: 'application/octet-stream' });
  }

  async memory(options: SignalOptions = {}): Promise<SessionMemory> {
    const { signal } = checkSignal('memory', options);
    return this.#call('sessionMemory', {}, { signal });
  }

  async attention(options: AttentionOptions): Promise<AttentionMap> {
    const { layer, head, queries, signal } = checkOptions('attention', options, attentionNames);
    return this.#call('attention', { layer, head, queries }, { signal });
  }

  async destroy(): Promise<void> {
    this.#ended.abort(new OneKVError('DESTROYED', 'the session was destroyed'));
    try {
      await this.#call('destroy', {});
    } catch (error) {
      // Gone already, by itself or with its worker.
      if (!(error instanceof OneKVError)) throw error;
      if (error.code !== 'DESTROYED' && error.code !== 'WORKER_LOST') throw error;
    }
  }
}
