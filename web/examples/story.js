// The first ten lines: a model, a session, text as it comes.
import { OneKV } from 'onekv';

export async function run(write) {
  const model = await OneKV.load('/models/stories-q-mqa.q8_0.gguf');
  const session = await model.createSession({ temperature: 0.7, seed: 1 });
  for await (const text of session.promptStreaming('Once upon a time', { maxTokens: 100 })) {
    write(text);
  }
  const { cacheUsed, standard } = await model.memory();
  write(`\n\n${cacheUsed} bytes of cache; standard attention: ${standard.MHA}\n`);
  await model.unload();
}
