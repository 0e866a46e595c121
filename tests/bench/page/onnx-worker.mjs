// Runs in a worker of the page: ONNX Runtime Web on the file of tests/bench/onnx-model.mjs, with
// keys and values handed from each step to the next, as its users do.
import * as ort from '/ort/ort.wasm.min.mjs';

const integers = (values) => new ort.Tensor('int32', Int32Array.from(values), [values.length]);

/** One step: { logits, and keys and values by layer }. `before` tokens are in the cache. */
function step(session, ids, before, cache) {
  const length = before + ids.length;
  const empty = session.inputMetadata.filter(({ name }) => name.startsWith('past_'))
    .map(({ name, shape: [, heads, , width] }) =>
      [name, new ort.Tensor('float32', new Float32Array(0), [1, heads, 0, width])]);
  const past = empty.map(([name, tensor]) => [name, cache?.[name.slice('past_'.length)] ?? tensor]);
  return session.run({
    ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
    last: integers([length - 1]), total: integers([length]), ...Object.fromEntries(past),
  });
}

function likeliest({ logits: { data } }) {
  let best = 0;
  for (let i = 1; i < data.length; i++) if (data[i] > data[best]) best = i;
  return best;
}

/** Reads a prompt and chooses tokens; the first of them belongs to the prompt's time. */
async function complete(session, { ids, tokens }) {
  const started = performance.now();
  let output = await step(session, ids, 0);
  let token = likeliest(output);
  const read = performance.now();
  for (let i = 1; i < tokens; i++) {
    output = await step(session, [token], ids.length + i - 1, output);
    token = likeliest(output);
  }
  return { prefill: 1000 * ids.length / (read - started),
    decode: 1000 * (tokens - 1) / (performance.now() - read) };
}

async function measure({ url, threads, prompts }) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = '/ort/';
  const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
  const started = performance.now();
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
  const loadMs = performance.now() - started;
  const steps = [];
  for (const prompt of prompts) steps.push(await complete(session, prompt));
  await session.release();
  return { threads: ort.env.wasm.numThreads, loadMs, steps, version: ort.env.versions.web };
}

addEventListener('message', async ({ data }) => {
  postMessage(await measure(data).catch((error) => ({ error: String(error?.stack ?? error) })));
});
