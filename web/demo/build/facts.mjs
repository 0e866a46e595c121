// Facts that the page states without having measured them: what the shipped files' headers say,
// and the results that are kept as JSON. Read when the page is built, by the engine itself.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { root } from '../../../wasm/toolchain/shell.mjs';
import { searchHeads } from './heads.mjs';

const cacheTypes = ['f32', 'f16', 'i8', 'i4'];

/** The shipped files of a page, by the names they have there. */
export const shippedFiles = {
  'stories-q-mqa': 'models/stories-q-mqa.q8_0.gguf',
  'stories-qkv': 'models/stories-qkv.q8_0.gguf',
  'table-q-kv': 'models/table-q-kv.gguf',
  'table-qk-v': 'models/table-qk-v.gguf',
  'digits-keqv': 'models/digits-keqv.f16.gguf',
  'digits-qkv': 'models/digits-qkv.f16.gguf',
};

/** Results that the page links to: those that are there. */
export function resultFiles() {
  const folders = ['models/study/results', 'tests/bench/results', 'tests/bench/results/peers',
    'tests/bench/results/files'];
  return folders.flatMap((folder) =>
    (existsSync(join(root, folder)) ? readdirSync(join(root, folder)) : [])
      .filter((name) => name.endsWith('.json')).map((name) => `${folder}/${name}`));
}

/** What a file's header says, and its bytes. */
async function readShipped(onekv, engine, path) {
  const file = join(root, path);
  const facts = await onekv.readHeader(engine, file, {}, (loader) => {
    const description = loader.describe();
    const { contextWindow, queryHeads } = description;
    const cost = (question) => ({ token: loader.cache.bytes(1, question).total,
      full: loader.cache.bytes(contextWindow, question).total });
    const heads = { MHA: queryHeads, ...Object.fromEntries(onekv.standardGroups(queryHeads)
      .map((group) => [`GQA-${group}`, group])), MQA: 1 };
    const of = (cacheType) => ({ own: cost({ cacheType }),
      standard: Object.fromEntries(Object.entries(heads)
        .map(([name, standardHeads]) => [name, cost({ cacheType, standardHeads })])) });
    const { parameters, weightBytes } = loader.estimate();
    return { description, parameters, weightBytes, sharesRow: loader.cache.bytes(1).shared > 0,
      cache: Object.fromEntries(cacheTypes.map((cacheType) => [cacheType, of(cacheType)])) };
  });
  return {
    file: basename(path),
    bytes: statSync(file).size,
    sha256: createHash('sha256').update(readFileSync(file)).digest('hex'),
    ...facts,
  };
}

/** The paper's shapes in the variants that the budget compares: [name, shape, variants]. */
const paperShapes = [['The paper’s 300M', 'paper-300M', 4], ['The paper’s 1.2B', 'paper-1.2B', 8]]
  .map(([name, shape, group]) => [name, shape, [
    ['QKV', {}], ['Q-K=V', { projection: 'Q-K=V' }],
    [`QKV GQA-${group}`, { kvHeads: group }],
    [`Q-K=V GQA-${group}`, { projection: 'Q-K=V', kvHeads: group }],
    ['QKV MQA', { kvHeads: 1 }], ['Q-K=V MQA', { projection: 'Q-K=V', kvHeads: 1 }],
  ]]);

/** What core says of a file of each of those shapes, of which nothing but the header is made. */
export async function readPaperShapes(onekv, engine) {
  const { randomModel } = await import('../../../dist/src/bench/random-model.js');
  const { shapedModel } = await import('../../../dist/src/bench/shapes.js');
  const read = async (shape, variant) => onekv.readHeader(engine,
    randomModel(shapedModel(shape, variant)), {}, (loader) => {
      const { contextWindow } = loader.describe();
      const cost = (cacheType) => ({ token: loader.cache.bytes(1, { cacheType }).total,
        full: loader.cache.bytes(contextWindow, { cacheType }).total });
      return { context: contextWindow, weightBytes: loader.estimate().weightBytes,
        cache: Object.fromEntries(cacheTypes.map((type) => [type, cost(type)])) };
    });
  const shapes = [];
  for (const [name, shape, variants] of paperShapes) {
    const rows = [];
    for (const [title, variant] of variants) {
      rows.push({ name: title, ...await read(shape, variant) });
    }
    const [{ context }] = rows;
    shapes.push({ name, context,
      variants: rows.map(({ context: _, ...variant }) => variant) });
  }
  return shapes;
}

const readJson = (path) => (existsSync(join(root, path))
  ? JSON.parse(readFileSync(join(root, path), 'utf8')) : undefined);

