// The subpath onekv/prompt-api: the names of the browsers' Prompt API over a model of ours.
//
//   const LanguageModel = languageModel((options) => OneKV.load(url, options));
//   const session = await LanguageModel.create({ initialPrompts, monitor });
//
// What the standard has and this has not (images, sound, languages) is refused with the standard's
// NotSupportedError. A full window slides, and the initial prompts stay. The session underneath is
// `session.onekv`, for bytes, snapshots and tokens.
import type { Model } from '../api/model.js';
import type { DownloadMonitor, LoadOptions } from '../api/load.js';
import type { ChatMessage } from '../api/messages.js';
import type { PromptInput, PromptOptions, ResponseConstraint, Session } from '../api/session.js';
import type { Tool } from '../api/tools.js';
import { checkOneOf } from '../api/errors.js';
import { GuardedTarget } from '../api/events.js';
import { checkKind, checkOptions, signalNames } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { onAbort } from '../util/on-abort.js';
import { constraintText, messagesOf, unsupported, withText } from './prompt-messages.js';
import type { LanguageModelMessage, LanguageModelPrompt } from './prompt-messages.js';

export type * from './prompt-messages.js';

export interface Expected {
  type: string;
  languages?: readonly string[] | undefined;
}

export interface LanguageModelTool extends Tool {
  description: string;
  inputSchema: object;
  execute: NonNullable<Tool['execute']>;
}

const temperatures = { 'most-predictable': 0, predictable: 0.4, balanced: 0.7, creative: 1,
  'most-creative': 1.3 };

export type SamplingMode = keyof typeof temperatures;

export interface LanguageModelCoreOptions {
  /** 'text', 'tool-response' and 'tool-call'; languages are taken as they are. */
  expectedInputs?: readonly Expected[] | undefined;
  expectedOutputs?: readonly Expected[] | undefined;
  /** Called by the model as often as it likes, several at the same time. */
  tools?: readonly LanguageModelTool[] | undefined;
  temperature?: number | undefined;
  topK?: number | undefined;
  /** Stands for a temperature. */
  samplingMode?: SamplingMode | undefined;
}

const coreNames: NamesOf<LanguageModelCoreOptions> = {
  expectedInputs: 'list', expectedOutputs: 'list', tools: 'list', temperature: true, topK: true,
  samplingMode: true,
};

export interface LanguageModelCreateOptions extends LanguageModelCoreOptions {
  /** Aborting ends the creation, and later the session. */
  signal?: AbortSignal | undefined;
  /** Hears `downloadprogress` events: loaded from 0 to 1, total 1. */
  monitor?: ((monitor: DownloadMonitor) => void) | undefined;
  initialPrompts?: readonly LanguageModelMessage[] | undefined;
}

const createNames: NamesOf<LanguageModelCreateOptions> = {
  ...coreNames, ...signalNames, monitor: 'function', initialPrompts: true,
};

export interface LanguageModelPromptOptions {
  signal?: AbortSignal | undefined;
  /** The prompt tells the model of it. */
  responseConstraint?: ResponseConstraint | undefined;
  /** Keeps the prompt from telling of it; default false. */
  omitResponseConstraintInput?: boolean | undefined;
}

const promptNames: NamesOf<LanguageModelPromptOptions> = {
  ...signalNames, responseConstraint: true, omitResponseConstraintInput: 'boolean',
};

export type Availability = 'unavailable' | 'downloadable' | 'downloading' | 'available';

export interface LanguageModelSettings {
  /** What OneKV.availability() says, for a model that is not loaded yet. */
  available?: (() => Promise<boolean>) | undefined;
}

const settingsNames: NamesOf<LanguageModelSettings> = { available: 'function' };

/** Loads the model, with a signal and a monitor of the first caller. */
export type LoadModel = (options: Pick<LoadOptions, 'signal' | 'monitor'>) => Promise<Model>;

/** Error: NotSupportedError. */
function checkCore({ tools, expectedInputs = [], expectedOutputs = [] }:
LanguageModelCoreOptions): void {
  for (const tool of tools ?? []) {
    if (typeof tool?.execute !== 'function') throw new TypeError('a tool without execute');
  }
  const check = (what: string, list: readonly Expected[], types: readonly string[]) => {
    const other = list.findIndex((one) => !types.includes(one?.type));
    if (other >= 0) throw unsupported(`${what} of type ${String(list[other]?.type)}`);
  };
  check('input', expectedInputs, ['text', 'tool-response']);
  check('output', expectedOutputs, ['text', 'tool-call']);
}

