// One model for all tabs of an origin. Each tab asks for a lock of the model's name; the one that
// gets it loads the model and runs it for all (share-host.ts), and when that tab goes away, however
// it does, the next one in the line gets the lock.
//
// Nothing can be saved in a tab that was killed. So each of the others keeps a snapshot of each of
// its own sessions, taken after every call that changed it and before that call's result is told.
// When another tab takes over, the sessions are restored there under the numbers that they had, and
// what was being worked on is asked for again: the same bits come, and of an answer the parts that
// have been told are not told twice. A session of which there is no snapshot is lost, and says so.
import { OneKVError } from '../api/errors.js';
import type { DownloadProgressEvent } from '../api/load.js';
import type { MemoryReport } from '../api/memory.js';
import { onAbort } from '../util/on-abort.js';
import type { Args, CallName, FromWorker, LoadedModel, Result, SessionState }
  from '../wire/protocol.js';
import { WorkerClient, makers } from './client.js';
import type { CallOptions, Client } from './client.js';
import { progressEvent } from './events.js';
import { ShareHost, channelOf } from './share-host.js';
import type { HostWord, LobbyWord, SharedModel } from './share-host.js';

/** Loads the model in this tab. */
type OpenModel = (signal: AbortSignal) => Promise<SharedModel & { client: Client }>;

/** Calls after which a session is another. */
const changing: ReadonlySet<CallName> = new Set<CallName>(
  [...makers, 'generate', 'append', 'truncate', 'setSampling']);

/** The session that a call on it has changed, or made. */
function changedBy(name: CallName, args: object, result: unknown): number | undefined {
  if (!changing.has(name)) return undefined;
  return makers.has(name) ? (result as SessionState).id : (args as { session: number }).session;
}

/** Another tab's worker, as one of this tab's own. */
function clientOver(channel: BroadcastChannel): { client: WorkerClient;
  take: (message: FromWorker) => void } {
  let take = (_: FromWorker) => {};
  const client = new WorkerClient((_, listener) => {
    take = (message) => listener.message([message]);
    return { post: (message) => channel.postMessage(message), keepAlive: () => {},
      end: async () => {} };
  }, undefined);
  return { client, take };
}

export class SharedClient implements Client {
  onMemory: ((memory: MemoryReport) => void) | undefined;
  onLost: (() => void) | undefined;
  /** Rejects when there is no way to get the model. */
  readonly ready: Promise<SharedModel>;
  readonly #share: string;
  readonly #id = crypto.randomUUID();
  readonly #open: OpenModel;
  readonly #target: EventTarget;
  readonly #lobby: BroadcastChannel;
  readonly #channel: BroadcastChannel;
  readonly #leaving = new AbortController();
  /** Of this tab's sessions, by number: the newest snapshot, if another tab runs the model. */
  readonly #sessions = new Map<number, Uint8Array | undefined>();
  readonly #gone = new Set<number>();
  /** Of each session: when its last changing call will be over. */
  readonly #tails = new Map<number, Promise<unknown>>();
  #settleReady: { resolve: (model: SharedModel) => void; reject: (error: unknown) => void };
  #hash: string | undefined;
  /** undefined until the model is loaded somewhere, and between two tabs that run it. */
  #client: Client | undefined;
  #waiting: (() => void)[] = [];
  /** Of the other tab. */
  #remote: { host: string; client: WorkerClient; take: (message: FromWorker) => void } |
    undefined;
  /** Of this one, if it runs the model. */
  #host: ShareHost | undefined;
  /** What calls end with that have to be asked again of another tab. */
  #moved = new OneKVError('WORKER_LOST', 'the tab that ran the model was closed');
  #watchesMemory = false;
  #over: OneKVError | undefined;
  #release = () => {};

