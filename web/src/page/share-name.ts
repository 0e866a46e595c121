// Which tabs have the same model: those whose loads would give the same, by what they ask for.
import { invalidArgument } from '../api/errors.js';
import type { LoadOptions } from '../api/load.js';
import type { ModelSource } from '../api/source.js';
import { version } from '../api/version.js';
import { nameOf } from '../store/names.js';

/** Why tabs cannot share here; undefined if they can. */
export function whyNotShare(watchesLock: boolean): string | undefined {
  if (!watchesLock) return 'share: there are no tabs here, the model is of this program alone';
  const hasBoth = globalThis.navigator?.locks !== undefined &&
    typeof BroadcastChannel === 'function';
  return hasBoth ? undefined
    : 'share: there are no Web Locks here (the page does not come by https), the model is of ' +
      'this tab alone';
}

/** A signature that changes from one visit to the next is not what the file is. */
function fileOf(address: string, sha256: string | undefined, key: string | undefined): unknown {
  if (/^hf:/i.test(address)) return key ?? address;
  const { key: name, query } = nameOf(new URL(address), sha256, key);
  return [name, query];
}

/** The name of the lock. `resolve`: an address in full. Error: INVALID_ARGUMENT: no address. */
export function shareName(source: ModelSource, options: LoadOptions,
  resolve: (source: string) => string): string {
  const { integrity, key, hub, cacheType, arithmetic, contextWindow, batch, draft, simd, threads,
    unloadAfter } = options;
  const filesOf = (name: string, parts: unknown, sha256?: string, named?: string) =>
    [parts].flat().map((part) => {
      if (part instanceof URL) return fileOf(part.href, sha256, named);
      if (typeof part !== 'string') {
        throw invalidArgument(name, part, 'a URL or a name on a hub, for share');
      }
      return fileOf(/^hf:/i.test(part) ? part : resolve(part), sha256, named);
    });
  const files = filesOf('source', source, integrity, key);
  const guesses = draft && filesOf('draft', draft);
  return `onekv ${JSON.stringify([version, files, String(hub), cacheType, arithmetic,
    contextWindow, batch, guesses, simd, threads, unloadAfter])}`;
}
