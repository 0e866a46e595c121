// The tables of README.md, and of the pages that page-tables.mjs has, made of the result files that
// are committed:
//
//   node tests/bench/readme.mjs [--check]     writes them, or says which are not as they should be
//
// A table stands between <!-- begin NAME --> and <!-- end NAME -->. Run it after a benchmark whose
// results are committed. Files that are not there yet give no rows.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { headsName } from '../../dist/src/engine/description.js';
import { paperBytes, paperCaches } from '../../dist/src/bench/paper.js';
import { shapes } from '../../dist/src/bench/shapes.js';
import { Stop, main, root, say } from '../../wasm/toolchain/shell.mjs';
import { bytes, rate, table } from './markdown.mjs';
import { pageTables } from './page-tables.mjs';

const results = 'tests/bench/results';
const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));
const jsonFiles = (folder, pattern) => (existsSync(join(root, folder))
  ? readdirSync(join(root, folder)) : []).filter((name) => pattern.test(name)).sort()
  .map((name) => readJson(`${folder}/${name}`));

const times = (x) => `${x.toFixed(x < 3 ? 2 : 1)} ×`;
const shown = ['shipped f16', 'shipped i4'];

/** Perplexity of the shipped pair, by types of weights and cache; those that say something. */
function quality() {
  const { models } = readJson('models/study/results/losses.json');
  const names = Object.keys(models).sort((a, b) => (a < b ? 1 : -1));
  const cells = (weights, cache) => names.map((name) => models[name].rows
    .find((row) => row.weights === weights && row.cache === cache && row.arithmetic === 'int8')
    .perplexity.toFixed(2));
  const [one] = names;
  return table(['weights', 'cache', ...names], [
    ['PyTorch f32', '', ...names.map((name) => models[name].pytorch.perplexity.toFixed(2))],
    ...models[one].rows.filter(({ weights, cache, arithmetic }) =>
      shown.includes(`${weights} ${cache}`) && arithmetic === 'int8')
      .map(({ weights, cache }) => [weights, cache, ...cells(weights, cache)]),
  ]);
}

/** A variant's id in the results as it is written everywhere: Q-MQA is Q-K=V MQA. */
const written = (variant) => variant.replace(/^(Q-)?(?=[GM]QA)/,
  (_, shares) => (shares ? 'Q-K=V ' : 'QKV '));

/** Perplexity by variant: many small models, as far as they have been trained; of one width, and
 * with what sharing saves put into their MLPs. */
function variants() {
  const read = (name) => {
    const path = `models/study/results/${name}.json`;
    return existsSync(join(root, path)) ? readJson(path).rows : [];
  };
  const equal = read('equal');
  const change = (row) => (typeof row?.change_percent === 'number'
    ? `${row.change_percent.toFixed(1)} %` : '');
  return table(['variant', 'perplexity', '±', 'against QKV', 'at equal parameters',
    'cache per token, f16', 'seeds'],
  read('table').map((row) => [written(row.variant), row.perplexity.toFixed(2),
    row.seeds > 1 ? (row.perplexity_spread / 2).toFixed(2) : '', change(row),
    change(equal.find(({ variant }) => variant === row.variant)),
    bytes(row.cache_bytes_per_token_f16), row.seeds]));
}

/** Bytes of the cache of the paper's smaller model, by variant. */
function memory() {
  const { rows } = readJson(`${results}/memory-paper.json`);
  const models = [...new Set(rows.map((row) => row.model))]
    .filter((name) => /-300M .*q8_0$/.test(name));
  return table(['', '2 Ki tokens, f16', '32 Ki, f16', 'of QKV', 'the paper at 32K', '32 Ki, i8'],
    models.map((model) => {
      const find = (cacheType, name) => rows.find((row) => row.model === model &&
        row.cacheType === cacheType && row.name === name);
      const [shape] = model.split(' ');
      const whole = rows.find((row) => row.model === `${shape} QKV MHA q8_0` &&
        row.cacheType === 'f16' && row.name === 'a token').median;
      const part = whole / find('f16', 'a token').median;
      const printed = paperCaches.find((cache) =>
        `${cache.shape} ${cache.projection} ${headsName(headsOf(shape), cache.kvHeads)} q8_0` ===
        model);
      const cell = (found) => bytes(found.median);
      const long = [find('f16', 'cache of 32768'), find('i8', 'cache of 32768')].map(cell);
      return [model.replace(/^paper-| q8_0$/g, ''), cell(find('f16', 'cache of 2048')), long[0],
        part === 1 ? '1' : `1/${Math.round(part)}`, paperCell(printed), long[1]];
    }));
}

