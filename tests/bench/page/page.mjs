// Runs in the page: one visit of tests/bench/peers.mjs. The job of the address (?job=JSON):
//
//   engine    'onekv', 'wllama', 'onnx', or 'fetch': how long the file alone takes
//   url       the GGUF or ONNX file
//   threads   threads asked for
//   context   tokens that the longest step needs
//   vocabulary, seed, prompts  [{ count, tokens }]: read that many random tokens, then choose
//             `tokens`; each is measured. No prompt begins like another, so no cache answers.
//   plain     the file is anybody's: who needs text gets words, not the characters of random models
//
// The first prompt is measured as it comes after loading, the others follow it. All engines do
// their work in workers; this thread only waits. The report is written into #report.
import { randomIds, textOfIds } from '/dist/src/bench/random-model.js';
import { measureOneKV } from './onekv.mjs';
import { measureOnnx } from './onnx.mjs';
import { measureWllama } from './wllama.mjs';

const element = (id) => document.getElementById(id);
const say = (text) => { element('state').textContent = text; };

async function measureFetch({ url }) {
  const started = performance.now();
  const bytes = await (await fetch(url)).arrayBuffer();
  const fetched = performance.now();
  await crypto.subtle.digest('SHA-256', bytes);
  return { fetchMs: fetched - started, fetchAndHashMs: performance.now() - started };
}

const engines = { onekv: measureOneKV, onnx: measureOnnx, wllama: measureWllama,
  fetch: measureFetch };

async function run(job) {
  say(`${job.engine} on ${job.url}`);
  const report = await engines[job.engine](job);
  return { isolated: globalThis.crossOriginIsolated, ...report };
}

const failed = (error) => ({ error: String(error?.stack ?? error) });
const words = ['time', 'people', 'water', 'house', 'world', 'school', 'family', 'story', 'night',
  'day', 'man', 'city', 'book', 'hand', 'place', 'work'];
/** As many common words as ids; by the seed, so that no two texts begin alike. */
const wordsOf = (ids) => Array.from(ids, (id) => ` ${words[id % words.length]}`).join('');

const { prompts, vocabulary, seed, ...rest } = JSON.parse(
  new URLSearchParams(location.search).get('job'));
const written = prompts.map(({ count, tokens }, i) => {
  const ids = randomIds(count, vocabulary, seed + i);
  return { ids, text: rest.plain ? wordsOf(ids) : textOfIds(ids), tokens };
});
const report = await run({ ...rest, prompts: written }).catch(failed);
element('report').textContent = JSON.stringify(report);
say('done');
