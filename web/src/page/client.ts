// The page's end of the protocol: calls become promises, and the end of the worker, however it
// comes, becomes their error.
import type { ScriptAddress } from '../api/load.js';
import { OneKVError, reasonOf } from '../api/errors.js';
import { onAbort } from '../util/on-abort.js';
import type { Args, CallMessage, CallName, FromWorker, Notice, Result, SessionState, ToWorker }
  from '../wire/protocol.js';
import type { MemoryReport } from '../api/memory.js';

/** A worker of the platform. */
interface WorkerHandle {
  post(message: ToWorker, transfer: Transferable[]): void;
  /** Node only: keeps the process alive while calls are pending. */
  keepAlive(on: boolean): void;
  end(): Promise<void>;
}

interface WorkerListener {
  message(messages: FromWorker[]): void;
  /** The worker ended, or could not be started, without being asked to end. */
  lost(reason: string): void;
}

export type StartWorker = (url: ScriptAddress | undefined,
  listener: WorkerListener) => WorkerHandle;

export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** What it throws, at once or as a promise, ends the call, which rejects with that. */
  onNotice?: ((notice: Notice, call: number) => unknown) | undefined;
  /** How the session stands, when the call fails. */
  onState?: ((state: SessionState) => void) | undefined;
  transfer?: Transferable[] | undefined;
}

interface Pending {
  name: CallName;
  resolve: (result: never) => void;
  reject: (reason: unknown) => void;
  options: CallOptions;
  /** Stops listening to the signal. */
  release: () => void;
  /** What a function of the caller has thrown. */
  failure?: { error: unknown };
}

/** Calls whose result is a session that was not there before. */
export const makers: ReadonlySet<CallName> =
  new Set<CallName>(['createSession', 'restore', 'clone']);

/** What models and sessions ask a worker by. */
export interface Client {
  onMemory: ((memory: MemoryReport) => void) | undefined;
  onLost: (() => void) | undefined;
  readonly isLoaded: boolean;
  /** Why no call can be made any more. */
  readonly over: OneKVError | undefined;
  call<N extends CallName>(name: N, args: Args<N>, options?: CallOptions): Promise<Result<N>>;
  allow(id: number, mask: Uint32Array | undefined): void;
  end(error: OneKVError): Promise<void>;
}

export class WorkerClient implements Client {
  onMemory: ((memory: MemoryReport) => void) | undefined;
  onLost: (() => void) | undefined;
  readonly #handle: WorkerHandle;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #over: OneKVError | undefined;
  #stopWatching: (() => void) | undefined;

  constructor(start: StartWorker, url: ScriptAddress | undefined) {
    this.#handle = start(url, {
      message: (messages) => messages.forEach((message) => this.#receive(message)),
      lost: (reason) => this.#lose(new OneKVError('WORKER_LOST', reason)),
    });
  }

  get over(): OneKVError | undefined {
    return this.#over;
  }

  get isLoaded(): boolean {
    return this.#over === undefined;
  }

  /** Rejects with the signal's reason once the worker has stopped working on the call. */
  call<N extends CallName>(name: N, args: Args<N>, options: CallOptions = {}): Promise<Result<N>> {
    const { signal } = options;
    if (this.#over !== undefined) return Promise.reject(this.#over);
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const release = onAbort(signal, () => this.#handle.post({ kind: 'abort', id }, []));
      try {
        const message = { kind: 'call', id, name, args } as unknown as CallMessage;
        this.#handle.post(message, options.transfer ?? []);
      } catch (error) {
        release();
        // What cannot be cloned: a function among the options.
        reject(new OneKVError('INVALID_ARGUMENT', `${name}: ${reasonOf(error)}`, { cause: error }));
        return;
      }
      this.#pending.set(id, { name, resolve, reject, options, release });
      this.#handle.keepAlive(true);
    });
  }

  /** The answer to a call's notice `ask`. */
  allow(id: number, mask: Uint32Array | undefined): void {
    this.#handle.post({ kind: 'allowed', id, mask }, []);
  }

  /** Watches a lock that the worker holds: when it can be taken here, the worker is gone. Browsers
   * tell of no other end but that of an uncaught error. */
  watch(lock: string): void {
    const controller = new AbortController();
    this.#stopWatching = () => controller.abort();
    navigator.locks.request(lock, { signal: controller.signal }, () => {
      this.#lose(new OneKVError('WORKER_LOST', 'the worker ended'));
    }).catch(() => {});
  }

  #receive(message: FromWorker): void {
    if (message.kind === 'memory') {
      this.onMemory?.(message.memory);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    const { resolve, reject, options } = pending;
    if (message.kind === 'notice') {
      void this.#notify(message.id, message.notice, pending);
      return;
    }
    this.#settle(message.id, pending);
    const { failure } = pending;
    if ('state' in message && message.state !== undefined) options.onState?.(message.state);
    if (failure !== undefined) {
      reject(failure.error);
      // The worker was done before it heard of that: nobody will hold the session made.
      if (message.kind === 'result' && makers.has(pending.name)) {
        const { id: session } = message.result as SessionState;
        this.call('destroy', { session }).catch(() => {});
      }
    } else if (message.kind === 'result') resolve(message.result as never);
    else if (message.kind === 'aborted') reject(options.signal?.reason);
    else reject(new OneKVError(message.code, message.message));
    // Nothing works any more in a worker whose engine broke down. What waits gets the same error:
    // while a model is opened two calls do, and either may be the first to hear.
    if (message.kind === 'error' && message.code === 'WASM_FAILED') {
      this.#rejectAll(new OneKVError(message.code, message.message));
      this.#lose(new OneKVError('WORKER_LOST', message.message));
    }
  }

  /** Tells of a notice, and no more of them after a failure. */
  async #notify(id: number, notice: Notice, pending: Pending): Promise<void> {
    try {
      if (pending.failure === undefined) await pending.options.onNotice?.(notice, id);
    } catch (error) {
      pending.failure ??= { error };
      if (this.#pending.has(id)) this.#handle.post({ kind: 'abort', id }, []);
    }
  }

  #settle(id: number, pending: Pending): void {
    pending.release();
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#handle.keepAlive(false);
  }

  #lose(error: OneKVError): void {
    if (this.#over !== undefined) return;
    void this.end(error);
    this.onLost?.();
  }

  /** Ends the worker; what is pending is rejected with this. A second call does nothing. */
  async end(error: OneKVError): Promise<void> {
    if (this.#over !== undefined) return;
    this.#over = error;
    this.#stopWatching?.();
    this.#rejectAll(error);
    await this.#handle.end();
  }

  #rejectAll(error: OneKVError): void {
    for (const [id, pending] of [...this.#pending]) {
      this.#settle(id, pending);
      pending.reject(pending.failure === undefined ? error : pending.failure.error);
    }
  }
}
