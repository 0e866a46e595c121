// Events of models and sessions, and what their listeners are told.
import { GuardedTarget } from '../api/events.js';
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
