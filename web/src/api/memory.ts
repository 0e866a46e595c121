// Bytes, and what they are compared with.

/** Bytes of the same tokens in standard QKV attention, at the same element type: a KV head for
 * every query head, 8, 4, 3, or one. null where so many do not share the query heads evenly, or are
 * all of them. */
export interface StandardBytes {
  MHA: number;
  'GQA-8': number | null;
  'GQA-4': number | null;
  'GQA-3': number | null;
  MQA: number;
}

/** Bytes of a number of tokens in the cache: computed by core, of their rows alone. */
export interface CacheCost {
  tokens: number;
  /** The sum of the three kinds. */
  used: number;
  /** One tensor that is key and value (K=V); 0 otherwise. */
  shared: number;
  /** 0 for K=V. */
  keys: number;
  values: number;
  standard: StandardBytes;
}

/** Bytes, exactly as core counts them. */
export interface MemoryReport {
  /** The worker's whole WebAssembly memory. It grows and never shrinks, until unload(). */
  heap: number;
  /** All that core holds for this model: the sum of the five kinds. */
  total: number;
  /** Beside it, all of the model that guesses (LoadOptions.draft); 0 without one. */
  draft: number;
  /** Highest total so far. */
  peak: number;
  weights: number;
  /** Pages held: cacheUsed and cachePooled. */
  cache: number;
  scratch: number;
  sessions: number;
  tables: number;
  /** Pages that sessions refer to, each counted once however many share it. */
  cacheUsed: number;
  /** Free pages, kept for reuse. */
  cachePooled: number;
  bySession: SessionMemory[];
  /** Computed: the pages of all sessions in standard attention, without sharing between sessions.
   * Whole pages, as cacheUsed, so that one session has the ratio of the two kinds of attention. */
  standard: StandardBytes;
}

export interface SessionMemory {
  /** Session.id. */
  session: number;
  /** Tokens whose rows are in the cache: all, or all but the one that waits for its logits. */
  tokens: number;
  /** Bytes of their rows: the sum of the three kinds. */
  used: number;
  /** One tensor that is key and value (K=V); 0 otherwise. */
  shared: number;
  /** 0 for K=V. */
  keys: number;
  values: number;
  /** Whole pages referred to, those shared with clones included. */
  pages: number;
  /** Whole pages that no other session refers to. */
  own: number;
  /** Computed: the rows of the same tokens, as `used`, in standard attention. */
  standard: StandardBytes;
}

export interface MemoryEvent extends Event {
  readonly memory: MemoryReport;
}
