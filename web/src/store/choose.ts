// Which store a choice stands for on this page.
import { checkOneOf, invalidArgument } from '../api/errors.js';
import type { ModelStore, StoreChoice } from '../api/store.js';
import { cacheApiStore } from './cache-api.js';
import { opfsStore } from './opfs.js';

export interface ChosenStore {
  kind: 'opfs' | 'cache-api' | 'none' | 'custom';
  /** undefined for 'none'. */
  store: ModelStore | undefined;
  /** Why it is not the best one, or not the one asked for; undefined if it is. */
  reason: string | undefined;
}

const whyNot = () => (globalThis.isSecureContext === false
  ? 'the page is not a secure context (https or localhost)' : 'the engine has none');

const makers = { opfs: opfsStore, 'cache-api': cacheApiStore };

/** The store to use; what the engine lacks is replaced by the next best, with the reason.
 * Error: INVALID_ARGUMENT. */
export function chooseStore(choice: StoreChoice): ChosenStore {
  if (typeof choice === 'object' && choice !== null) {
    for (const method of ['get', 'put', 'delete', 'keys'] as const) {
      if (typeof choice[method] === 'function') continue;
      throw invalidArgument(`store.${method}`, choice[method], 'a function');
    }
    return { kind: 'custom', store: choice, reason: undefined };
  }
  const asked = checkOneOf('store', choice, ['auto', 'opfs', 'cache-api', 'none']);
  if (asked === 'none') return { kind: 'none', store: undefined, reason: undefined };
  const missing: string[] = [];
  for (const kind of asked === 'cache-api' ? [asked] : ['opfs', 'cache-api'] as const) {
    const store = makers[kind]();
    const reason = missing.length === 0 ? undefined : missing.join('; ');
    if (store !== undefined) return { kind, store, reason };
    missing.push(`${kind}: ${whyNot()}`);
  }
  return { kind: 'none', store: undefined, reason: missing.join('; ') };
}
