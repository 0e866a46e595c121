// OneKV's part of a visit, in a worker: what wllama.mjs does, timed alike.
import { Engine, loadModel } from '../../../dist/src/index.js';

/** Reads a prompt and chooses tokens; the first of them belongs to the prompt's time. */
function complete(model, { ids, tokens }) {
  const session = model.openSession({ temperature: 0 });
  try {
    const started = performance.now();
    session.append(ids);
    session.next();
    const read = performance.now();
    for (let i = 1; i < tokens; i++) session.next();
    return {
      prefill: 1000 * ids.length / (read - started),
      decode: 1000 * (tokens - 1) / (performance.now() - read),
    };
  } finally {
    session.destroy();
  }
}

async function measure({ url, threads, context, prompts }) {
  const engine = await Engine.open({ threads });
  try {
    const started = performance.now();
    const model = await loadModel(engine, url, { contextLength: context });
    const loadMs = performance.now() - started;
    const steps = prompts.map((prompt) => complete(model, prompt));
    return { threads: engine.threads, simd: engine.simd, notes: engine.notes, loadMs, steps,
      memory: model.memory() };
  } finally {
    engine.destroy();
  }
}

addEventListener('message', async ({ data: job }) => {
  postMessage(await measure(job).catch((error) => ({ error: String(error?.stack ?? error) })));
});
