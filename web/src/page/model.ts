// The page's end of a model in a worker.
import type { EngineReport, Model, ModelEventMap, TokenizeOptions, Vocabulary }
  from '../api/model.js';
import type { CacheCost, MemoryReport, StandardBytes } from '../api/memory.js';
import { embedNames } from '../api/embed.js';
import type { EmbedInput, EmbedOptions, Embeddings } from '../api/embed.js';
import type { Classification, ImageInput, Pixels } from '../api/image.js';
import { tokenizeNames } from '../api/model.js';
import { checkKind, checkOptions, checkSignal } from '../api/options.js';
import type { ListenerOptions, SignalOptions } from '../api/options.js';
import { restoreNames, sessionNames } from '../api/session.js';
import type { ChatMessage } from '../api/messages.js';
import type { CacheType, ModelDescription } from '../api/description.js';
import type { Constraint, ResponseConstraint, RestoreOptions, Session, SessionBatch,
  SessionOptions } from '../api/session.js';
import { Batch } from './batch.js';
import { OneKVError, checkIds, invalidArgument } from '../api/errors.js';
import { CheckedConstraint, wireGrammar } from './constraint.js';
import { TypedTarget, memoryEvent } from './events.js';
import type { LoadedModel, SessionState } from '../wire/protocol.js';
import type { Tool } from '../api/tools.js';
import { toolsByName, wireTools } from './tools.js';
import { RemoteSession, onPrefill, wireInput, wireSessionOptions } from './session.js';
import type { Client } from './client.js';

async function bytesOf(snapshot: Blob | ArrayBuffer | Uint8Array | Response): Promise<Uint8Array> {
  if (snapshot instanceof Uint8Array) return snapshot.slice();
  if (snapshot instanceof ArrayBuffer) return new Uint8Array(snapshot.slice(0));
  if (snapshot instanceof Response && !snapshot.ok) {
    throw new OneKVError('SOURCE_FAILED',
      `${snapshot.url}: found HTTP status ${snapshot.status}, expected 200`);
  }
  if (snapshot instanceof Blob || snapshot instanceof Response) {
    return new Uint8Array(await snapshot.arrayBuffer());
  }
  throw invalidArgument('snapshot', snapshot, 'a Blob, ArrayBuffer, Uint8Array or Response');
}

export class RemoteModel extends TypedTarget<ModelEventMap> implements Model {
  readonly description: ModelDescription;
  readonly name: string | undefined;
  readonly labels: readonly string[] | undefined;
  readonly hash: string;
  readonly engine: EngineReport;
  readonly cacheType: CacheType;
  readonly contextWindow: number;
  readonly bytesPerToken: number;
  readonly standardBytesPerToken: StandardBytes;
  readonly fullContext: CacheCost;
  readonly pageTokens: number;
  readonly hasChatTemplate: boolean;
  /** @internal */
  readonly client: Client;
  /** Sessions that nobody holds any more are destroyed, some time. */
  readonly #forgotten: FinalizationRegistry<number>;
  readonly #gone = new AbortController();
  readonly #memoryListeners = new Set<unknown>();

