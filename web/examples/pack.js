// The page's half of pack.mjs: the cache of a long prompt comes as a file, and nothing of it is
// computed here.
import { OneKV } from 'onekv';

export async function run(write) {
  const model = await OneKV.load('/models/stories-q-mqa.q8_0.gguf');
  const base = await model.restore(await fetch('prompt.pack'));
  write(`${base.contextUsage} tokens were there at once.\n`);
  const session = await base.clone();
  write(await session.prompt(' The next day', { maxTokens: 20 }));
  await model.unload();
}
