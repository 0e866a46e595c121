// Threads of an engine in a worker that the page starts, and not the worker.
//
// In Firefox (153) `new Worker` within a worker sometimes never returns, in a page that does
// nothing else too (node tests/browser/nested-workers.mjs counts it); in a page it always does. So
// the worker asks the page (thread-host.ts), and talks to the thread by a port. Only there: WebKit
// does not send modules through ports, and nobody else needs it.
import { reasonOf } from '../api/errors.js';

const isFirefox = () => /\bGecko\/\d/.test(globalThis.navigator?.userAgent ?? '');

/** As much of a Worker as Emscripten's glue and wasm-module.ts use. */
class PageThread {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onerror: ((event: { message: string; filename: string; lineno: number }) => void) | null = null;
  readonly #control: MessagePort;
  readonly #speech: MessagePort;

  constructor(glue: string | URL) {
    const control = new MessageChannel();
    const speech = new MessageChannel();
    this.#control = control.port1;
    this.#speech = speech.port1;
    this.#control.onmessage = ({ data }) =>
      this.onerror?.({ message: String(data), filename: String(glue), lineno: 0 });
    this.#speech.onmessage = ({ data }) => this.onmessage?.({ data });
    postMessage({ onekvThread: String(glue) }, { transfer: [control.port2, speech.port2] });
  }

  postMessage(message: unknown, transfer: Transferable[] = []): void {
    this.#speech.postMessage(message, transfer);
  }

  terminate(): void {
    this.#control.postMessage('end');
    this.#control.close();
    this.#speech.close();
  }
}

/**
 * Called in a worker before it opens an engine: threads are asked of the page, which has called
 * `serveThreads`, in the browsers that need it. Elsewhere it does nothing.
 */
export function threadsFromPage(): void {
  if (isFirefox()) (globalThis as { Worker: unknown }).Worker = PageThread;
}

/** Makes this worker the thread that the page was asked for. The glue finds its name, and the
 * messages that a worker of the worker would have. */
export function becomeThread(): void {
  addEventListener('message', ({ data, ports: [speech] }: MessageEvent<string>) => {
    if (speech === undefined) return;
    const scope = globalThis as unknown as Pick<Worker, 'onmessage' | 'postMessage'>;
    scope.postMessage = (message: unknown) => speech.postMessage(message);
    const glue = new URL(data);
    import(/* webpackIgnore: true */ /* @vite-ignore */ glue.href).then(() => {
      speech.onmessage = (event) => scope.onmessage?.call(scope as Worker, event);
    }).catch((error: unknown) => {
      // As a worker whose script cannot be loaded: the page hears of an uncaught error.
      setTimeout(() => { throw new Error(`${glue.href}: ${reasonOf(error)}`); });
    });
  }, { once: true });
}
