// The worker's side of a model: what the calls of the protocol do that make and use one. Those of
// its sessions are in session-host.ts.
//
// Arguments come from a message and are checked here or by the objects they are given to.
import type { Classification } from '../api/image.js';
import type { ModelPart, ModelSource } from '../api/source.js';
import { embedTexts } from './embed.js';
import { checkMessages, splitPrefix } from './messages.js';
import { encodeChat } from '../text/chat-template.js';
import { checkTools } from '../text/tool-forms.js';
import { toolAnswerOf } from './tool-answers.js';
import { checkDraftModel } from '../engine/draft-model.js';
import { Engine } from '../engine/engine.js';
import { OneKVError, checkInteger, invalidArgument } from '../api/errors.js';
import { plainObject } from '../api/json.js';
import { imageRows } from '../engine/image.js';
import { checkLength } from '../engine/room.js';
import type { LoadOptions } from '../source/load.js';
import { Model } from '../engine/model.js';
import { accessOfWire } from '../wire/access.js';
import { sharedOf } from '../wire/shared.js';
import { storeOf, streamOf } from '../wire/ports.js';
import type { Args, CallContext, CallName, Handlers, Result, WireModelOptions, WirePart,
  WireSource, WireStore } from '../wire/protocol.js';
import { cacheCost, cacheSizes, memoryReport } from './reports.js';
import { readStream } from '../util/streams.js';
import { SessionHost } from './session-calls.js';
import type { SessionCall } from './session-calls.js';
import type { StoreChoice } from '../api/store.js';

/** How models are read: with paths in Node, without elsewhere. */
export interface Loading {
  loadModel(engine: Engine | Promise<Engine>, source: ModelSource,
    options: LoadOptions): Promise<Model>;
  readHeader: typeof import('../source/load.js').readHeader;
}

function checkIds(value: unknown): Int32Array {
  if (!(value instanceof Int32Array)) throw invalidArgument('tokens', value, 'an Int32Array');
  return value;
}

function isPort(value: unknown): value is { port: MessagePort; name?: unknown } {
  return typeof value === 'object' && value !== null && 'port' in value &&
    value.port instanceof MessagePort;
}

function openWireSource(source: WireSource): ModelSource {
  return Array.isArray(source) ? source.map(openWirePart) : openWirePart(source as WirePart);
}

function openWirePart(source: WirePart): ModelPart {
  if (isPort(source)) {
    return { chunks: readStream(streamOf(source.port)), totalBytes: undefined,
      name: String(source.name ?? 'a stream') };
  }
  if (typeof source === 'string' || source instanceof Blob || source instanceof Uint8Array) {
    return source;
  }
  throw invalidArgument('source', source, 'an address, bytes or a port');
}

function openWireStore(store: WireStore): StoreChoice {
  if (typeof store === 'string') return store;
  if (isPort(store)) return storeOf(store.port, store.hasPaths === true);
  throw invalidArgument('store', store, 'a name or a port');
}

function readModelOptions(options: WireModelOptions, call: CallContext,
  notes: string[]): LoadOptions {
  const { cacheType, arithmetic, contextWindow, batch, store, integrity, key, access, shared } =
    options ?? {};
  return {
    signal: call.signal,
    onNote: (note) => {
      notes.push(note);
    },
    onProgress: ({ loaded, total, name }) =>
      call.notice({ type: 'progress', loaded, total: total ?? 0, source: name }),
    cacheType, arithmetic, contextWindow, batch, integrity, key,
    ...(access === undefined ? {} : accessOfWire(access)),
    ...(shared instanceof MessagePort ? { shared: sharedOf(shared) } : {}),
    store: store === undefined ? undefined : openWireStore(store),
  };
}

/** Holds a lock as long as this worker lives: that is how the page sees that it does. */
function holdLock(name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    navigator.locks.request(name, () => {
      resolve();
      return new Promise(() => {});
    }).catch(reject);
  });
}

