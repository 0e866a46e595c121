// A hundred conversations share the cache of one prompt: a clone takes nothing until it writes.
import { OneKV } from 'onekv';

export async function run(write) {
  const model = await OneKV.load('/models/stories-q-mqa.q8_0.gguf', { batch: 16 });
  const base = await model.createSession({ temperature: 1 });
  await base.append('One day, a little girl named Lily found a big box in the park. In it was ');
  const sessions = [];
  for (let seed = 1; seed <= 100; seed++) {
    const session = await base.clone();
    await session.setSampling({ temperature: 1, seed });
    sessions.push(session);
  }
  const before = await model.memory();
  const ends = await model.batch(sessions).prompt('a', { maxTokens: 8 });
  const after = await model.memory();
  write(`${new Set(ends).size} different ends, such as "a${ends[0]}"\n`);
  write(`bytes of cache: ${before.cacheUsed} before, ${after.cacheUsed} after; ` +
    `standard attention: ${after.standard.MHA}\n`);
  await model.unload();
}