/** A token's cache in published models' shapes: the first of each architecture, since
 * web/docs/families.md has them all. */
function families() {
  const all = Object.entries(readJson(`${results}/families.json`).models);
  const firsts = all.filter(([, { architecture }], i) =>
    all.findIndex(([, row]) => row.architecture === architecture) === i);
  // Windows are full by then: what a token more takes.
  const further = (contexts, of) => Math.round((contexts[32768][of] - contexts[4096][of]) / 28672);
  const cell = (contexts, of) => `${bytes(further(contexts, of))}, ${bytes(contexts[32768][of])}`;
  return table(['a further token, and 32 Ki', 'here', 'llama.cpp', 'keys and values of all heads',
    'off llama.cpp’s logits'], firsts.map(([name, row]) => [
    `${name} (\`${row.architecture}\`)`,
    ...['here', 'llama_cpp', 'expanded'].map((of) => cell(row.contexts, of)),
    row.distance_llama_cpp === null ? '' : row.distance_llama_cpp.toExponential(0)]));
}

const headsOf = (shape) => shapes[shape].heads;
const paperCell = (cache) => (Number.isNaN(paperBytes(cache)) ? 'not given'
  : bytes(paperBytes(cache)));

/** Files as people have them, with two threads, the smallest first: OneKV and wllama in Chromium,
 * llama.cpp native. */
function files() {
  const found = jsonFiles(`${results}/files`, /-2t\.json$/)
    .sort((a, b) => a.fileBytes - b.fileBytes);
  const names = ['decode after 8', 'prefill 256'];
  const cells = ({ native, wllama, onekv }, name) => {
    const peers = [native, wllama].map((one) => one?.[name]?.median);
    const own = onekv[name].median;
    return [[...peers, own].map((one) => (one ? rate(one) : '–')).join(' · '),
      peers.map((one) => (one ? times(own / one) : '–')).join(' · ')];
  };
  const where = new Set(found.map(({ machine, date }) => `${machine.cpu}, ${date.slice(0, 10)}`));
  const ratios = 'OneKV ÷ native · ÷ wllama';
  return table([[...where].join('; '), 'file', ...names.flatMap((name) =>
    [`${name}, tokens/s: native · wllama · OneKV`, ratios]), 'weights held / file'],
    found.map(({ file, fileBytes, figures }) => [file.replace('.gguf', ''), bytes(fileBytes),
      ...names.flatMap((name) => cells(figures, name)),
      (figures.onekv.weightBytes.median / fileBytes).toFixed(2)]));
}

const pages = { 'README.md': { quality, variants, memory, families, files }, ...pageTables };

/** The page with every table as it should be. */
function withTables(path, text) {
  return Object.entries(pages[path]).reduce((whole, [name, make]) => {
    const begin = `<!-- begin ${name} -->\n`;
    const end = `<!-- end ${name} -->`;
    const from = whole.indexOf(begin);
    const to = whole.indexOf(end);
    if (from < 0 || to < from) throw new Stop(`${path} has no place for the table ${name}`);
    return `${whole.slice(0, from + begin.length)}${make().join('\n')}\n${whole.slice(to)}`;
  }, text);
}

await main(() => {
  for (const path of Object.keys(pages)) {
    const text = readFileSync(join(root, path), 'utf8');
    const right = withTables(path, text);
    if (text === right) {
      say(`${path}: its tables are those of the result files`);
    } else if (process.argv[2] === '--check') {
      throw new Stop(`${path}: other figures than the result files: node tests/bench/readme.mjs`);
    } else {
      writeFileSync(join(root, path), right);
      say(`${path}: tables written`);
    }
  }
});