export class ModelHost {
  readonly handlers: Handlers<Exclude<CallName, SessionCall>>;
  readonly #loading: Loading;
  readonly #onRound: () => void;
  #engine: Engine | Promise<Engine> | undefined;
  #model: Model | Promise<Model> | undefined;
  /** Guesses for its sessions. */
  #drafter: Model | undefined;
  #sessions: SessionHost | undefined;
  #wasmUrl: string | undefined;

  /** onRound is called after each round of work on sessions. */
  constructor(loading: Loading, onRound: () => void) {
    this.#loading = loading;
    this.#onRound = onRound;
    this.handlers = {
      open: (args) => this.#open(args),
      load: (args, call) => this.#load(args, call),
      estimate: (args, call) => this.#estimate(args, call),
      memory: () => this.memory(),
      watchMemory: () => undefined,
      trim: () => {
        this.#loaded.trim();
      },
      tokenize: (args) => this.#tokenize(args),
      detokenize: ({ tokens, special }) => this.#loaded.tokenizer.decode(
        this.#loaded.checkTokens(checkIds(tokens)), { special: special === true }),
      vocabulary: () => this.#loaded.vocabulary,
      embed: (args, { signal }) => embedTexts(this.#loaded, args, signal),
      classify: (args) => this.#classify(args),
    };
  }

  /** Or the promise of it. */
  get #started(): Engine | Promise<Engine> {
    if (this.#engine !== undefined) return this.#engine;
    throw new OneKVError('WRONG_STATE', 'open comes first');
  }

  get #loaded(): Model {
    if (this.#model instanceof Model) return this.#model;
    throw new OneKVError('WRONG_STATE', 'no model is loaded');
  }

  /** Error: WRONG_STATE before load. */
  get sessions(): SessionHost {
    if (this.#sessions !== undefined) return this.#sessions;
    throw new OneKVError('WRONG_STATE', 'no model is loaded');
  }

  /** Error: WRONG_STATE before load. */
  memory(): Result<'memory'> {
    return memoryReport(this.#loaded, this.#drafter, this.sessions.conversations);
  }

  async #open({ simd, threads, wasmUrl, lock }: Args<'open'>): Promise<Result<'open'>> {
    if (this.#engine !== undefined) throw new OneKVError('WRONG_STATE', 'open comes once');
    try {
      this.#wasmUrl = wasmUrl;
      this.#engine = Engine.open({ simd, threads, wasmUrl });
      this.#engine.catch(() => {}); // The error is told below.
      if (lock !== undefined) await holdLock(lock);
      this.#engine = await this.#engine;
    } catch (error) {
      this.#engine = undefined;
      throw error;
    }
    const { simd: level, threads: count, notes, memoryBytesMax } = this.#engine;
    const isolated = globalThis.crossOriginIsolated ?? true;
    return { simd: level, threads: count, notes, isolated, memoryBytesMax };
  }

  /** Both, where the page asks for one that guesses. */
  async #loadModels({ source, draft, options }: Args<'load'>, call: CallContext,
    notes: string[]): Promise<Model> {
    const engine = this.#started;
    const read = readModelOptions(options, call, notes);
    const model = await this.#loading.loadModel(engine, openWireSource(source), read);
    if (draft === undefined) return model;
    try {
      // These are of the model's own file.
      const { integrity: _, key: __, contextWindow: ___, ...same } = read;
      this.#drafter = await this.#loading.loadModel(engine, openWireSource(draft),
        { ...same, batch: 1 });
      checkDraftModel(model, this.#drafter);
      return model;
    } catch (error) {
      this.#drafter?.destroy();
      this.#drafter = undefined;
      model.destroy();
      throw error;
    }
  }

  async #load(args: Args<'load'>, call: CallContext): Promise<Result<'load'>> {
    if (this.#model !== undefined) throw new OneKVError('WRONG_STATE', 'a worker has one model');
    const first = checkInteger('firstSession', args.options?.firstSession ?? 1, 1, 2 ** 30);
    const notes: string[] = [];
    try {
      this.#model = this.#loadModels(args, call, notes);
      this.#model = await this.#model;
    } catch (error) {
      this.#model = undefined;
      throw error;
    }
    const model = this.#model;
    this.#sessions = new SessionHost(model, this.#drafter, this.#onRound, this.#wasmUrl, first);
    const { description, name, labels, hash, contextWindow, hasChatTemplate, threads } = model;
    const { cache, cacheType } = model;
    return {
      description, name, labels, hash, contextWindow, hasChatTemplate, threads, notes,
      cacheType,
      perToken: cacheCost(cache, description.queryHeads, 1),
      fullContext: cacheCost(cache, description.queryHeads, contextWindow),
      pageTokens: cache.pageTokens,
    };
  }

  #estimate({ source, options }: Args<'estimate'>,
    call: CallContext): Promise<Result<'estimate'>> {
    return this.#loading.readHeader(this.#started, openWireSource(source),
      readModelOptions(options, call, []), (loader) => {
        const description = loader.describe();
        const { parameters, weightBytes, scratchBytes } = loader.estimate();
        const { cache } = loader;
        const { contextWindow, queryHeads } = description;
        return {
          name: loader.metadata.string('general.name'),
          description, parameters, weightBytes, scratchBytes,
          fileBytes: loader.fileBytes,
          perToken: cacheCost(cache, queryHeads, 1),
          fullContext: cacheCost(cache, queryHeads, contextWindow),
          sizes: cacheSizes(cache, contextWindow),
        };
      });
  }