  /** `share`: a name that is the same in all tabs with this model, and in no others.
   * `target`: of the events of progress, wherever it is loaded. */
  constructor(share: string, open: OpenModel, target: EventTarget) {
    this.#share = share;
    this.#open = open;
    this.#target = target;
    this.#settleReady = { resolve: () => {}, reject: () => {} };
    this.ready = new Promise((resolve, reject) => { this.#settleReady = { resolve, reject }; });
    this.ready.catch(() => {});
    this.#lobby = new BroadcastChannel(share);
    this.#lobby.onmessage = ({ data }) => this.#hear(data as LobbyWord);
    this.#channel = new BroadcastChannel(channelOf(share, this.#id));
    this.#channel.onmessage = ({ data }) => this.#receive(data as HostWord);
    void this.#join();
  }

  get isLoaded(): boolean {
    return this.#client !== undefined;
  }

  get over(): OneKVError | undefined {
    return this.#over;
  }

  // -- Whose worker it is --

  async #join(): Promise<void> {
    const isOver = new Promise<void>((resolve) => { this.#release = resolve; });
    const { locks } = navigator;
    // Held until this tab goes away or is done with the model.
    await new Promise<void>((resolve) => {
      void locks.request(channelOf(this.#share, this.#id), () => {
        resolve();
        return isOver;
      });
    });
    if (this.#over !== undefined) return;
    this.#say({ kind: 'hello', guest: this.#id });
    locks.request(this.#share, { signal: this.#leaving.signal }, async () => {
      await this.#runHere();
      await isOver;
    }).catch(() => {});
  }

  #say(word: LobbyWord): void {
    this.#lobby.postMessage(word);
  }

  #hear(word: LobbyWord): void {
    if (this.#over !== undefined) return;
    if (word.kind === 'hello') this.#host?.welcome(word.guest);
    else if (this.#host !== undefined) return;
    else if (word.kind === 'progress') {
      if (this.#hash !== undefined) return;
      this.#target.dispatchEvent(progressEvent(word.loaded, word.total, word.source));
    } else if (word.kind === 'here') {
      if (word.host === this.#remote?.host) return;
      void this.#move();
      this.#say({ kind: 'hello', guest: this.#id });
    } else if (word.host === this.#remote?.host) {
      this.#lose(new OneKVError('WORKER_LOST', word.reason));
    }
  }

  #receive(word: HostWord): void {
    if (this.#over !== undefined || this.#host !== undefined) return;
    const isKnown = word.host === this.#remote?.host;
    if (word.kind === 'said' && isKnown) this.#remote?.take(word.message);
    else if (word.kind === 'welcome' && !isKnown) void this.#useRemote(word.host, word);
  }

  /** From here on nothing is asked of the tab that ran the model. */
  async #move(): Promise<void> {
    const { client } = this.#remote ?? {};
    this.#remote = undefined;
    this.#client = undefined;
    await client?.end(this.#moved);
  }

  async #useRemote(host: string, { loaded, engine }: SharedModel): Promise<void> {
    const remote = { host, ...clientOver(this.#channel) };
    this.#remote = remote;
    try {
      await this.#settle(remote.client, loaded);
    } catch (error) {
      if (error !== this.#moved) this.#lose(error);
      return;
    }
    const isStill = this.#remote === remote && this.#over === undefined;
    if (isStill) this.#use(remote.client, { loaded, engine });
  }

  async #runHere(): Promise<void> {
    await this.#move();
    if (this.#over !== undefined) return;
    const tell = (event: Event) => {
      const { loaded, total, source } = event as DownloadProgressEvent;
      this.#say({ kind: 'progress', loaded, total, source });
    };
    this.#target.addEventListener('downloadprogress', tell);
    try {
      const { client, loaded, engine } = await this.#open(this.#leaving.signal);
      try {
        await this.#settle(client, loaded);
        if (this.#over !== undefined) throw this.#over;
      } catch (error) {
        await client.end(error as OneKVError);
        throw error;
      }
      // Of no use any more: they live and die with this tab.
      for (const session of this.#sessions.keys()) this.#sessions.set(session, undefined);
      this.#host = new ShareHost(this.#share, this.#lobby, client, { loaded, engine });
      this.#use(client, { loaded, engine });
    } catch (error) {
      this.#lose(error);
    } finally {
      this.#target.removeEventListener('downloadprogress', tell);
    }
  }

  /** Restores this tab's sessions. Errors: SOURCE_FAILED: it is another model. */
  async #settle(client: Client, { hash }: LoadedModel): Promise<void> {
    this.#hash ??= hash;
    if (hash !== this.#hash) {
      throw new OneKVError('SOURCE_FAILED', 'the source gives another model by now');
    }
    for (const [session, bytes] of [...this.#sessions]) {
      try {
        if (bytes === undefined) throw this.#moved;
        await client.call('restore', { bytes, as: session });
      } catch (error) {
        if (error === this.#moved && bytes !== undefined) throw error;
        this.#sessions.delete(session);
        this.#gone.add(session);
      }
    }
  }

  #use(client: Client, model: SharedModel): void {
    this.#client = client;
    client.onMemory = (memory) => {
      if (this.#host?.tellMemory(memory) ?? true) this.onMemory?.(memory);
    };
    client.onLost = () => this.#lose(client.over ?? this.#moved);
    if (this.#watchesMemory) this.#setWatch(client, true).catch(() => {});
    this.#settleReady.resolve(model);
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((goOn) => goOn());
  }

  /** Nothing works any more. */
  #lose(error: unknown): void {
    if (this.#over !== undefined) return;
    const lost = error instanceof OneKVError ? error
      : new OneKVError('WORKER_LOST', String(error), { cause: error });
    this.#host?.close(lost.message);
    this.#settleReady.reject(error);
    void this.end(lost);
    this.onLost?.();
  }

  // -- Calls --

  /** The client, when there is one. */
  async #connected(signal: AbortSignal | undefined): Promise<Client> {
    for (;;) {
      if (this.#over !== undefined) throw this.#over;
      signal?.throwIfAborted();
      if (this.#client !== undefined) return this.#client;
      await new Promise<void>((resolve) => {
        const release = onAbort(signal, resolve);
        this.#waiting.push(() => {
          release();
          resolve();
        });
      });
    }
  }

  #setWatch(client: Client, on: boolean): Promise<undefined> {
    return this.#host?.watchMemory(on) ?? client.call('watchMemory', { on });
  }

  call<N extends CallName>(name: N, args: Args<N>, options: CallOptions = {}): Promise<Result<N>> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const { session } = args as { session?: number };
    if (session !== undefined && this.#gone.has(session)) {
      if (name === 'destroy') return Promise.resolve(undefined as Result<N>);
      return Promise.reject(new OneKVError('WORKER_LOST', 'the session is lost: the tab that ran ' +
        'the model was closed, and there is no snapshot of it'));
    }
    if (name === 'watchMemory') this.#watchesMemory = (args as Args<'watchMemory'>).on;
    if (session === undefined || !changing.has(name)) return this.#repeat(name, args, options);
    // One after the other: between two changes a snapshot is taken.
    const before = this.#turn(session, options.signal);
    const work = () => this.#repeat(name, args, options);
    const result = before === undefined ? work() : before.then(work);
    const tail = result.then(() => {}, () => {}).then(() => {
      if (this.#tails.get(session) === tail) this.#tails.delete(session);
    });
    this.#tails.set(session, tail);
    return result;
  }

  /** When the session's calls so far are over; undefined if they are, or if it need not be waited
   * for. An aborted call does nothing, and may do that at once. */
  #turn(session: number, signal: AbortSignal | undefined): Promise<void> | undefined {
    const before = this.#tails.get(session);
    if (before === undefined || this.#host !== undefined) return undefined;
    return new Promise((resolve) => {
      const release = onAbort(signal, resolve);
      void before.then(() => {
        release();
        resolve();
      });
    });
  }

  /** Asks until there is an answer, from whichever tab runs the model by then. */
  async #repeat<N extends CallName>(name: N, args: Args<N>,
    options: CallOptions): Promise<Result<N>> {
    let told = 0;
    let isAsked = false;
    for (;;) {
      const client = this.#client ?? await this.#connected(options.signal);
      let skip = told;
      const hearing: CallOptions = { ...options, onNotice: (notice, call) => {
        if (notice.type === 'ask') isAsked = true;
        if (notice.type === 'part' && skip-- > 0) return;
        if (notice.type === 'part') told += 1;
        return options.onNotice?.(notice, call);
      } };
      try {
        return await this.#once(client, name, args, hearing);
      } catch (error) {
        // A constraint of the page's own has heard of tokens that it would hear of again.
        if (error !== this.#moved || isAsked) throw error;
      }
    }
  }

  async #once<N extends CallName>(client: Client, name: N, args: Args<N>,
    options: CallOptions): Promise<Result<N>> {
    if (name === 'watchMemory') {
      return this.#setWatch(client, (args as Args<'watchMemory'>).on) as Promise<Result<N>>;
    }
    if (this.#host !== undefined) return client.call(name, args, options);
    // Sent as a copy: it may be needed again.
    const { transfer: _, ...rest } = options;
    let state: SessionState | undefined;
    const hearing: CallOptions = { ...rest, onState: (found) => { state = found; } };
    const result = await client.call(name, args, hearing)
      .catch(async (error: unknown) => {
        if (state !== undefined && changing.has(name)) {
          await this.#keep(client, state.id);
        }
        if (state !== undefined) options.onState?.(state);
        throw error;
      });
    if (name === 'destroy') this.#sessions.delete((args as Args<'destroy'>).session);
    const changed = changedBy(name, args, result);
    if (changed !== undefined) await this.#keep(client, changed);
    return result;
  }

  /** Takes the snapshot of a session. */
  async #keep(client: Client, session: number): Promise<void> {
    let bytes: Uint8Array | undefined;
    try {
      bytes = await client.call('save', { session, format: 'cache' });
    } catch (error) {
      if (error === this.#moved) throw error;
      // Destroyed meanwhile.
      if (error instanceof OneKVError && error.code === 'DESTROYED') return;
    }
    this.#sessions.set(session, bytes);
  }

  allow(id: number, mask: Uint32Array | undefined): void {
    this.#client?.allow(id, mask);
  }

  async end(error: OneKVError): Promise<void> {
    if (this.#over !== undefined) return;
    this.#over = error;
    this.#leaving.abort(error);
    this.#settleReady.reject(error);
    this.#host?.close();
    const client = this.#client ?? this.#remote?.client;
    this.#client = undefined;
    this.#sessions.clear();
    const waiting = this.#waiting;
    this.#waiting = [];
    waiting.forEach((goOn) => goOn());
    await client?.end(error);
    this.#lobby.close();
    this.#channel.close();
    // Only now may another tab load it.
    this.#release();
  }
}
