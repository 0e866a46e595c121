// Starts the worker in a page. The address has to stand there literally for bundlers to find it,
// in a call of its own.
import type { StartWorker } from './worker-client.js';

export const startWorker: StartWorker = (url, listener) => {
  const worker = url === undefined
    ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
    : new Worker(url, { type: 'module' });
  worker.onmessage = ({ data }) => listener.message(data);
  worker.onmessageerror = () => listener.lost('a message of the worker could not be read');
  worker.onerror = (event) => {
    event.preventDefault();
    listener.lost(event.message ? `the worker broke down: ${event.message}`
      : `the worker's script could not be loaded (${url ?? 'worker.js of the package'})`);
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    keepAlive: () => {},
    end: async () => worker.terminate(),
  };
};
