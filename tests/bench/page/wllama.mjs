// wllama's part of a visit: its own timings, which leave out what its page and worker say to each
// other. It runs on the CPU, in one slot, with its defaults for everything else.
import { LoggerWithoutDebug, Wllama } from '/wllama/index.js';

/** Reads a prompt and chooses tokens; refuses answers that did not do the work asked for. */
async function complete(wllama, { text, ids, tokens }, slack) {
  const { timings } = await wllama.createCompletion({
    prompt: text, max_tokens: tokens, temperature: 0, ignore_eos: true, stream: false,
  });
  const { prompt_n: prompt, prompt_ms: promptMs, predicted_n: predicted,
    predicted_ms: predictedMs } = timings;
  if (Math.abs(prompt - ids.length) > slack * ids.length || predicted !== tokens) {
    throw new Error(`wllama read ${prompt} of ${ids.length} tokens and chose ${predicted} of ` +
      `${tokens}`);
  }
  // The first token belongs to the prompt's time.
  return { prefill: 1000 * prompt / promptMs, decode: 1000 * (predicted - 1) / predictedMs };
}

export async function measureWllama({ url, threads, context, prompts, plain }) {
  const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' },
    { logger: LoggerWithoutDebug, suppressNativeLog: true });
  const blob = await (await fetch(url)).blob();
  const started = performance.now();
  await wllama.loadModel([blob], {
    n_gpu_layers: 0, n_threads: threads, n_ctx: context, n_parallel: 1,
  });
  const loadMs = performance.now() - started;
  const steps = [];
  for (const prompt of prompts) {
    // A word may be two tokens, and one may stand before them all.
    steps.push(await complete(wllama, prompt, plain ? 0.25 : 0));
  }
  const report = { threads: wllama.getNumThreads(), loadMs, steps,
    version: Wllama.getLibllamaVersion() };
  await wllama.exit();
  return report;
}
