// What the page is told about bytes: core's counters beside what core computes for standard
// attention.
import type { CacheCost, MemoryReport, SessionMemory, StandardBytes } from '../api/memory.js';
import type { Conversation } from './conversation.js';
import type { CacheCounter } from '../engine/cache-bytes.js';
import { standardGroups } from '../engine/description.js';
import type { Model } from '../engine/model.js';

/** Of that many tokens in standard attention. */
function standardBytes(cache: CacheCounter, queryHeads: number, tokens: number,
  wholePages: boolean): StandardBytes {
  const bytes = (standardHeads: number) =>
    cache.bytes(tokens, { standardHeads, wholePages }).total;
  const groups = standardGroups(queryHeads);
  const grouped = (heads: number) => (groups.includes(heads) ? bytes(heads) : null);
  return { MHA: bytes(queryHeads), 'GQA-8': grouped(8), 'GQA-4': grouped(4), 'GQA-3': grouped(3),
    MQA: bytes(1) };
}

/** What that many tokens take, row by row, and would take in standard attention. */
export function cacheCost(cache: CacheCounter, queryHeads: number, tokens: number): CacheCost {
  const { total, keys, values, shared } = cache.bytes(tokens);
  return { tokens, used: total, keys, values, shared,
    standard: standardBytes(cache, queryHeads, tokens, false) };
}

/** Entries of cacheSizes: a file may claim any context. */
const sizesMost = 4096;

/** What contexts of growing length take at most while they fill, the longest last: each length up
 * to 4096 tokens, else as many in even steps. (Where layers have windows, bytes go down when a page
 * is given back; they are highest among the last page's tokens.) */
export function cacheSizes(cache: CacheCounter,
  contextWindow: number): { tokens: number; used: number }[] {
  const count = Math.min(sizesMost, contextWindow);
  const step = contextWindow / count;
  const looked = Math.min(Math.ceil(step), cache.pageTokens);
  let used = 0;
  return Array.from({ length: count }, (_, i) => {
    const tokens = Math.floor((i + 1) * step);
    for (let back = 0; back < looked; back++) {
      used = Math.max(used, cache.bytes(tokens - back).total);
    }
    return { tokens, used };
  });
}

export function sessionReport(id: number, { session }: Conversation): SessionMemory {
  const { cache, description } = session.model;
  const { tokens, cacheUsed, keys, values, shared, cachePages, cacheOwn } = session.memory();
  return {
    session: id, tokens, used: cacheUsed, keys, values, shared,
    pages: cachePages,
    own: cacheOwn,
    standard: standardBytes(cache, description.queryHeads, tokens, false),
  };
}

const sum = (a: number | null, b: number | null) => (a === null || b === null ? null : a + b);

export function memoryReport(model: Model, drafter: Model | undefined,
  conversations: ReadonlyMap<number, Conversation>): MemoryReport {
  const { openSessions: _, ...bytes } = model.memory();
  const all = [...conversations.values()];
  const { cache, description: { queryHeads } } = model;
  // Whole pages of each, as cacheUsed is: the two can be compared.
  const standard = all.map(({ session }) =>
    standardBytes(cache, queryHeads, session.memory().tokensHeld, true))
    .reduce((a, b) => ({ MHA: a.MHA + b.MHA, 'GQA-8': sum(a['GQA-8'], b['GQA-8']),
      'GQA-4': sum(a['GQA-4'], b['GQA-4']), 'GQA-3': sum(a['GQA-3'], b['GQA-3']),
      MQA: a.MQA + b.MQA }),
    standardBytes(cache, queryHeads, 0, true));
  return { ...bytes, draft: drafter?.memory().total ?? 0, standard,
    bySession: [...conversations].map(([id, conversation]) => sessionReport(id, conversation)) };
}
