// How well a model predicts a text: sums of logarithms, from which perplexities are made.
import type { Session } from '../engine/session.js';

export interface Score {
  /** Natural logarithm, summed. */
  logprob: number;
  /** Tokens that were scored. */
  tokens: number;
}

/** Called every few hundred tokens, so that others get their turn; may throw to end the work. */
export type Pause = () => Promise<void>;

/** The parts between lines `<|end|>` or `<|endoftext|>`, without the line ends around them. */
export function splitDocuments(text: string): string[] {
  return text.split(/^<\|end(?:oftext)?\|>$/m)
    .map((part) => part.replace(/^\n+|\n+$/g, '')).filter(Boolean);
}

/** Tokens between two pauses. */
const pieceTokens = 256;

/** Appends one window to an empty session, and adds its tokens from `first` on to the sum. */
async function scoreWindow(session: Session, ids: readonly number[], first: number, sum: Score,
  pause: Pause): Promise<void> {
  session.truncate(0);
  for (let at = 0; at < ids.length; at += pieceTokens) {
    const logprobs = session.score(ids.slice(at, at + pieceTokens));
    const from = Math.max(0, first - at);
    for (let i = from; i < logprobs.length; i++) sum.logprob += logprobs[i] as number;
    sum.tokens += Math.max(0, logprobs.length - from);
    await pause();
  }
}

/**
 * Adds the tokens of one text, in windows of the session's context that start `stride` tokens
 * apart. Each is read afresh, and those of its tokens are scored that no window before it has
 * scored: every token but the first once.
 */
export async function scoreText(session: Session, ids: readonly number[], stride: number,
  sum: Score, pause: Pause): Promise<void> {
  const { contextWindow } = session;
  let scored = 1; // The first token has nothing before it.
  for (let start = 0; scored < ids.length; start += stride) {
    const end = Math.min(ids.length, start + contextWindow);
    await scoreWindow(session, ids.slice(start, end), scored - start, sum, pause);
    scored = end;
  }
}

/** log p(token) by a row of logits. */
function logprobOf(logits: Float32Array, token: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((a, b) => a + Math.exp(b - most), 0);
  return (logits[token] as number) - most - Math.log(total);
}

/** Adds the tokens of one document: each window reads a full context and scores what follows. */
export async function scoreDocument(session: Session, ids: readonly number[], sum: Score,
  pause: Pause): Promise<void> {
  const { contextWindow } = session;
  for (let start = 0; start < ids.length - 1; start += contextWindow) {
    const read = ids.slice(start, start + contextWindow);
    const next = ids[start + contextWindow];
    await scoreWindow(session, read, 1, sum, pause);
    if (next === undefined) continue;
    sum.logprob += logprobOf(session.logits(), next);
    sum.tokens += 1;
  }
}