/** Messages; for a model that knows no turns, their text. */
function inputOf(model: Model, messages: ChatMessage[]): ChatMessage[] | string {
  return model.hasChatTemplate ? messages : messages.map(({ content }) => content).join('\n');
}

/** The standard's error for a prompt that does not fit, with its two numbers. */
function quotaExceeded(requested: number, quota: number): DOMException {
  const thrown = new DOMException(`the input takes ${requested} tokens of ${quota}`,
    'QuotaExceededError');
  return Object.assign(thrown, { requested, quota });
}

/** loaded in bytes to loaded of 1, with the 0 and the 1 that the standard promises. */
class ProgressRelay extends GuardedTarget {
  #last = -1;

  tell(loaded: number): void {
    if (loaded <= this.#last) return;
    this.#last = loaded;
    const event = new Event('downloadprogress');
    Object.assign(event, { loaded, total: 1 });
    this.dispatchEvent(event);
  }
}

export interface LanguageModelStatic {
  /** Needs no download: reports what is known. */
  availability(options?: LanguageModelCoreOptions): Promise<Availability>;
  /** Loads the model at the first call; all sessions share it. */
  create(options?: LanguageModelCreateOptions): Promise<LanguageModelSession>;
}

/** A session with the standard's names. Errors of ours keep their code; a prompt that does not fit
 * is the standard's QuotaExceededError. */
export class LanguageModelSession extends GuardedTarget {
  /** The session underneath. */
  readonly onekv: Session;
  oncontextoverflow: ((event: Event) => void) | null = null;
  readonly samplingMode: SamplingMode | null;
  readonly #settings: LanguageModelSettings;
  /** Ends what the signal of create() would do. */
  #release = () => {};
  /** Tokens of the window that are left beside the initial prompts. */
  readonly #quota: number;

  /** @internal */
  constructor(session: Session, settings: LanguageModelSettings, quota: number,
    samplingMode: SamplingMode | null) {
    super();
    this.onekv = session;
    this.samplingMode = samplingMode;
    this.#settings = settings;
    this.#quota = quota;
    session.addEventListener('contextoverflow', () => {
      const event = new Event('contextoverflow');
      this.oncontextoverflow?.(event);
      this.dispatchEvent(event);
    });
  }

  get contextUsage(): number {
    return this.onekv.contextUsage;
  }

  get contextWindow(): number {
    return this.onekv.contextWindow;
  }

