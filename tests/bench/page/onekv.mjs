// OneKV's part of a visit: the package as a page uses it. Like wllama it is measured by its own
// timings, taken in its worker; `seen` is the decode speed by the page's clock, with all that
// worker and page say to each other.
import { OneKV } from '/dist/src/onekv.js';

/** Reads a prompt and chooses tokens; the first of them belongs to the prompt's time. */
async function complete(model, { ids, tokens }) {
  // A trained model may come to its end before all are chosen.
  const { ends } = await model.vocabulary();
  const session = await model.createSession({ temperature: 0, chat: false,
    logitBias: Object.fromEntries(ends.map((id) => [id, -Infinity])) });
  let chosen = 0;
  let first = 0;
  const generation = session.generate({ tokens: ids }, { maxTokens: tokens });
  for await (const { token } of generation) {
    if (token === undefined) continue;
    chosen += 1;
    if (chosen === 1) first = performance.now();
  }
  const seen = 1000 * (tokens - 1) / (performance.now() - first);
  const { prefillMs, decodeMs } = await generation.result;
  await session.destroy();
  if (chosen !== tokens) throw new Error(`OneKV chose ${chosen} of ${tokens} tokens`);
  // Its prompt's time leaves out the first choice, which is one of `tokens` equal steps.
  const step = decodeMs / tokens;
  return {
    prefill: 1000 * ids.length / (prefillMs + step),
    decode: 1000 / step,
    seen,
  };
}

export async function measureOneKV({ url, threads, context, prompts }) {
  const started = performance.now();
  const model = await OneKV.load(url, { threads, contextWindow: context, store: 'none' });
  const loadMs = performance.now() - started;
  const steps = [];
  for (const prompt of prompts) steps.push(await complete(model, prompt));
  const { engine } = model;
  const memory = await model.memory();
  await model.unload();
  return { threads: engine.threads, simd: engine.simd, notes: engine.notes, loadMs, steps, memory };
}