/** Of a table of language models, what the page shows; undefined where it has not been made. */
function readTable(file) {
  const found = readJson(`models/study/results/${file}`);
  return found?.rows.map((row) => ({
    parameters: row.parameters,
    variant: row.variant, perplexity: row.perplexity, spread: row.perplexity_spread,
    change: row.change_percent, bytesPerToken: row.cache_bytes_per_token_f16, seeds: row.seeds,
  }));
}

/** Of the paper's 300M shape in every variant, the bytes that the allocator counted. */
function readMemory() {
  const rows = readJson('tests/bench/results/memory-paper.json')?.rows ?? [];
  return rows.filter((row) => row.cacheType === 'f16' && row.name === 'cache of 32768' &&
    /^paper-300M .* q8_0$/.test(row.model))
    .map(({ model, median, computed }) =>
      ({ model: model.split(' ').slice(1, 3).join(' '), bytes: median, computed }));
}

/** Of the shipped models, what held-out stories cost by the types of weights and cache, in the
 * arithmetic that is the default. */
function readLosses() {
  const { models } = readJson('models/study/results/losses.json') ?? {};
  const [one, std] = ['stories-q-mqa', 'stories-qkv'].map((name) => models?.[name]?.rows ?? []);
  return one?.flatMap(({ weights, arithmetic, cache, perplexity }) => {
    const twin = std.find((row) => row.weights === weights && row.cache === cache &&
      row.arithmetic === arithmetic);
    if (twin === undefined || arithmetic === 'int16') return [];
    return [{ weights, cache, one: perplexity, std: twin.perplexity }];
  });
}

/** Benchmarks that were run, each with what it ran in and when. Results that are bytes alone do not
 * depend on a machine and name none; those of single files are shown by the documents alone. */
