// Starts the worker in Node: a thread of its own, so that a server goes on while it computes, and
// that gives all its memory back when it ends, as in a page.
import { Worker } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import type { StartWorker } from './client.js';

/** Threads inherit the program's options, and would refuse one that is about its text only. */
const execArgv = process.execArgv.some((option) => option.startsWith('--input-type'))
  ? { execArgv: [] } : {};

/** A bundle of a server's program has lost the worker, or made another kind of module of it. */
const notStarted = '; where a bundler took the package into a program of Node, leave it outside ' +
  "(serverExternalPackages: ['onekv'] of Next.js: web/docs/bundlers.md of the package)";

export const startWorker: StartWorker = (url, listener) => {
  const worker = new Worker(url === undefined ? new URL('../worker/main-node.js', import.meta.url)
    : fileURLToPath(new URL(String(url))), execArgv);
  worker.unref();
  let advice = url === undefined ? notStarted : '';
  worker.on('message', (data) => {
    advice = '';
    listener.message(data);
  });
  worker.on('messageerror', () => listener.lost('a message of the worker could not be read'));
  worker.on('error', (error) => listener.lost(`the worker broke down: ${error.message}${advice}`));
  worker.on('exit', () => listener.lost('the worker ended'));
  return {
    post: (message, transfer) => worker.postMessage(message, transfer as ArrayBuffer[]),
    keepAlive: (on) => (on ? worker.ref() : worker.unref()),
    end: async () => {
      await worker.terminate();
    },
  };
};
