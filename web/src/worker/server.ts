// The worker's end of the protocol: takes messages, has calls carried out, sends what comes of it.
//
// Calls on one session run one after the other, but for those that only look (canRunNow); a call
// that is aborted before its turn does nothing. Messages are hostile until they are checked: what
// cannot be answered is dropped.
import { OneKVError, invalidArgument, reasonOf } from '../api/errors.js';
import { ModelHost } from './model-calls.js';
import type { Loading } from './model-calls.js';
import { onAbort } from '../util/on-abort.js';
import type { CallContext, CallMessage, CallName, FromWorker, Notice } from '../wire/protocol.js';

/** How often memory is told while sessions work, in milliseconds. */
const memoryMs = 50;

interface Running {
  id: number;
  session: unknown;
  controller: AbortController;
  /** Where the answer to `ask` goes. */
  allow: ((mask: unknown) => void) | undefined;
}

type Handler = (args: object, call: CallContext) => unknown;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Rejects when the signal is aborted, and never resolves. */
function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    onAbort(signal, () => reject(signal.reason));
  });
}

export class WorkerServer {
  readonly #host: ModelHost;
  readonly #post: (messages: FromWorker[], transfer: Transferable[]) => void;
  readonly #calls = new Map<number, Running>();
  /** Of each session: when its last call will be over. */
  readonly #tails = new Map<unknown, Promise<void>>();
  #outbox: FromWorker[] = [];
  #transfer: Transferable[] = [];
  #watchesMemory = false;
  #memoryTold = 0;

  constructor(loading: Loading,
    post: (messages: FromWorker[], transfer: Transferable[]) => void) {
    this.#post = post;
    this.#host = new ModelHost(loading, () => {
      this.#tellMemory(memoryMs);
      this.#flush();
    });
  }

  /** Takes what came in. */
  receive(message: unknown): void {
    if (!isObject(message)) return;
    const { kind, id } = message;
    if (typeof id !== 'number' || !Number.isSafeInteger(id)) return;
    const running = this.#calls.get(id);
    if (kind === 'abort') running?.controller.abort();
    else if (kind === 'allowed') running?.allow?.(message['mask']);
    else if (kind === 'call' && running === undefined) {
      void this.#carryOut(message as unknown as CallMessage);
    }
  }

  #handler(name: CallName): Handler {
    const own = this.#host.handlers as Record<string, Handler>;
    if (Object.hasOwn(own, name)) return own[name] as Handler;
    const ofSessions = this.#host.sessions.handlers as Record<string, Handler>;
    if (Object.hasOwn(ofSessions, name)) return ofSessions[name] as Handler;
    throw invalidArgument('name', name, 'a call of the protocol');
  }

  async #carryOut({ id, name, args }: CallMessage): Promise<void> {
    const controller = new AbortController();
    const session = isObject(args) && 'session' in args ? args.session : undefined;
    const running: Running = { id, session, controller, allow: undefined };
    this.#calls.set(id, running);
    try {
      if (!isObject(args)) throw invalidArgument('args', args, 'an object');
      const handler = this.#handler(name);
      const context = this.#context(running);
      const work = () => handler(args, context);
      if (name === 'destroy') this.#cancelOthers(running);
      const isFree = session === undefined || this.#host.sessions.canRunNow(name, session);
      const result = await (isFree ? work() : this.#inOrder(running, work));
      if (name === 'watchMemory') this.#watchesMemory = (args as { on: unknown }).on === true;
      if (result instanceof Uint8Array) this.#transfer.push(result.buffer as ArrayBuffer);
      this.#send({ kind: 'result', id, result });
    } catch (error) {
      this.#sendFailure(running, error);
    } finally {
      this.#calls.delete(id);
      this.#tellMemory(0);
    }
  }

  #sendFailure({ id, session, controller }: Running, thrown: unknown): void {
    let error = thrown;
    let state;
    try {
      state = session === undefined ? undefined : this.#host.sessions.state(session);
    } catch (lost) {
      error = lost;
    }
    const withState = state === undefined ? {} : { state };
    const isAborted = controller.signal.aborted && error === controller.signal.reason;
    if (isAborted && !(error instanceof OneKVError)) {
      this.#send({ kind: 'aborted', id, ...withState });
      return;
    }
    const code = error instanceof OneKVError ? error.code : 'INTERNAL';
    this.#send({ kind: 'error', id, code, message: reasonOf(error), ...withState });
  }

  /** Runs the work when the calls before it on the same session are over. */
  async #inOrder(running: Running, work: () => unknown): Promise<unknown> {
    const { session, controller: { signal } } = running;
    const before = this.#tails.get(session) ?? Promise.resolve();
    let over = () => {};
    const own = new Promise<void>((resolve) => { over = resolve; });
    const last = before.then(() => own);
    this.#tails.set(session, last);
    try {
      await Promise.race([before, whenAborted(signal)]);
      signal.throwIfAborted();
      return await work();
    } finally {
      over();
      if (this.#tails.get(session) === last) this.#tails.delete(session);
    }
  }

  #cancelOthers({ id, session }: Running): void {
    for (const other of this.#calls.values()) {
      if (other.session !== session || other.id === id) continue;
      other.controller.abort(new OneKVError('DESTROYED', 'the session was destroyed'));
    }
  }

  #context(running: Running): CallContext {
    const { id, controller: { signal } } = running;
    // One for all questions: each would listen to the signal until the call is over.
    let aborted: Promise<never> | undefined;
    return {
      signal,
      notice: (notice: Notice) => this.#send({ kind: 'notice', id, notice }),
      ask: async () => {
        aborted ??= whenAborted(signal);
        const answer = new Promise<unknown>((resolve) => { running.allow = resolve; });
        this.#send({ kind: 'notice', id, notice: { type: 'ask' } });
        const mask = await Promise.race([answer, aborted]);
        if (mask === undefined || mask instanceof Uint32Array) return mask;
        throw invalidArgument('what constraint.allowed gives', mask, 'a Uint32Array');
      },
    };
  }

  #tellMemory(interval: number): void {
    const now = performance.now();
    if (!this.#watchesMemory || now - this.#memoryTold < interval) return;
    this.#memoryTold = now;
    try {
      this.#send({ kind: 'memory', memory: this.#host.memory() });
    } catch {
      // No model yet, or the engine broke down: the calls say so.
    }
  }

  #send(message: FromWorker): void {
    if (this.#outbox.push(message) === 1) queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    if (this.#outbox.length === 0) return;
    const [messages, transfer] = [this.#outbox, this.#transfer];
    this.#outbox = [];
    this.#transfer = [];
    this.#post(messages, transfer);
  }
}
