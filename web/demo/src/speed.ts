// How fast a model decodes on this machine, so that it comes to the same when it is asked again:
// the same tokens in rounds, of which the fastest counts, since other programs only add time.
import type { Model } from 'onekv';

const start = 'Once upon a time';
/** Short, so that some round is not interrupted. */
const roundTokens = 16;
/** Rounds go on until so many were no faster, but at least and at most for so long. */
const enough = 24;
const [leastMs, mostMs] = [600, 2500];

/** Tokens per second; the caller sees to it that nothing else runs meanwhile. */
export async function decodeRate(model: Model, signal: AbortSignal): Promise<number> {
  const session = await model.createSession({ chat: false, temperature: 0, signal });
  try {
    await session.append(start, { signal });
    const before = session.contextUsage;
    const begun = performance.now();
    const hasTime = (ms: number) => performance.now() - begun < ms;
    let fastest = 0;
    for (let since = 0; hasTime(leastMs) || (since < enough && hasTime(mostMs)); since += 1) {
      const generation = session.generate({ tokens: [] }, { maxTokens: roundTokens, signal });
      for await (const _ of generation);
      const { tokens, decodeMs } = await generation.result;
      const rate = 1000 * tokens.length / decodeMs;
      if (rate > 1.01 * fastest) since = 0;
      fastest = Math.max(fastest, rate);
      await session.truncate(before, { signal });
    }
    return fastest;
  } finally {
    await session.destroy();
  }
}
