// How fast a model decodes on this machine, so that it comes to the same when it is asked again:
// the same tokens in rounds, of which the fastest counts, since other programs only add time.
import type { Model } from 'onekv';

const start = 'Once upon a time';
const roundTokens = 32;
/** Rounds go on for so long, and there are no fewer and no more than these. */
const enoughMs = 600;
const [roundsLeast, roundsMost] = [3, 24];

/** Tokens per second; the caller sees to it that nothing else runs meanwhile. */
export async function decodeRate(model: Model, signal: AbortSignal): Promise<number> {
  const session = await model.createSession({ chat: false, temperature: 0, signal });
  try {
    await session.append(start, { signal });
    const before = session.contextUsage;
    const begun = performance.now();
    let fastest = 0;
    for (let round = 0; round < roundsLeast ||
      (round < roundsMost && performance.now() - begun < enoughMs); round += 1) {
      const generation = session.generate({ tokens: [] }, { maxTokens: roundTokens, signal });
      for await (const _ of generation);
      const { tokens, decodeMs } = await generation.result;
      fastest = Math.max(fastest, 1000 * tokens.length / decodeMs);
      await session.truncate(before, { signal });
    }
    return fastest;
  } finally {
    await session.destroy();
  }
}
