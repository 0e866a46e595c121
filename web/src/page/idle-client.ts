// A model that is unloaded while nobody uses it: its sessions are kept as snapshots in the page,
// and the next call loads it again and restores them, under the numbers that they had.
//
// In between it looks as if nothing had happened: calls take longer, that is all. What only listens
// (the memory events) and what only gives up (destroying a session) wakes nobody.
import { OneKVError } from '../api/errors.js';
import type { MemoryReport } from '../api/memory.js';
import { unlessAborted } from '../util/on-abort.js';
import type { Args, CallName, Result, SessionState } from '../wire/protocol.js';
import { makers } from './client.js';
import type { CallOptions, Client, WorkerClient } from './client.js';

export class IdleClient implements Client {
  onMemory: ((memory: MemoryReport) => void) | undefined;
  onLost: (() => void) | undefined;
  readonly #reopen: () => Promise<WorkerClient>;
  readonly #idleMs: number;
  /** undefined while the model is unloaded. */
  #client: WorkerClient | undefined;
  #waking: Promise<WorkerClient> | undefined;
  /** By number: the snapshot of each while the model is unloaded. */
  readonly #sessions = new Map<number, Uint8Array | undefined>();
  #running = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchesMemory = false;
  #over: OneKVError | undefined;

  /** `reopen` gives a worker with the same model. */
  constructor(client: WorkerClient, reopen: () => Promise<WorkerClient>, idleSeconds: number) {
    this.#reopen = reopen;
    this.#idleMs = idleSeconds * 1000;
    this.#use(client);
    this.#rest();
  }

  get isLoaded(): boolean {
    return this.#client !== undefined;
  }

  get over(): OneKVError | undefined {
    return this.#over;
  }

  call<N extends CallName>(name: N, args: Args<N>, options: CallOptions = {}): Promise<Result<N>> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    if (this.#client === undefined) {
      const done = this.#withoutModel(name, args);
      if (done) return Promise.resolve(undefined as Result<N>);
    }
    if (name === 'watchMemory') this.#watchesMemory = (args as { on: boolean }).on;
    return this.#counted(async () => {
      // Without a wait where there is nothing to wait for: calls keep their order.
      const client = this.#client ?? await this.#awake(options.signal);
      const result = await client.call(name, args, options);
      if (makers.has(name)) this.#sessions.set((result as SessionState).id, undefined);
      if (name === 'destroy') this.#sessions.delete((args as { session: number }).session);
      return result;
    });
  }

  /** What need not wake the model; false if it is something else. */
  #withoutModel<N extends CallName>(name: N, args: Args<N>): boolean {
    if (this.#waking !== undefined) return false;
    if (name === 'watchMemory') this.#watchesMemory = (args as { on: boolean }).on;
    else if (name === 'destroy') this.#sessions.delete((args as { session: number }).session);
    else return false;
    return true;
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    this.#running += 1;
    clearTimeout(this.#timer);
    try {
      return await work();
    } finally {
      this.#running -= 1;
      this.#rest();
    }
  }

  /** Counts from now on. */
  #rest(): void {
    if (this.#running > 0 || this.#client === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#sleep(), Math.min(this.#idleMs, 2 ** 31 - 1));
    // In Node: a program does not wait for it.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  #use(client: WorkerClient): void {
    this.#client = client;
    client.onMemory = (memory) => this.onMemory?.(memory);
    client.onLost = () => {
      clearTimeout(this.#timer);
      this.#over = client.over;
      this.onLost?.();
    };
    if (this.#watchesMemory) client.call('watchMemory', { on: true }).catch(() => {});
  }

  async #sleep(): Promise<void> {
    const client = this.#client;
    if (client === undefined || this.#running > 0) return;
    const saved = new Map<number, Uint8Array>();
    try {
      for (const session of this.#sessions.keys()) {
        saved.set(session, await client.call('save', { session, format: 'cache' }));
        // Somebody came.
        if (this.#running > 0) return;
      }
    } catch {
      // A session that cannot be saved stays, and with it the model.
      return;
    }
    for (const [session, bytes] of saved) this.#sessions.set(session, bytes);
    this.#client = undefined;
    await client.end(new OneKVError('DESTROYED', 'the model was unloaded while nobody used it'));
  }

  /** Loads the model again. Errors: those of load, and the signal's reason. */
  #awake(signal: AbortSignal | undefined): Promise<WorkerClient> {
    this.#waking ??= this.#wake().finally(() => {
      this.#waking = undefined;
    });
    return unlessAborted(this.#waking, signal);
  }

  async #wake(): Promise<WorkerClient> {
    const client = await this.#reopen();
    try {
      if (this.#over !== undefined) throw this.#over;
      for (const [session, snapshot] of this.#sessions) {
        if (snapshot === undefined) continue;
        // Copied: it is needed again when this does not succeed.
        await client.call('restore', { bytes: snapshot, as: session });
      }
    } catch (error) {
      await client.end(new OneKVError('WORKER_LOST', 'the sessions could not be restored'));
      throw error;
    }
    if (this.#over !== undefined) {
      await client.end(this.#over);
      throw this.#over;
    }
    for (const session of this.#sessions.keys()) this.#sessions.set(session, undefined);
    this.#use(client);
    return client;
  }

  allow(id: number, mask: Uint32Array | undefined): void {
    this.#client?.allow(id, mask);
  }

  async end(error: OneKVError): Promise<void> {
    if (this.#over !== undefined) return;
    this.#over = error;
    clearTimeout(this.#timer);
    this.#sessions.clear();
    await this.#client?.end(error);
  }
}
