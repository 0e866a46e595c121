// The worker of a page. wasm/toolchain/bundle.mjs makes worker.js of it and of what it imports,
// since bare imports do not resolve in workers.
import { loadModel, readHeader } from '../source/load.js';
import type { FromWorker } from '../wire/protocol.js';
import { threadName } from '../worker-file.js';
import { becomeThread, threadsFromPage } from '../engine/thread-guest.js';
import { WorkerServer } from './server.js';

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
