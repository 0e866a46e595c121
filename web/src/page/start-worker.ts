// Starts the worker in a page.
//
// One at a time where a service worker answers: of several workers that ask for the same script at
// the same time WebKit gives the service worker to the first only, and all that the others ask for
// afterwards goes past it, to a network that may not be there.
import { OneKVError, reasonOf } from '../api/errors.js';
import type { ScriptAddress } from '../api/load.js';
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

/** Where there are no workers. */
function whyNone(): string {
  const isIn = (scope: string) => {
    const kind = (globalThis as Record<string, unknown>)[scope];
    return typeof kind === 'function' && globalThis instanceof kind;
  };
  // Cloudflare's workers have that scope too, but nothing is registered there.
  if (isIn('ServiceWorkerGlobalScope') && 'registration' in globalThis) {
    return 'a service worker cannot start workers: load the model in a page, or in the offscreen ' +
      'document of an extension, and ask it by messages';
  }
  if (isIn('SharedWorkerGlobalScope')) {
    return 'the shared workers of this browser cannot start workers: load the model in a page or ' +
      'in a worker of a page, and ask it by messages';
  }
  return 'there are no workers here: load the model in a page, in a worker of a page, or in Node';
}

/** What to do about a refusal. */
function adviceOn(error: unknown): string {
  if (error instanceof TypeError && /trusted|sink type/i.test(error.message)) {
    return "the page's policy (require-trusted-types-for 'script') wants an address of a Trusted " +
      "Types policy: give workerUrl: policy.createScriptURL('…/worker.js'), or have a policy " +
      "called 'default'";
  }
  if (globalThis.location?.protocol === 'file:') {
    return 'a page that is opened as a file can start no workers: serve it by http';
  }
  return "host the package's files on the page's own origin, or name such a copy of worker.js by " +
    'workerUrl; one of another origin needs `worker-src blob:` of a Content-Security-Policy';
}

/** Error: WORKER_LOST, which says what to do. */
function openWorker(url: ScriptAddress | undefined): Worker {
  if (typeof Worker !== 'function') throw new OneKVError('WORKER_LOST', whyNone());
  try {
    return newWorker(url);
  } catch (error) {
    throw new OneKVError('WORKER_LOST', 'the worker could not be started: ' +
      `${adviceOn(error)} (${reasonOf(error)})`, { cause: error });
  }
}

/** Of a script that did not load there is no message, but there are usual reasons. */
function notLoaded(url: ScriptAddress | undefined): string {
  const why = /\/\.vite\/deps\//.test(import.meta.url)
    ? "Vite has bundled the package beforehand: tell it optimizeDeps: { exclude: ['onekv'] }"
    : 'where a bundler does not bring it along, dist/src/worker.js and dist/wasm have to be ' +
      'copied to where it looks (web/docs/bundlers.md of the package) or named by workerUrl and ' +
      'wasmUrl';
  const script = url ?? 'worker.js of the package';
  return `the worker's script could not be loaded (${script}): ${why}; ` +
    'one of another origin needs CORS there, and here `worker-src blob:` if the page has a ' +
    'Content-Security-Policy';
}

/** Asked before a worker is started: one would load a model only to find out. */
function needWebAssembly(): void {
  if (typeof WebAssembly !== 'undefined') return;
  throw new OneKVError('UNSUPPORTED_ENGINE',
    'there is no WebAssembly here; in lockdown modes and by some policies it is switched off');
}

export const startWorker: StartWorker = (url, listener) => {
  needWebAssembly();
  const worker = openWorker(url);
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
      : notLoaded(url));
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
