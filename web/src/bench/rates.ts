// The two speeds of a language model, as tokens per second of one call.
//
// Nothing here knows where it runs: the clock comes from performance.now, which pages, workers and
// Node have alike.
import type { Model } from '../engine/model.js';
import type { Session } from '../engine/session.js';
import { randomIds } from './random-model.js';
import { hashBits } from './statistics.js';

interface Rate {
  /** Tokens per second. */
  value: number;
  /** Of the logits after the last token, and of the tokens that were chosen. */
  hash: string;
}

/** Always the likeliest token: a choice costs one pass over the logits, and repeats. */
export const greedy = { temperature: 0 };

/** Reads `count` random tokens into a new session and makes the last one's logits. */
export function measurePrefill(model: Model, count: number, seed = 1): Rate {
  const ids = randomIds(count, model.description.vocabulary, seed);
  const session = model.openSession(greedy);
  try {
    const started = performance.now();
    session.append(ids);
    const logits = session.logits();
    const seconds = (performance.now() - started) / 1000;
    return { value: count / seconds, hash: hashBits(logits) };
  } finally {
    session.destroy();
  }
}

/** Reads `count` random tokens into a copy of the session, which stays as it is. */
export function measureReading(session: Session, count: number): Rate {
  const ids = randomIds(count, session.model.description.vocabulary, count);
  const copy = session.clone();
  try {
    const started = performance.now();
    copy.append(ids);
    const logits = copy.logits();
    return { value: count / ((performance.now() - started) / 1000), hash: hashBits(logits) };
  } finally {
    copy.destroy();
  }
}

/** Chooses `count` tokens one after the other in a copy of the session, which stays as it is. */
export function measureDecode(session: Session, count: number): Rate {
  const copy = session.clone();
  try {
    const tokens = new Int32Array(count);
    const started = performance.now();
    for (let i = 0; i < count; i++) tokens[i] = copy.next().token;
    const seconds = (performance.now() - started) / 1000;
    return { value: count / seconds, hash: hashBits(copy.logits(), hashBits(tokens)) };
  } finally {
    copy.destroy();
  }
}

/**
 * Sessions with that many random tokens each, which share what they have in common; the caller's
 * to destroy. `depths` in rising order.
 */
export function sessionsAt(model: Model, depths: readonly number[]): Session[] {
  const ids = randomIds(depths.at(-1) ?? 0, model.description.vocabulary);
  const growing = model.openSession(greedy);
  const sessions = depths.map((depth) => {
    growing.append(ids.subarray(growing.length, depth));
    return growing.clone();
  });
  growing.destroy();
  return sessions;
}
