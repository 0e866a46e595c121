// A conversation that survives its page: saved when the page is hidden, restored at the next visit.
import { OneKV } from 'onekv';

const address = '/saved-conversation';

async function keep(session) {
  const started = performance.now();
  const blob = await session.save();
  const cache = await caches.open('conversations');
  await cache.put(address, new Response(blob));
  return { bytes: blob.size, milliseconds: performance.now() - started };
}

/** The conversation of an earlier visit, or a new one. */
async function resume(model) {
  const kept = await (await caches.open('conversations')).match(address);
  if (kept === undefined) return { session: await model.createSession(), isNew: true };
  return { session: await model.restore(kept), isNew: false };
}

export async function run(write) {
  const model = await OneKV.load('/models/stories-q-mqa.q8_0.gguf');
  const { session, isNew } = await resume(model);
  write(isNew ? 'A new story: ' : `Going on after ${session.contextUsage} tokens: `);
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'hidden') void keep(session);
  });
  const input = isNew ? 'Once upon a time' : ' Then';
  write(`${input}${await session.prompt(input, { maxTokens: 20 })}\n`);
  const { bytes, milliseconds } = await keep(session);
  write(`Saved ${bytes} bytes in ${milliseconds.toFixed(1)} ms. Reload the page to go on.\n`);
}