  async prompt(input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {}): Promise<string> {
    const taken = await this.#fitting(input, options);
    return this.onekv.prompt(taken, await this.#promptOptions(options));
  }

  promptStreaming(input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {}): ReadableStream<string> {
    let reader: ReadableStreamDefaultReader<string> | undefined;
    let isCancelled = false;
    return new ReadableStream<string>({
      start: async () => {
        const taken = await this.#fitting(input, options);
        const stream = this.onekv.promptStreaming(taken, await this.#promptOptions(options));
        reader = stream.getReader();
        if (isCancelled) await reader.cancel();
      },
      pull: async (controller) => {
        const { done, value } = await (reader as ReadableStreamDefaultReader<string>).read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async (reason) => {
        isCancelled = true;
        await reader?.cancel(reason);
      },
    });
  }

  async append(input: LanguageModelPrompt, options: { signal?: AbortSignal } = {}): Promise<void> {
    if (Array.isArray(input) && input.at(-1)?.prefix === true) {
      throw unsupported('prefix without an answer');
    }
    await this.onekv.append(await this.#fitting(input, options), options);
  }

  async measureContextUsage(input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {}): Promise<number> {
    return this.#measure(this.#inputOf(input, options), options.signal);
  }

  async clone(options: { signal?: AbortSignal } = {}): Promise<LanguageModelSession> {
    return new LanguageModelSession(await this.onekv.clone(options), this.#settings, this.#quota,
      this.samplingMode);
  }

  destroy(): void {
    this.#release();
    void this.onekv.destroy();
  }

  /** @internal */
  destroyOnAbort(signal: AbortSignal | undefined): void {
    this.#release = onAbort(signal, () => void this.onekv.destroy());
  }

  async #promptOptions({ signal, responseConstraint }: LanguageModelPromptOptions):
  Promise<PromptOptions> {
    return {
      signal,
      constraint: responseConstraint,
    };
  }

  /** The input as the session takes it. */
  #inputOf(input: LanguageModelPrompt,
    options: LanguageModelPromptOptions): PromptInput {
    const { responseConstraint, omitResponseConstraintInput = false } =
      checkOptions('prompt', options, promptNames);
    if (responseConstraint !== undefined && responseConstraint !== true) {
      checkKind('responseConstraint', responseConstraint, 'object');
    }
    if (omitResponseConstraintInput && responseConstraint === undefined) {
      throw new TypeError('omitResponseConstraintInput needs a responseConstraint');
    }
    const messages = messagesOf(input, this.onekv.contextUsage === 0);
    return inputOf(this.onekv.model, responseConstraint === undefined ||
      omitResponseConstraintInput ? messages
      : withText(messages, constraintText(responseConstraint)));
  }

  #measure(input: PromptInput, signal: AbortSignal | undefined): Promise<number> {
    return this.onekv.measureContextUsage(input, { signal });
  }

  /** The same. Error: QuotaExceededError, when no sliding can make room for it. */
  async #fitting(input: LanguageModelPrompt,
    options: LanguageModelPromptOptions): Promise<PromptInput> {
    const taken = this.#inputOf(input, options);
    const requested = await this.#measure(taken, options.signal);
    if (requested > this.#quota) throw quotaExceeded(requested, this.#quota);
    return taken;
  }
}

/**
 * A LanguageModel of the standard's shape, over a model that `load` gets at the first create().
 * After a load that failed the next create() tries again.
 */
export function languageModel(load: LoadModel,
  settings: LanguageModelSettings = {}): LanguageModelStatic {
  checkKind('load', load, 'function');
  checkOptions('languageModel', settings, settingsNames);
  let model: Promise<Model> | undefined;
  let isLoaded = false;

  const loadOnce = (options: Parameters<LoadModel>[0]) => {
    model ??= load(options).then((loaded) => {
      isLoaded = true;
      loaded.addEventListener('lost', () => { model = undefined; isLoaded = false; });
      return loaded;
    }, (error) => {
      model = undefined;
      throw error;
    });
    return model;
  };

  return {
    async availability(options = {}) {
      checkOptions('availability', options, createNames);
      try {
        checkCore(options);
      } catch {
        return 'unavailable';
      }
      if (isLoaded) return 'available';
      if (model !== undefined) return 'downloading';
      return await settings.available?.() === false ? 'unavailable' : 'downloadable';
    },
    async create(options = {}) {
      const { signal, monitor, initialPrompts, temperature, topK, samplingMode, ...core } =
        checkOptions('create', options, createNames);
      checkCore(core);
      if (samplingMode !== undefined) {
        checkOneOf('samplingMode', samplingMode, Object.keys(temperatures));
      }
      const initial = initialPrompts && messagesOf(initialPrompts, true);
      if (initial?.at(-1)?.prefix === true) throw unsupported('prefix in initialPrompts');
      signal?.throwIfAborted();
      const relay = new ProgressRelay();
      monitor?.(relay as DownloadMonitor);
      relay.tell(0);
      const loaded = await loadOnce({
        signal,
        monitor: (target) => target.addEventListener('downloadprogress', (event) => {
          if (event.total > 0 && event.loaded < event.total) relay.tell(event.loaded / event.total);
        }),
      });
      relay.tell(1);
      if (core.tools?.length && !loaded.hasChatTemplate) throw unsupported('tools');
      const session = await loaded.createSession({
        overflow: 'slide',
        signal,
        tools: core.tools,
        temperature: temperature ?? (samplingMode && temperatures[samplingMode]),
        topK,
        initialPrompts: initial && inputOf(loaded, initial),
      });
      const named = new LanguageModelSession(session, settings,
        session.contextWindow - session.contextUsage, samplingMode ?? null);
      named.destroyOnAbort(signal);
      return named;
    },
  };
}
