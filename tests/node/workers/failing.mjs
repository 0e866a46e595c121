// A worker that does its work until it is asked for a text that names its end.
import { parentPort } from 'node:worker_threads';
import '../../../dist/src/worker/main-node.js';

parentPort.on('message', ({ args }) => {
  const { text } = args?.input ?? {};
  if (text === 'exit') process.exit(0);
  if (text === 'throw') setTimeout(() => { throw new Error('out of order'); });
});
