// The folder that is copied to a host: its sizes, its policy, and the arithmetic of budgets.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import * as onekv from '../../dist/src/engine-entry-node.js';
import { searchHeads } from '../../web/demo/build/heads.mjs';
import { readPaperShapes } from '../../web/demo/build/facts.mjs';
import { site } from '../../web/demo/build.mjs';
import { folderOf, waysOn } from '../../web/demo/build/page-texts.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';

const assets = readdirSync(join(site, 'assets')).map((name) => join(site, 'assets', name));
const gzipped = (files) => files.reduce((sum, file) =>
  sum + gzipSync(readFileSync(file)).length, 0);

test('JavaScript stays under 184 KB gzipped', (t) => {
  // All but the benchmark, which its button loads. Of the two glue scripts a browser takes one.
  const size = gzipped(assets.filter((file) => /\.m?js$/.test(file) && !/bench-worker/.test(file)));
  t.diagnostic(`${(size / 1000).toFixed(0)} KB`);
  assert.ok(size < 184_000, `${size} bytes`);
});

test('the first story takes less than 13 MB', (t) => {
  // Neither the benchmark nor grammars are asked for, and of the two modules a browser takes one.
  const models = ['stories-q-mqa.q8_0.gguf', 'stories-qkv.q8_0.gguf']
    .map((name) => join(site, 'models', name));
  const page = [...assets.filter((file) => !/bench-worker|onekv-(grammar|simd128)/.test(file)),
    join(site, 'index.html')];
  const size = [...models, ...page].reduce((sum, file) => sum + statSync(file).size, 0);
  t.diagnostic(`${(size / 1e6).toFixed(1)} MB`);
  assert.ok(size < 13e6, `${size} bytes`);
});

test('the page has a strict policy and nothing inline', () => {
  const html = readFileSync(join(site, 'index.html'), 'utf8');
  assert.match(html, /script-src 'self' 'wasm-unsafe-eval';/);
  assert.doesNotMatch(html, /unsafe-inline|'unsafe-eval'|<style|<script>| style=| on[a-z]+="/);
  assert.doesNotMatch(html, /\{\{[\w.]+\}\}/);
});

test('a picture has its full address, and the source its link, where the build knows them', () => {
  assert.deepEqual([undefined, '', 'https://a.example', 'https://a.example/b/'].map(folderOf),
    ['./', './', 'https://a.example/', 'https://a.example/b/']);
  assert.equal(waysOn('', undefined), '');
  assert.match(waysOn('docs/', 'https://a.example/onekv'),
    /<a href="docs\/">documentation<\/a>.*<a href="https:\/\/a\.example\/onekv">repository<\/a>/);
});

test('what the service worker keeps is there', () => {
  const { files } = JSON.parse(readFileSync(join(site, 'precache.json'), 'utf8'));
  assert.ok(files.includes('index.html'));
  for (const file of files) assert.ok(statSync(join(site, file)).isFile(), file);
  assert.ok(!files.some((file) => file.endsWith('.gguf')));
});

/** The module as JavaScript; facts take the place of those of the build. */
async function load(path, facts) {
  const virtual = { name: 'facts', setup({ onResolve, onLoad }) {
    onResolve({ filter: /^virtual:facts$/ }, () => ({ path: 'facts', namespace: 'facts' }));
    onLoad({ filter: /./, namespace: 'facts' }, () =>
      ({ contents: JSON.stringify(facts), loader: 'json' }));
  } };
  const { outputFiles } = await build({
    entryPoints: [join(root, path)], bundle: true, format: 'esm', write: false,
    plugins: [virtual],
  });
  const text = Buffer.from(outputFiles[0].contents).toString('base64');
  return import(`data:text/javascript;base64,${text}`);
}

test('budgets: bytes of a token are those of the paper’s Table 7', async () => {
  const { buy, tokensOf } = await load('web/demo/src/budget-math.ts');
  const engine = await onekv.Engine.open({ threads: 1 });
  const [small, large] = await readPaperShapes(onekv, engine);
  engine.destroy();
  assert.deepEqual(small.variants.map(({ cache }) => cache.f16.token),
    [81_920, 40_960, 20_480, 10_240, 5_120, 2_560]);
  assert.deepEqual([small.context, large.context], [2048, 2048]);
  const of = (name) => large.variants.find((variant) => variant.name === name);
  // 1.2B at 32,768 tokens: 5,632 and 88 MiB, 64 : 1 (the paper's 5,900 are decimal megabytes).
  assert.equal(of('QKV').cache.f16.token * 32_768, 5_632 * 2 ** 20);
  assert.equal(of('Q-K=V MQA').cache.f16.token * 32_768, 88 * 2 ** 20);
  assert.equal(small.variants[5].cache.i8.token, 20 * (64 + 4));
  assert.deepEqual(buy(small.variants[0], 'f16', 1e9, false),
    { token: 81_920, full: 2048 * 81_920, cacheBytes: 1e9, tokens: 12_207, conversations: 5 });
  assert.equal(buy(small.variants[0], 'f16', 1e8, true).tokens, 0);
  const points = [[1, 10], [512, 5120], [1024, 6144]];
  assert.deepEqual([0, 9, 10, 5120, 5632, 6144, 7168].map((bytes) =>
    tokensOf({ token: 2, full: 0, points }, bytes)), [0, 0, 1, 512, 768, 1024, 1536]);
});

test('the heads that are shown first look at Lily because she is asked for', async () => {
  const { one, std, sentence, wanted } = await searchHeads();
  assert.ok(!sentence.startsWith(wanted), 'many heads look at the first token from everywhere');
  for (const { weight, usual, own } of [one, std]) {
    assert.ok(weight > 2 * usual, `“She” ${weight}, the later tokens ${usual}`);
    assert.ok(own > 0 && own < 1);
  }
  // What the page says of the price.
  assert.ok(std.own > one.own, `${std.own}, ${one.own}`);
});

/** As much of a document as a chart needs: its text, and the classes of its elements. */
function standInDocument() {
  const make = () => ({
    text: '', classes: [], style: { setProperty() {} },
    setAttribute(name, value) { if (name === 'class') this.classes.push(value); },
    append(child) {
      this.text += child.text ?? child;
      this.classes.push(...child.classes ?? []);
    },
  });
  return { createElement: make };
}

test('the chart of costs draws runs of equal parameters where there are any', async () => {
  const row = (variant, change, parameters) => ({ variant, change, parameters });
  const table = [row('QKV', 0, 1e6), row('Q-MQA', 26.2, 8e5)];
  const count = ({ classes }, kind) => classes.filter((name) => name === `dot ${kind}`).length;
  globalThis.document = standInDocument();
  try {
    const without = (await load('web/demo/src/paper-charts.ts', { table })).costChart();
    assert.doesNotMatch(without.text, /equal parameters/);
    assert.match(without.text, /ours, 0\.8 to 1\.0\u00a0M, equal width.*ours \+26\.2 %$/);
    assert.deepEqual([count(without, 'ours'), count(without, 'equal')], [3, 0]);
    const equal = [row('QKV', 0, 6e6), row('Q-MQA', 7.5, 6e6)];
    const chart = (await load('web/demo/src/paper-charts.ts', { table, equal })).costChart();
    assert.match(chart.text, /ours, 6\.0\u00a0M, equal parameters/);
    assert.match(chart.text, /ours \+26\.2 %, equal parameters \+7\.5 %$/);
    assert.deepEqual([count(chart, 'ours'), count(chart, 'equal')], [3, 3]);
  } finally {
    delete globalThis.document;
  }
});