  #tokenize({ input, special, begin, atMost, options }: Args<'tokenize'>): number[] {
    const model = this.#loaded;
    const most = atMost === undefined ? Number.POSITIVE_INFINITY
      : checkInteger('atMost', atMost, 0, 2 ** 31 - 1);
    if (typeof input === 'object' && input !== null) {
      if ('messages' in input) {
        if (input.messages?.length > most) {
          throw new OneKVError('CONTEXT_FULL', `input: found ${input.messages.length} messages, ` +
            `expected at most ${most} tokens`);
        }
        const { whole, prefix } = splitPrefix(checkMessages(input.messages));
        const { tools = [], toolChoice } = options ?? {};
        const templateArguments = plainObject('templateArguments',
          options?.templateArguments ?? {});
        const checked = checkTools(tools);
        const { opener = '' } = toolAnswerOf(model, checked, { toolChoice });
        const { chatTemplate } = model;
        const text = chatTemplate.render(whole, { tools: checked, templateArguments }) +
          chatTemplate.mark(prefix, 'assistant');
        checkLength(model, text, most);
        return encodeChat(model.tokenizer,
          chatTemplate.endsInThoughts(text) ? text : text + opener);
      }
      if ('text' in input && typeof input.text === 'string') {
        checkLength(model, input.text, most);
        return model.tokenizer.encode(input.text,
          { special: special === true, begin: begin === true });
      }
    }
    throw invalidArgument('input', input, 'text or messages');
  }

  #classify(pixels: Args<'classify'>): Classification {
    const { image, labels, description } = this.#loaded;
    const patches = image === undefined ? 0 : Math.ceil(image.size / image.patch) ** 2;
    if (image === undefined || description.causal || patches > description.contextWindow ||
      image.channels * image.patch ** 2 !== description.features) {
      throw new OneKVError('WRONG_STATE', 'the model does not classify images');
    }
    const { logits, outputs } = this.#loaded.encode(imageRows(pixels, image));
    const row = logits.subarray(0, outputs);
    const most = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const exps = row.map((logit) => Math.exp(logit - most));
    const sum = exps.reduce((a, b) => a + b, 0);
    return { probabilities: exps.map((value) => value / sum), best: row.indexOf(most), labels };
  }
}
