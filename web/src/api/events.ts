// Event targets whose listeners end nothing where they throw: that is reported.
import { invalidArgument } from './errors.js';
import type { ListenerOptions } from './options.js';

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
