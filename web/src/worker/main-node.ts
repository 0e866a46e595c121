// The worker in Node: a thread, with paths as sources.
import { parentPort } from 'node:worker_threads';
import type { FromWorker } from '../wire/protocol.js';
import { loadModel, readHeader } from '../source/load-node.js';
import { WorkerServer } from './server.js';

const post = (messages: FromWorker[], transfer: Transferable[]) =>
  parentPort?.postMessage(messages, transfer as ArrayBuffer[]);
const server = new WorkerServer({ loadModel, readHeader }, post);

parentPort?.on('message', (message: unknown) => server.receive(message));
