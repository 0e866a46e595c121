// The package in Node: the same as in a page (onekv.ts), with threads as workers and paths as
// sources; package.json chooses it by the condition "node".
import { fileURLToPath } from 'node:url';
import { makeOneKV } from './page/load.js';
import { startWorker } from './page/start-worker-node.js';

export type * from './onekv.js';
export { OneKVError } from './api/errors.js';

export const OneKV = makeOneKV({
  startWorker,
  resolve: (source) => (/^file:/i.test(source) ? fileURLToPath(source) : source),
  store: 'none',
  watchesLock: false,
});
