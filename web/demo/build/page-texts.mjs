// The texts that index.html takes from the facts, so that it says no number by itself.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../../wasm/toolchain/shell.mjs';

/** What the page may do: its own files, WebAssembly, and addresses of models that a visitor gives.
 * Nothing inline, nothing evaluated. */
export const policy = [
  "default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self'",
  "connect-src 'self' https: http://localhost:* http://127.0.0.1:*", "style-src 'self'",
  "img-src 'self' data: blob:", "font-src 'self'", "manifest-src 'self'", "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const millions = (count) => `${(count / 1e6).toFixed(1)} M`;

function describe({ description, parameters }) {
  const { kvHeads, layers, queryHeads } = description;
  const heads = kvHeads === 1 ? `one KV head for ${queryHeads} query heads`
    : `${kvHeads} KV heads for ${queryHeads} query heads`;
  return `${layers} layers, ${heads}, ${millions(parameters)} parameters`;
}

/** Vectors of a token that a layer keeps: of each KV head a key and a value, or one for both. */
const keptOf = ({ description: { kvHeads }, sharesRow }) => (sharesRow ? kvHeads : 2 * kvHeads);
const vectors = (count) => `${count} ${count === 1 ? 'vector' : 'vectors'}`;

/** A cell for each head's key and value; those that the model does without are empty. In words. */
function cells(model, most) {
  const kept = keptOf(model);
  const cell = (full) => (full ? '<i class="full"></i>' : '<i></i>');
  const drawn = Array.from({ length: most }, (_, i) => cell(i < kept)).join('');
  return `<p class="cells" aria-hidden="true">${drawn}</p>` +
    `<p class="kept">${vectors(kept)} per token and layer</p>`;
}

/** Models that are as large in all may differ in layers, and then in all by another factor than
 * each layer; nothing where they do not. */
function onLayers(one, std, times) {
  const [few, many] = [one, std].map(({ description }) => description.layers);
  if (few === many) return '';
  const inLayer = keptOf(std) / keptOf(one);
  return `: ${inLayer} times less per layer, and ${times} times in all, since it has ${few} ` +
    `layers against ${many}`;
}

/** Not broken over two lines, either of them. */
const whole = (text) => `<span class="whole">${text}</span>`;
const percent = (value) => `${value.toFixed(1)}&nbsp;%`;
const result = (file, text) => `<a href="results/${file}">${text}</a>`;

/** Where likeness is all that is asked: what the symmetric variant does there. */
function onImages({ tasks }) {
  const rows = tasks.find(({ suite }) => suite === 'odd')?.rows ?? [];
  const [std, symmetric] = ['QKV', 'Q=K-V'].map((name) =>
    percent(100 * rows.find(({ variant }) => variant === name)?.mean));
  return 'Likeness is mutual, so for sets and images that is enough. The odd one of ten images ' +
    `is found by ${whole('Q=K-V')} in ${result('tasks.json', symmetric)} of all cases, by QKV in ` +
    `${result('tasks.json', std)}.`;
}

/** Language: our own runs where there are any, else the paper's. */
function onLanguage({ table }) {
  const [symmetric, shared] = ['Q=K-V', 'Q-K=V'].map((name) =>
    table?.find(({ variant }) => variant === name)?.change);
  const cost = [symmetric, shared].every(Number.isFinite)
    ? `${result('table.json', percent(symmetric))} of perplexity here and ${percent(4.9)} in the ` +
      `paper’s 300M models; ${whole('Q-K=V')} costs ` +
      `${result('table.json', percent(shared))} and ${percent(3.1)}`
    : `${percent(4.9)} of perplexity in the paper’s 300M models; Q-K=V costs ${percent(3.1)}`;
  return `In language ${whole('Q=K-V')} costs ${cost}. And ${whole('Q=K-V')} still has keys and ` +
    'values to keep: it saves no cache at all.';
}

/** What the search over all heads found, in both models. */
function onHeads({ attention: { asks, wanted, one, std } }) {
  const share = (value) => whole(`${(100 * value).toFixed(0)}&nbsp;%`);
  return `Of ${one.heads} heads each, the ones are shown first in which <i>${asks}</i> looks at ` +
    `<i>${wanted}</i> most: ${share(one.weight)} in ${whole('Q-K=V')}, ${share(std.weight)} in ` +
    `${whole('Q=K-V')} (the later tokens do so with ${share(one.usual)} and ` +
    `${share(std.usual)}), so a single mutual head can do it. Over all heads the price shows: a ` +
    `token keeps ${share(std.own)} of its weight for itself, against ${share(one.own)}.`;
}

/** What the shared cache costs of perplexity in the two models, as they are shipped. */
function cost(losses) {
  const row = losses?.find(({ weights, cache }) => weights === 'shipped' && cache === 'f16');
  if (row === undefined) throw new Error('losses.json: no row of shipped weights, cache f16');
  return result('losses.json', percent(100 * (row.one / row.std - 1)));
}

/** The README's first program, which the tests of the package run. */
function program() {
  const [, text] = /^```js\n([^]*?)^```$/m.exec(readFileSync(join(root, 'README.md'), 'utf8'));
  return text.trimEnd().replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

/** The ways on: to the pages about the package where they lie beside this one, and to the source
 * where the build has been told its address, as the packages' build is (pack.mjs). */
export const waysOn = (folder, repository) => (folder
  ? ` Its pages, and the reference of the interface: <a href="${folder}">documentation</a>.` : '') +
  (repository ? ` It is open source: <a href="${repository.replace(/"/g, '&quot;')}">repository` +
    '</a>.' : '');

/** The page's own address as a folder, before which the name of a file can stand. */
export const folderOf = (address) => (address ? address.replace(/\/*$/, '/') : './');

/** { key: text } for every {{key}} of index.html but the policy. */
export function pageTexts({ models, tasks, table, attention, losses }) {
  const one = models['stories-q-mqa'];
  const std = models['stories-qkv'];
  const ratio = std.cache.f16.own.token / one.cache.f16.own.token;
  const most = 2 * std.description.queryHeads;
  const times = String(Number(ratio.toFixed(1)));
  return {
    ratio: times,
    layers: onLayers(one, std, times),
    context: one.description.contextWindow.toLocaleString('en'),
    'one.kept': vectors(keptOf(one)),
    'std.kept': vectors(keptOf(std)),
    'std.heads': String(std.description.kvHeads),
    'attention.images': onImages({ tasks }),
    'attention.language': onLanguage({ table }),
    'attention.heads': onHeads({ attention }),
    'cost.here': cost(losses),
    program: program(),
    'one.name': 'Q-K=V MQA',
    'one.what': describe(one),
    'one.size': megabytes(one.bytes),
    'one.cells': cells(one, most),
    'std.name': 'QKV MHA',
    'std.what': describe(std),
    'std.cells': cells(std, most),
    'std.size': megabytes(std.bytes),
  };
}