  /** @internal */
  constructor(client: Client, loaded: LoadedModel, engine: EngineReport) {
    super();
    this.client = client;
    const notes = [...engine.notes, ...loaded.notes];
    this.engine = { ...engine, threads: loaded.threads, notes };
    this.description = loaded.description;
    this.name = loaded.name;
    this.labels = loaded.labels;
    this.hash = loaded.hash;
    this.cacheType = loaded.cacheType;
    this.contextWindow = loaded.contextWindow;
    this.bytesPerToken = loaded.perToken.used;
    this.standardBytesPerToken = loaded.perToken.standard;
    this.fullContext = loaded.fullContext;
    this.pageTokens = loaded.pageTokens;
    this.hasChatTemplate = loaded.hasChatTemplate;
    this.#forgotten = new FinalizationRegistry((session) => {
      client.call('destroy', { session }).catch(() => {});
    });
    client.onMemory = (memory) => this.dispatchEvent(memoryEvent(memory));
    client.onLost = () => {
      this.#gone.abort(client.over);
      this.dispatchEvent(new Event('lost'));
    };
  }

  get isLoaded(): boolean {
    return this.client.isLoaded;
  }

  /** Is aborted when nothing works any more. @internal */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  override addEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void, options?: ListenerOptions): void {
    super.addEventListener(type, listener, options);
    if (type !== 'memory' || this.#memoryListeners.has(listener)) return;
    this.#memoryListeners.add(listener);
    this.#watchMemory();
  }

  override removeEventListener<K extends keyof ModelEventMap>(type: K,
    listener: (event: ModelEventMap[K]) => void): void {
    super.removeEventListener(type, listener);
    if (type === 'memory' && this.#memoryListeners.delete(listener)) this.#watchMemory();
  }

  #watchMemory(): void {
    const on = this.#memoryListeners.size > 0;
    // Where the worker is gone, listeners hear nothing.
    this.client.call('watchMemory', { on }).catch(() => {});
  }

  async createSession(options: SessionOptions = {}): Promise<RemoteSession> {
    checkOptions('createSession', options, sessionNames);
    const tools = toolsByName(options.tools);
    const state = await this.client.call('createSession', wireSessionOptions(options, tools),
      onPrefill(options));
    return this.hold(state, tools);
  }

  /** The object of a session in the worker. @internal */
  hold(state: SessionState, tools: ReadonlyMap<string, Tool> = new Map()): RemoteSession {
    const session = new RemoteSession(this, state, tools);
    this.#forgotten.register(session, session.id);
    return session;
  }

  async restore(snapshot: Blob | ArrayBuffer | Uint8Array | Response,
    options: RestoreOptions = {}): Promise<RemoteSession> {
    const { signal, tools } = checkOptions('restore', options, restoreNames);
    const byName = toolsByName(tools);
    const bytes = await bytesOf(snapshot);
    const state = await this.client.call('restore', { bytes },
      { signal, transfer: [bytes.buffer as ArrayBuffer] });
    return this.hold(state, byName);
  }

  batch(sessions: readonly Session[]): SessionBatch {
    return new Batch(sessions);
  }

  async memory(options: SignalOptions = {}): Promise<MemoryReport> {
    return this.client.call('memory', {}, checkSignal('memory', options));
  }

  async trim(options: SignalOptions = {}): Promise<void> {
    return this.client.call('trim', {}, checkSignal('trim', options));
  }

  async tokenize(input: string | readonly ChatMessage[],
    options: TokenizeOptions = {}): Promise<number[]> {
    const { signal, special = false, begin = false, tools, toolChoice, templateArguments,
      atMost } = checkOptions('tokenize', options, tokenizeNames);
    return this.client.call('tokenize', { input: wireInput(input), special, begin, atMost,
      options: { toolChoice, templateArguments,
        tools: wireTools(toolsByName(tools)) } }, { signal });
  }

  async detokenize(tokens: Iterable<number>, options: TokenizeOptions = {}): Promise<string> {
    const { signal, special = false } = checkOptions('detokenize', options, tokenizeNames);
    return this.client.call('detokenize', { tokens: checkIds(tokens), special },
      { signal });
  }

  async constrain(constraint: ResponseConstraint,
    options: SignalOptions = {}): Promise<Constraint> {
    const { signal } = checkSignal('constrain', options);
    const grammar = wireGrammar(constraint);
    await this.client.call('constrain', { grammar }, { signal });
    return new CheckedConstraint(grammar);
  }

  async vocabulary(options: SignalOptions = {}): Promise<Vocabulary> {
    return this.client.call('vocabulary', {}, checkSignal('vocabulary', options));
  }

  async embed(texts: string | readonly EmbedInput[],
    options: EmbedOptions = {}): Promise<Embeddings> {
    const { signal, ...how } = checkOptions('embed', options, embedNames);
    if (typeof texts !== 'string' && !Array.isArray(texts)) {
      throw invalidArgument('texts', texts, 'text or a list of texts');
    }
    const list: readonly EmbedInput[] = typeof texts === 'string' ? [texts] : texts;
    return this.client.call('embed', { ...how, texts: list.map((text, i) =>
      (typeof text !== 'object' || text === null ? text : checkIds(text, `texts[${i}]: `))) },
    { signal });
  }

  async classify(image: ImageInput, options: SignalOptions = {}): Promise<Classification> {
    const { signal } = checkSignal('classify', options);
    checkKind('image', image, 'object');
    const { width, height, data } = image;
    return this.client.call('classify', { width, height, data: data as Pixels['data'] },
      { signal });
  }

  unload(): Promise<void> {
    const error = new OneKVError('DESTROYED', 'the model was unloaded');
    this.#gone.abort(error);
    return this.client.end(error);
  }
}
