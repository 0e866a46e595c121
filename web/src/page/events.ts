// Events of models and sessions, and what their listeners are told.
import { invalidArgument } from '../api/errors.js';
import type { DownloadProgressEvent } from '../api/load.js';
import type { MemoryEvent, MemoryReport } from '../api/memory.js';
import type { ListenerOptions } from '../api/options.js';

class Memory extends Event implements MemoryEvent {
  readonly memory: MemoryReport;

  constructor(memory: MemoryReport) {
    super('memory');
    this.memory = memory;
  }
}

class Progress extends Event implements DownloadProgressEvent {
  readonly loaded: number;
  readonly total: number;

  readonly source: string;

  constructor(loaded: number, total: number, source: string) {
    super('downloadprogress');
    this.loaded = loaded;
    this.total = total;
    this.source = source;
  }
}

export const memoryEvent = (memory: MemoryReport): Event => new Memory(memory);
export const progressEvent = (loaded: number, total: number, source: string): Event =>
  new Progress(loaded, total, source);

type Listener = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };

/** By the caller's listener: the one that is in its place. */
const guards = new WeakMap<Listener, (event: Event) => void>();

/** What a listener throws is reported: it belongs to no call, and must not end a program of Node.
 * Error: INVALID_ARGUMENT. */
function guardOf(listener: Listener): (event: Event) => void {
  const isCalled = typeof listener === 'function';
  if (!isCalled && typeof listener?.handleEvent !== 'function') {
    throw invalidArgument('listener', listener, 'a function');
  }
  const known = guards.get(listener);
  if (known !== undefined) return known;
  const { reportError = console.error } = globalThis as
    { reportError?: (error: unknown) => void };
  const guard = async (event: Event) => {
    try {
      await (isCalled ? listener(event) : listener.handleEvent(event));
    } catch (error) {
      reportError(error);
    }
  };
  guards.set(listener, guard);
  return guard;
}

/** An event target that goes on where a listener throws. */
export class GuardedTarget extends EventTarget {
  override addEventListener(type: string, listener: Listener, options?: ListenerOptions): void {
    super.addEventListener(type, guardOf(listener), options);
  }

  override removeEventListener(type: string, listener: Listener, options?: ListenerOptions): void {
    super.removeEventListener(type, guards.get(listener) ?? null, options);
  }
}

interface Typed<Events extends object> {
  addEventListener<K extends keyof Events & string>(type: K,
    listener: (event: Events[K]) => void, options?: ListenerOptions): void;
  removeEventListener<K extends keyof Events & string>(type: K,
    listener: (event: Events[K]) => void): void;
  /** @internal */
  dispatchEvent(event: Event): boolean;
}

/** One whose listeners are typed: { type: event }. */
export const TypedTarget = GuardedTarget as unknown as
  new <Events extends object>() => Typed<Events>;
