// The page's end of threads that a page starts for its worker's engine; thread-guest.ts is the
// worker's end and says why.
//
//   worker → page       { onekvThread: address of the glue }, with two ports: control, speech
//   page → thread       that address, with the port of its speech
//   page → worker       on control: what went wrong with the thread's script
//   worker → page       on control: anything ends the thread
import type { ScriptAddress } from '../api/load.js';
import { newThread } from '../worker-file.js';

function startThread(glue: string, [control, speech]: readonly MessagePort[],
  url: ScriptAddress | undefined, threads: Set<Worker>): void {
  if (control === undefined || speech === undefined) return;
  try {
    const thread = newThread(url);
    threads.add(thread);
    thread.onerror = (event) => {
      event.preventDefault();
      control.postMessage(event.message || 'the script could not be loaded');
    };
    control.onmessage = () => {
      thread.terminate();
      control.close();
      threads.delete(thread);
    };
    thread.postMessage(glue, [speech]);
  } catch (error) {
    control.postMessage(String(error));
  }
}

/** A Worker, of which not all programs have the type. */
interface MessageSource {
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
}

/**
 * Starts the threads that an engine in this worker asks for, if the worker called
 * `threadsFromPage`. To be called before the worker's messages are listened to: those that ask for
 * threads go no further. `url`: the package's worker.js, where it is not beside this module. Gives
 * the function that ends them, which is to be called when the worker is ended.
 */
export function serveThreads(worker: MessageSource, url?: ScriptAddress): () => void {
  const threads = new Set<Worker>();
  worker.addEventListener('message', (event) => {
    const glue = (event.data as { onekvThread?: unknown } | null)?.onekvThread;
    if (typeof glue !== 'string') return;
    event.stopImmediatePropagation();
    startThread(glue, event.ports, url, threads);
  });
  return () => {
    threads.forEach((thread) => thread.terminate());
    threads.clear();
  };
}
