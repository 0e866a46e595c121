// The worker of a page. wasm/toolchain/bundle.mjs makes worker.js of it and of what it imports,
// since bare imports do not resolve in workers.
import { loadModel, readHeader } from './load.js';
import type { FromWorker } from './protocol.js';
import { threadName } from './thread-host.js';
import { becomeThread, threadsFromPage } from './thread-guest.js';
import { WorkerServer } from './worker-server.js';

function serve(): void {
  threadsFromPage();
  const post = (messages: FromWorker[], transfer: Transferable[]) =>
    postMessage(messages, { transfer });
  const server = new WorkerServer({ loadModel, readHeader }, post);
  addEventListener('message', ({ data }) => server.receive(data));
  // The script is here: start-worker.ts waits for that, and for no more.
  post([], []);
}

if ((globalThis as { name?: unknown }).name === threadName) becomeThread();
else serve();
