// The shipped models, loaded when somebody needs one and unloaded when nobody does any more.
//
// Parts of the page that use the same file with the same cache type share one model, and with it
// one worker and one pool of pages.
import { OneKV } from 'onekv';
import type { CacheType, Model } from 'onekv';
import facts from 'virtual:facts';
import type { ShippedName } from 'virtual:facts';

/** How the shipped models tell stories, here as in models/samples.md: it is among the least likely
 * tokens that small models stumble. */
export const storySampling = { temperature: 0.5, topP: 0.95 };

export type Progress = (loaded: number, total: number) => void;

interface Entry {
  model: Promise<Model>;
  users: number;
  listeners: Set<Progress>;
  last: [loaded: number, total: number];
  lost: boolean;
}

export interface Lease {
  readonly model: Model;
  /** Its worker has ended: another try needs another lease. */
  readonly lost: boolean;
  /** The model goes when its last user has said this. */
  release(): void;
}

const entries = new Map<string, Entry>();

/** Threads for each of two models that run at once: half of the cores, so that neither waits for
 * the other. */
const fairThreads = () =>
  Math.min(4, Math.max(1, Math.floor((navigator.hardwareConcurrency || 2) / 2)));

function start(name: ShippedName, cacheType: CacheType, key: string): Entry {
  const { file, bytes, sha256 } = facts.models[name];
  const listeners = new Set<Progress>();
  const entry: Entry = {
    users: 0, listeners, last: [0, bytes], lost: false,
    model: OneKV.load(new URL(`models/${file}`, document.baseURI), {
      cacheType, integrity: sha256, batch: 64, threads: fairThreads(),
      monitor: (monitor) => monitor.addEventListener('downloadprogress', ({ loaded, total }) => {
        entry.last = [loaded, total || bytes];
        for (const listener of listeners) listener(...entry.last);
      }),
    }),
  };
  entries.set(key, entry);
  entry.model.then(
    (model) => model.addEventListener('lost', () => {
      entry.lost = true;
      forget(key, entry);
    }),
    () => forget(key, entry));
  return entry;
}

function forget(key: string, entry: Entry): void {
  if (entries.get(key) === entry) entries.delete(key);
}

/** Loads the model, or joins those who use it already. */
export async function lease(name: ShippedName, cacheType: CacheType,
  progress?: Progress): Promise<Lease> {
  const key = `${name}/${cacheType}`;
  const entry = entries.get(key) ?? start(name, cacheType, key);
  entry.users += 1;
  if (progress !== undefined) {
    progress(...entry.last);
    entry.listeners.add(progress);
  }
  let released = false;
  const release = () => {
    if (released) return;
    released = true;
    entry.users -= 1;
    if (entry.users > 0) return;
    forget(key, entry);
    entry.model.then((model) => model.unload()).catch(() => {});
  };
  try {
    const model = await entry.model;
    return { model, release, get lost() { return entry.lost; } };
  } catch (error) {
    release();
    throw error;
  } finally {
    if (progress !== undefined) entry.listeners.delete(progress);
  }
}
