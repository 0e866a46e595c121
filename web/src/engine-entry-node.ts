// The entry onekv/engine in Node: everything of engine-entry.ts, with paths as sources. Browsers
// and bundlers never see this file; package.json chooses it by the condition "node".
export * from './engine-entry.js';
export { loadModel, openFile, readHeader } from './source/load-node.js';
