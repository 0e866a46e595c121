// A model in a worker, for the commands that do other things while it computes.
import { OneKV } from '../src/onekv-node.js';
import type { Model } from '../src/onekv-node.js';
import type { Values } from './arguments.js';
import { accessTo, isRemote } from './downloads.js';
import { Progress } from './progress.js';
import { arithmetics, cacheTypes, note, noteWindow, readEngineOptions } from './shared.js';
import { interrupted } from './signals.js';

/** With the command's options; `path`, and `draft` of the model that guesses, are findModel's. */
export async function loadInWorker(values: Values, path: string,
  draft?: string): Promise<Model> {
  const progress = new Progress('loading');
  const { store, hub, token } = accessTo([path, draft ?? path].find(isRemote) ?? path, note);
  const contextWindow = values.integer('context', 1, 2 ** 31 - 1);
  try {
    const model = await OneKV.load(path, {
      draft, store, hub, token, ...readEngineOptions(values), signal: interrupted,
      monitor: (monitor) => monitor.addEventListener('downloadprogress', ({ loaded, total }) =>
        progress.show(loaded, total)),
      cacheType: values.choice('cache-type', cacheTypes),
      arithmetic: values.choice('arithmetic', arithmetics),
      contextWindow,
    });
    progress.clear();
    noteWindow(contextWindow, model.contextWindow);
    return model;
  } finally {
    progress.clear();
  }
}
