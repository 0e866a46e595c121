// Starts the worker in a page.
//
// One at a time where a service worker answers: of several workers that ask for the same script at
// the same time WebKit gives the service worker to the first only, and all that the others ask for
// afterwards goes past it, to a network that may not be there.
import { newWorker } from '../worker-file.js';
import { serveThreads } from './thread-host.js';
import type { StartWorker } from './client.js';

/** What is kept is here sooner. A script that takes longer comes from the network, which is there
 * for the others too; and one worker that hangs must not stop them. */
const deadlineMs = 5000;
/** The newest worker's script on its way, until the worker says its first word or ends. */
let coming: Promise<void> | undefined;

/** What has to be waited for before a worker may be started; undefined if nothing. */
export const workerComing = (): Promise<void> | undefined =>
  (globalThis.navigator?.serviceWorker?.controller ? coming : undefined);

/** Gives the function that says that it has come. */
function announce(): () => void {
  let hasCome = () => {};
  const mine = new Promise<void>((resolve) => { hasCome = resolve; });
  coming = mine;
  const end = () => {
    clearTimeout(timer);
    if (coming === mine) coming = undefined;
    hasCome();
  };
  const timer = setTimeout(end, deadlineMs);
  return end;
}

export const startWorker: StartWorker = (url, listener) => {
  const worker = newWorker(url);
  const endThreads = serveThreads(worker, url);
  const hasCome = announce();
  worker.onmessage = ({ data }) => {
    hasCome();
    listener.message(data);
  };
  worker.onmessageerror = () => listener.lost('a message of the worker could not be read');
  worker.onerror = (event) => {
    event.preventDefault();
    hasCome();
    listener.lost(event.message ? `the worker broke down: ${event.message}`
      : `the worker's script could not be loaded (${url ?? 'worker.js of the package'})`);
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    keepAlive: () => {},
    end: async () => {
      hasCome();
      endThreads();
      worker.terminate();
    },
  };
};
