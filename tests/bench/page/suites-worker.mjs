// The suites of onekv bench in a page's worker. The job: { suites, quick, repeat }.
import { Engine, hasRelaxedSimd, loadModel, threadsFromPage }
  from '../../../dist/src/engine-entry.js';
import { makePlan } from '../../../dist/src/bench/plan.js';
import { runBatches } from '../../../dist/src/bench/runner.js';

/** What this page can start: both of two threads, or one. */
async function findThreads() {
  const engine = await Engine.open({ threads: 2 });
  const { threads, notes } = engine;
  engine.destroy();
  return { threads: [...new Set([threads, 1])], notes };
}

/** The shipped pair, and the text that they have not read. */
async function findQuality(suites, quick) {
  if (!suites.includes('quality')) return { qualitySubjects: [], quality: undefined };
  const url = (file) => new URL(`/models/${file}`, location.origin);
  const text = await (await fetch(url('validation.txt'))).text();
  const qualitySubjects = ['stories-qkv', 'stories-q-mqa'].map((name) => ({
    title: `${name}.q8_0`,
    load: (engine, options) => loadModel(engine, url(`${name}.q8_0.gguf`), options),
  }));
  return { qualitySubjects, quality: { text, tokens: quick ? 4000 : Number.POSITIVE_INFINITY } };
}

async function run({ suites, quick, repeat }) {
  const { threads, notes } = await findThreads();
  const models = new Map();
  const started = performance.now();
  const pause = () => new Promise((resolve) => { setTimeout(resolve); });
  const batches = makePlan({
    suites, quick, threads, subjects: [], ...await findQuality(suites, quick),
    simd: hasRelaxedSimd() ? ['relaxed', 'simd128'] : ['simd128'],
    cacheTypes: undefined, depths: undefined, pause,
    onLoad: (title, { hash, estimate }) => {
      models.set(title, { title, hash, parameters: estimate.parameters });
    },
  });
  const results = await runBatches(batches, {
    repeat,
    onProgress(done, total, title) {
      const passed = (performance.now() - started) / 1000;
      // As on the command line: at first one measurement says little about all the others.
      const left = Math.ceil((total - done) * (passed + 10) / (done + 10));
      postMessage({ progress: `${Math.floor(100 * done / total)} %, ${left} s left, ${title}` });
    },
  });
  return { ...results, notes: [...notes, ...results.notes], models: [...models.values()],
    options: { suites, quick, repeat, threads }, seconds: (performance.now() - started) / 1000 };
}

threadsFromPage();
addEventListener('message', async ({ data }) => {
  const failed = (error) => ({ error: String(error?.stack ?? error) });
  postMessage({ report: await run(data).catch(failed) });
});
