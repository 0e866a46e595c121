// What the page is told about bytes: core's counters beside standard attention's.
import type { MemoryReport, SessionMemory, StandardBytes } from '../api/model.js';
import type { Conversation } from './conversation.js';
import type { Model } from '../engine/model.js';

/** KV heads of the baselines; MHA has one for every query head. */
const baselines = { 'GQA-8': 8, 'GQA-3': 3 } as const;

/** Bytes of that many tokens in standard QKV attention, from the bytes of one in MHA. */
export function standardBytes(standardPerToken: number, queryHeads: number,
  tokens = 1): StandardBytes {
  const bytes = (kvHeads: number) => standardPerToken / queryHeads * kvHeads * tokens;
  const grouped = (kvHeads: number) => (kvHeads <= queryHeads ? bytes(kvHeads) : null);
  return {
    MHA: bytes(queryHeads),
    'GQA-8': grouped(baselines['GQA-8']),
    'GQA-3': grouped(baselines['GQA-3']),
    MQA: bytes(1),
  };
}

function standardOf(model: Model, tokens: number): StandardBytes {
  return standardBytes(model.estimate.standardBytesPerToken, model.description.queryHeads, tokens);
}

export function sessionReport({ id, session }: Conversation): SessionMemory {
  const { model } = session;
  const { tokens, cacheUsed, cachePages, cacheOwn } = session.memory();
  const isShared = model.description.projection.endsWith('K=V');
  return {
    session: id,
    tokens,
    used: cacheUsed,
    shared: isShared ? cacheUsed : 0,
    // Two tensors of one shape.
    keys: isShared ? 0 : cacheUsed / 2,
    values: isShared ? 0 : cacheUsed / 2,
    pages: cachePages,
    own: cacheOwn,
    standard: standardOf(model, tokens),
  };
}

export function memoryReport(model: Model,
  conversations: Iterable<Conversation>): MemoryReport {
  const { openSessions: _, ...bytes } = model.memory();
  const bySession = Array.from(conversations, sessionReport);
  const tokens = bySession.reduce((sum, session) => sum + session.tokens, 0);
  return { ...bytes, bySession, standard: standardOf(model, tokens) };
}
