// Suite of bytes: weights, and the cache at 2 Ki and 32 Ki positions.
//
// Everything is read off the allocator's counters, not computed from shapes. Sessions reserve
// their pages without running the model, which is all that a cache's size depends on; a context
// shorter than the positions asked for takes several sessions. What does not fit into the 4 GiB
// of a wasm memory is computed by core, and its row says so.
import { loadSeconds, reserveSeconds } from './costs.js';
import type { Model } from '../engine/model.js';
import { OneKVError } from '../api/errors.js';
import type { Batch, Case, Labels } from './runner.js';
import { Stable, labelsOf } from './subjects.js';
import type { Contender } from './subjects.js';

const memoryPositions = [2048, 32768] as const;

/** Bytes of the cache with that many positions. Error: OUT_OF_MEMORY. */
function measureCache(model: Model, positions: number): number {
  const { contextWindow } = model.description;
  const sessions = [];
  const before = model.memory().cacheUsed;
  try {
    for (let left = positions; left > 0; left -= contextWindow) {
      const session = model.openSession();
      sessions.push(session);
      session.reserve(Math.min(left, contextWindow));
    }
    return model.memory().cacheUsed - before;
  } finally {
    for (const session of sessions) session.destroy();
    model.trim();
  }
}

/** What a wasm memory holds, less some room for everything else. */
const memoryMost = 2 ** 32 - 2 ** 26;

/** The same, computed where it does not fit; then the labels say how. */
function cacheBytes(model: Model, positions: number, labels: Labels): number {
  const expected = model.memory().total + model.cache.bytes(positions).total;
  try {
    // Not tried in vain: pages are cleared as they are taken, and gigabytes of them are seen.
    if (expected <= memoryMost) return measureCache(model, positions);
  } catch (error) {
    if (!(error instanceof OneKVError && error.code === 'OUT_OF_MEMORY')) throw error;
  }
  labels.computed = 'by core: it does not fit into 4 GiB';
  return model.cache.bytes(positions).total;
}

/** Weights, working memory, bytes per token, and the cache. */
function memoryBatch(contender: Contender, stable: Stable, isLast: boolean): Batch {
  const bytes = (name: string, positions: number,
    value: (model: Model, labels: Labels) => number): Case => {
    const labels: Labels = { suite: 'memory', ...labelsOf(contender), name, unit: 'bytes',
      better: 'less' };
    return { labels, exact: true, seconds: reserveSeconds(contender, positions),
      run: () => ({ value: value(stable.model(contender), labels) }) };
  };
  return {
    title: `memory: ${contender.subject.title}, ${contender.setting.cacheType}`,
    cases: [
      bytes('weights', 0, (model) => model.memory().weights),
      bytes('working memory', 0, (model) => model.memory().scratch),
      bytes('a token', 2048, (model) => measureCache(model, 2048) / 2048),
      ...memoryPositions.map((positions) => bytes(`cache of ${positions}`, positions,
        (model, labels) => cacheBytes(model, positions, labels))),
    ],
    seconds: loadSeconds(contender.subject),
    open: async () => {
      await stable.load(contender);
    },
    close: () => {
      if (isLast) stable.close();
      else stable.unload(contender);
    },
  };
}

/** One engine serves them all: a memory of gigabytes is not always given back at once. */
export function memoryBatches(contenders: readonly Contender[]): Batch[] {
  const stable = new Stable();
  return contenders.map((contender, i) =>
    memoryBatch(contender, stable, i === contenders.length - 1));
}