function readBenches() {
  const results = resultFiles().filter((path) => path.startsWith('tests/bench'))
    .map((path) => ({ path, ...readJson(path) }))
    .filter(({ machine, title, options }) => machine !== undefined && (title ?? options));
  return results.map(({ path, title, threads, options, engine, browser, date, machine, long }) => {
    const beside = long ? 'with long prompts' : 'beside wllama';
    const what = title === undefined ? options.suites.join(', ')
      : `${title} ${beside}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;
    return { file: basename(path), what, engine: engine ?? browser, date: date.slice(0, 10),
      cpu: machine.cpu };
  });
}

/** What the page draws of the comparisons with other runtimes, if it was run: a shape in the
 * browser, and a file beside native llama.cpp. */
const compared = [
  ['peers/m-qkv-mha-2t.json', '110 M parameters in Q8_0', 'npm run bench:peers',
    { 'decode after 8': 'Writing (decode)', 'prefill 512': 'Reading 512 tokens (prefill)' }],
  ['files/llama-3.2-1b-q4_k_m-2t.json', '1.2 B parameters in Q4_K_M (the shape of Llama-3.2-1B)',
    'npm run bench:peers -- --file F',
    { 'decode after 8': 'Writing (decode)', 'prefill 256': 'Reading 256 tokens (prefill)' }],
];

/** Those runs, the fastest engine of each first. */
function readPeers() {
  return compared.flatMap(([path, title, command, rows]) => {
    const found = readJson(`tests/bench/results/${path}`);
    if (found === undefined) return [];
    const { figures, versions, browser, machine, date } = found;
    const bars = Object.entries(rows).map(([row, what]) => ({ what,
      engines: Object.entries(figures).filter(([, of]) => of[row] !== undefined)
        .map(([engine, of]) => ({ engine, median: of[row].median, version: versions[engine] }))
        .sort((a, b) => b.median - a.median) }));
    return [{ title, command, bars, file: basename(path), browser, cpu: machine.cpu,
      date: date.slice(0, 10) }];
  });
}

/** Of the synthetic tasks and images, what was run, by suite. */
function readTasks() {
  const found = readJson('models/study/results/tasks.json');
  return Object.entries(found?.suites ?? {}).map(([suite, { rows }]) => ({
    suite,
    rows: rows.map(({ task, variant, mean, spread, seeds, paper }) =>
      ({ task, variant, mean, spread, seeds: seeds.length, paper })),
  })).filter(({ rows }) => rows.length > 0);
}

/** What a token takes in one layer of other models than the shipped ones, f16, and as keys and
 * values: of the twin's shape with Q-K=V, of Youtu-LLM-2B, of Gemma 4 31B's global layers. A file
 * with one layer that attends alike is asked; nothing but its header is made. */
async function readLayers(onekv, engine, { queryHeads, headWidth }) {
  const { randomModel } = await import('../../../dist/src/bench/random-model.js');
  const { shapedModel } = await import('../../../dist/src/bench/shapes.js');
  const ask = (heads, kvHeads, width) => {
    const shape = shapedModel('S', { layers: 1, width: heads * width, heads, kvHeads,
      feedForward: 32, vocabulary: 512, projection: 'Q-K=V' });
    return onekv.readHeader(engine, randomModel(shape), {}, ({ cache }) => ({
      bytes: cache.bytes(1).total,
      standard: cache.bytes(1, { standardHeads: kvHeads }).total }));
  };
  const { layers, here, expanded } = readJson('tests/bench/results/families.json')
    .models['youtu-llm-2b'];
  return { shared: await ask(queryHeads, queryHeads, headWidth), gemma: await ask(32, 4, 512),
    mla: { bytes: here / layers, standard: expanded / layers } };
}

/** Published models' shapes: bytes of the cache of 32 Ki tokens in f16. */
function readPublished() {
  const { models } = readJson('tests/bench/results/families.json');
  return Object.entries(models).map(([name, { architecture, parameters, contexts }]) => {
    const { here, llama_cpp: llamaCpp, expanded } = contexts[32768];
    // Windows are full by then.
    const token = Math.round((here - contexts[4096].here) / (32768 - 4096));
    return { name, architecture, parameters, token, here, llamaCpp, expanded };
  });
}

/** Bytes of published models' caches for the budget, of headers by models/tools/family_shapes.py:
 * as they are, and as keys and values of all heads. Windows bend the growth, so core is asked at
 * several lengths, as far as the model's context goes. */
export async function readPublishedShapes(onekv, engine) {
  const lengths = [1, 512, 640, 4096, 32768];
  const read = (name) => onekv.readHeader(engine,
    gunzipSync(readFileSync(join(root, `tests/real/shapes/${name}.gguf.gz`))), {}, (loader) => {
      const { contextWindow, queryHeads } = loader.describe();
      const points = lengths.filter((n) => n <= contextWindow);
      const cache = (question) => Object.fromEntries(cacheTypes.map((cacheType) => {
        const bytes = points.map((n) => loader.cache.bytes(n, { cacheType, ...question }).total);
        const [before, last] = [bytes.at(-2), bytes.at(-1)];
        const token = Math.round((last - before) / (points.at(-1) - points.at(-2)));
        const full = bytes[points.indexOf(4096)];
        const isEven = bytes.every((total, i) => total === points[i] * token);
        return [cacheType, isEven ? { token, full }
          : { token, full, points: points.map((n, i) => [n, bytes[i]]) }];
      }));
      const { parameters, weightBytes } = loader.estimate();
      return { bits: Number((8 * weightBytes / parameters).toFixed(1)), variants: [
        { name: 'As published', weightBytes, cache: cache({}) },
        { name: 'All heads', weightBytes, cache: cache({ standardHeads: queryHeads }) }] };
    });
  const { models } = readJson('tests/bench/results/families.json');
  const shapes = [];
  for (const name of Object.keys(models)) {
    shapes.push({ name, context: 4096, isPublished: true, ...await read(name) });
  }
  return shapes;
}

/** The model that a visitor without one may try. */
function readSuggested() {
  const { file, bytes, sha256, sources } = readJson('models/named.json')['smollm2-135m-instruct'];
  return { file, bytes, sha256, url: sources.find(({ url }) => url).url };
}

/** What the page states; web/demo/src/facts.d.ts has the shape. */
export async function readFacts() {
  const onekv = await import('../../../dist/src/engine-entry-node.js');
  const { commit, packageVersion } = await import('../../../dist/cli/bench/host.js');
  const engine = await onekv.Engine.open({ threads: 1 });
  try {
    const models = {};
    for (const [name, path] of Object.entries(shippedFiles)) {
      models[name] = await readShipped(onekv, engine, path);
    }
    return { models, paperShapes: await readPaperShapes(onekv, engine),
      table: readTable('table.json'), equal: readTable('equal.json'),
      tasks: readTasks(), memory: readMemory(),
      attention: await searchHeads(),
      losses: readLosses(), benches: readBenches(), peers: readPeers(),
      suggested: readSuggested(), published: readPublished(),
      publishedShapes: await readPublishedShapes(onekv, engine),
      layers: await readLayers(onekv, engine, models['stories-qkv'].description),
      version: packageVersion(), commit: commit() };
  } finally {
    engine.destroy();
  }
}
