// onekv bench: reports that keep their schema, suites that agree with themselves, comparisons,
// charts, and an interrupt that leaves what there is.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { chartOf } from '../../dist/cli/bench/chart.js';
import { compareReports, comparisonText } from '../../dist/cli/bench/compare.js';
import { drawPng, findChromium } from '../../dist/cli/bench/picture.js';
import { markdownOf, paperRows, textOf } from '../../dist/cli/bench/report.js';
import { paperBytes, paperCaches } from '../../dist/src/bench/paper.js';
import { measurePeaks } from '../../dist/src/bench/peaks.js';
import { readGguf } from '../../dist/src/bench/gguf-reader.js';
import { randomModel } from '../../dist/src/bench/random-model.js';
import { halfValue } from '../../dist/src/bench/random-rows.js';
import { requantised } from '../../dist/src/bench/requantise.js';
import { runBatches } from '../../dist/src/bench/runner.js';
import { shapedModel } from '../../dist/src/bench/shapes.js';
import { summarise } from '../../dist/src/bench/statistics.js';
import { check } from './schema.mjs';
import { levels, root } from './support.mjs';

const folder = mkdtempSync(join(tmpdir(), 'onekv-bench-'));
after(() => rmSync(folder, { recursive: true }));

const schema = JSON.parse(readFileSync(join(root, 'web/cli/bench/schema.json'), 'utf8'));
const tiny = ['--layers', '2', '--width', '64', '--heads', '4', '--feed-forward', '96',
  '--vocabulary', '600', '--context', '256', '--threads', '1', '--cache-type', 'f16'];

/** Runs the command line; gives { status, stdout, stderr }. */
function onekv(args, onStart = () => {}, nodeArgs = []) {
  const child = spawn(process.execPath, [...nodeArgs, join(root, 'dist/cli/onekv.js'), ...args], {
    // This very Node: the other one is tested by itself.
    env: { ...process.env, ONEKV_CHILD: '1' },
  });
  onStart(child);
  const said = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) {
    child[stream].on('data', (bytes) => { said[stream] += bytes; });
  }
  return new Promise((resolve) => {
    child.once('close', (status) => resolve({ status, ...said }));
  });
}

async function report(...args) {
  const { status, stdout, stderr } = await onekv(['bench', '--json', ...args]);
  assert.equal(status, 0, stderr);
  const found = JSON.parse(stdout);
  check(found, schema);
  return found;
}

test('speed and memory of both variants of a shape', async () => {
  const name = join(folder, 'both');
  const found = await report('speed', 'memory', ...tiny, '--depths', '8,100', '--quick',
    '--repeat', '2', '--save', name, '--plot', `${name}.svg`, '--simd', 'simd128');
  assert.equal(found.complete, true);
  assert.deepEqual(found.models.map(({ title }) => title),
    ['custom QKV MHA q8_0', 'custom Q-K=V MQA q8_0']);
  const speed = found.rows.filter(({ suite }) => suite === 'speed');
  assert.deepEqual([...new Set(speed.map((row) => row.name))],
    ['prefill 128', 'prefill after 8', 'prefill after 100', 'decode after 8', 'decode after 100']);
  for (const row of speed) {
    assert.equal(row.values.length, 2);
    assert.equal(row.hashes.length, 1, `${row.model}, ${row.name}`);
    assert.ok(row.median > 0);
  }
  const bytes = (model, what) => found.rows.find((row) => row.suite === 'memory' &&
    row.model === model && row.name === what).median;
  for (const what of ['a token', 'cache of 2048', 'cache of 32768']) {
    assert.equal(bytes('custom QKV MHA q8_0', what), 8 * bytes('custom Q-K=V MQA q8_0', what));
  }
  // 2 layers × 2 streams × 64 elements of 2 bytes.
  assert.equal(bytes('custom QKV MHA q8_0', 'a token'), 512);
  assert.equal(bytes('custom QKV MHA q8_0', 'cache of 32768'), 512 * 32768);
  assert.deepEqual(JSON.parse(readFileSync(`${name}.json`, 'utf8')), found);
  assert.match(readFileSync(`${name}.md`, 'utf8'),
    /^# OneKV bench\n\nMade on [-\d]+ by\n\n    npx onekv bench /);
  assert.match(readFileSync(`${name}.svg`, 'utf8'), /^<svg .*\n[^]*<\/svg>\n$/);
});

test('outputs are the same at any number of threads', async () => {
  const args = tiny.map((word, i) => (tiny[i - 1] === '--threads' ? '1,2' : word));
  const found = await report('speed', ...args, '--depths', '40', '--quick', '--repeat', '1',
    '--simd', 'simd128');
  const hashes = new Map();
  for (const row of found.rows) {
    const key = `${row.model}, ${row.name}`;
    assert.deepEqual(hashes.get(key) ?? row.hashes, row.hashes, key);
    hashes.set(key, row.hashes);
  }
  assert.equal(found.rows.length, 2 * hashes.size);
});

test('sessions, loading and perplexity', async () => {
  const text = join(folder, 'text.txt');
  writeFileSync(text,
    'One day a fox met a hen.\n<|end|>\nThe sun was warm. Tim ran home.\n<|end|>\n');
  const found = await report('batch', 'load', 'quality', 'stories-q-mqa', '--quick', '--text', text,
    '--repeat', '1', '--threads', '1');
  const row = (name) => found.rows.find((one) => one.name === name);
  assert.ok(row('1 session').median > 0 && row('8 sessions').median > 0);
  assert.ok(row('load').median > 0);
  assert.ok(row('wasm memory').median >= row('peak of all kinds').median);
  assert.ok(row('peak of all kinds').median >= row('weights in memory').median);
  const evaluated = await onekv(['eval', 'stories-q-mqa', '--text', text, '--documents', '--json']);
  const expected = JSON.parse(evaluated.stdout);
  assert.equal(row('tokens scored').median, expected.tokens);
  const off = row('perplexity').median / expected.perplexityPerToken - 1;
  assert.ok(Math.abs(off) < 1e-9, `off by ${off}`);
});

/** Shows progress on a pipe as on a terminal. */
const asTerminal = 'data:text/javascript,process.stderr.isTTY = true';

test('an interrupt gives what there is', async () => {
  const args = ['bench', 'speed', ...tiny, '--depths', '8', '--json', '--repeat', '1000',
    '--simd', 'simd128'];
  const { status, stdout } = await onekv(args, (child) => {
    let steps = 0;
    // Each line is a step: opening, a warm-up round of all cases, and then measurements.
    child.stderr.on('data', (bytes) => {
      const before = steps;
      steps += String(bytes).split('\r').length - 1;
      // A second interrupt would end it at once.
      if (before <= 20 && steps > 20) child.kill('SIGINT');
    });
  }, ['--import', asTerminal]);
  assert.equal(status, 130);
  const found = JSON.parse(stdout);
  check(found, schema);
  assert.equal(found.complete, false);
  assert.ok(found.rows.length > 0 && found.rows.every(({ values }) => values.length < 1000));
  assert.match(textOf(found), /Interrupted/);
});

test('an interrupt while a batch gets ready is heard, and how far that is is told', async () => {
  const controller = new AbortController();
  let opened = 0;
  let closed = 0;
  const batch = { title: 'many', cases: [], seconds: 8, close: () => { closed += 1; },
    open: async (pause) => {
      for (; opened < 4; opened += 1) {
        await pause(opened / 4);
        if (opened === 2) controller.abort(new Error('interrupted'));
      }
    } };
  const told = [];
  const { complete } = await runBatches([batch, batch], { repeat: 1, signal: controller.signal,
    onProgress: (done, total) => told.push([done, total]) });
  assert.deepEqual([complete, opened, closed], [false, 3, 1]);
  assert.deepEqual(told, [0, 0, 2, 4, 6].map((done) => [done, 16]));
});

test('what does not fit is said before anything runs', async () => {
  for (const [args, message] of [
    [['--shape', 'S', '--projection', 'KV'], /--projection: found "KV", expected QKV, /],
    [['--shape', 'S', '--kv-heads', '4'], /kvHeads: found 4, expected a divisor of 6/],
    [['--threads', '0'], /--threads: found "0"/],
    [['--type', 'q8_0'], /need a --shape/],
    [['--shape', 'odd'], /--shape: found "odd", expected S, M, L/],
    [['--width', '64'], /layers: found undefined/],
    [['no-such-model.gguf'], /no such file/],
    [['--compare', 'a.json'], /takes two reports/],
  ]) {
    const { status, stderr } = await onekv(['bench', ...args]);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});

/** A report with these rows: name → [values, better]. */
function made(rows, noise = 0.01) {
  return {
    format: 'onekv-bench', version: 1, date: '2026-01-01T00:00:00.000Z', package: '1.0.0',
    commit: null, machine: { cpu: 'a <CPU>', architecture: 'x64', cores: 2, memoryBytes: 1 },
    engine: 'Node', options: {}, models: [], seconds: 1, busy: null, notes: [], noise,
    complete: true, timings: [],
    rows: Object.entries(rows).map(([name, [values, better = 'more', more = {}]]) => ({
      suite: 'speed', model: 'm', name, unit: 'tokens/s', better, hashes: [],
      ...summarise(values), ...more })),
  };
}

test('a comparison tells changes from noise', () => {
  const before = made({ fast: [[100, 101, 99]], slow: [[10, 10, 10]], wide: [[50, 100, 150]],
    bytes: [[64], 'less'], load: [[5, 5, 5], 'less'], gone: [[1]] });
  const after = made({ fast: [[130, 131, 129]], slow: [[8, 8, 8]], wide: [[70, 120, 170]],
    bytes: [[65], 'less'], load: [[4, 4, 4], 'less'], fresh: [[1]] });
  check(before, schema);
  const verdicts = Object.fromEntries(compareReports(before, after)
    .map(({ name, verdict }) => [name.split(', ')[2], verdict]));
  assert.deepEqual(verdicts, { fast: 'better', slow: 'worse', wide: 'same', bytes: 'worse',
    load: 'better', fresh: 'new', gone: 'gone' });
  assert.match(comparisonText(before, after), /2 better, 2 worse, 1 same, 1 new, 1 gone\n$/);
  assert.match(comparisonText(before, before), /^6 same\n$/);
});

test('charts and tables show every row, escaped', () => {
  const found = made({ 'a & b': [[1, 2, 3]], c: [[4], 'less', { computed: 'from 2' }] });
  const svg = chartOf(found);
  assert.match(svg, /a &amp; b/);
  assert.match(svg, /a &lt;CPU&gt;/);
  assert.equal(svg.match(/<rect /g).length, 3);
  assert.match(textOf(found), /^speed, tokens\/s\n[^]*4\.00 \*/);
  assert.match(markdownOf(found, 'npx onekv bench'), /\\\* computed from 2/);
});

test('a chart becomes a picture of its size', (t) => {
  const chromium = findChromium();
  if (chromium === undefined) return t.skip('no Chromium on PATH');
  const svg = chartOf(made({ a: [[1, 2, 3]], b: [[4], 'less'] }));
  const file = join(folder, 'chart.png');
  drawPng(svg, file, chromium);
  const bytes = readFileSync(file);
  assert.equal(bytes.toString('latin1', 1, 4), 'PNG');
  const [, width, height] = /width="(\d+)" height="(\d+)"/.exec(svg).map(Number);
  assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [2 * width, 2 * height]);
  return undefined;
});

test("the paper's units, set right, are 2 bytes an element", () => {
  const layers = { 'paper-300M': 20, 'paper-1.2B': 22 };
  for (const cache of paperCaches) {
    const streams = ['QKV', 'Q=K-V'].includes(cache.projection) ? 2 : 1;
    const exact = layers[cache.shape] * streams * cache.kvHeads * 64 * 2 * 32768;
    const off = paperBytes(cache) / exact - 1;
    // Two printed digits.
    assert.ok(cache.printed === 'not given' || Math.abs(off) < 0.03, `${cache.name}: ${off}`);
  }
  const rows = ['a token', 'cache of 2048', 'cache of 32768'].map((name, i) => ({
    model: 'paper-300M Q-K=V MQA q8_0', cacheType: 'f16', name, median: 2560 * [1, 2048, 32768][i],
  }));
  assert.deepEqual(paperRows(rows)[1],
    ['paper-300M Q-K=V MQA', '2560', '5.24 MB', '83.9 MB', '0.08 GB', '81.9 MB']);
});

test('Q8_0 becomes Q4_0 in every matrix, and nothing else changes', async () => {
  const chunks = [];
  const made = shapedModel('tiny', { layers: 1, width: 64, heads: 4, feedForward: 96,
    vocabulary: 600, context: 64 });
  for await (const chunk of randomModel(made).chunks) chunks.push(chunk);
  const before = new Uint8Array(Buffer.concat(chunks));
  chunks.length = 0;
  for await (const chunk of requantised(before, 'made').chunks) chunks.push(chunk);
  const after = readGguf(new Uint8Array(Buffer.concat(chunks)));
  let blocks = 0;
  readGguf(before).tensors.forEach(({ name, type, dimensions, data }, i) => {
    const other = after.tensors[i];
    assert.equal(other.name, name);
    const count = dimensions.reduce((product, n) => product * n, 1);
    if (type !== 8) {
      assert.deepEqual(other.data.slice(0, 4 * count), data.slice(0, 4 * count), name);
      return;
    }
    assert.equal(other.type, 2);
    for (let at = 0; at < count; at += 32, blocks++) {
      const from = Buffer.from(data.subarray(at / 32 * 34, at / 32 * 34 + 34));
      const to = Buffer.from(other.data.subarray(at / 32 * 18, at / 32 * 18 + 18));
      const scale = halfValue(from.readUInt16LE(0));
      const step = halfValue(to.readUInt16LE(0));
      for (let j = 0; j < 32; j++) {
        const nibble = j < 16 ? to[2 + j] & 15 : to[2 + j - 16] >> 4;
        const off = step * (nibble - 8) - scale * from.readInt8(2 + j);
        // Half a step; a whole one at the end that has no 8.
        const most = Math.abs(step) * (nibble === 15 ? 1.02 : 0.52);
        assert.ok(Math.abs(off) <= most, `${name}: off by ${off}`);
      }
    }
  });
  assert.ok(blocks > 1000);
});

test('a batch that fails is a note, and the next one runs', async () => {
  const labels = { suite: 'speed', model: 'm', name: 'n', unit: 'ms', better: 'less' };
  const batch = (open) => ({ title: 't', open, close() {},
    cases: [{ labels, run: () => ({ value: 1, hash: 'a' }) }] });
  const seen = [];
  const results = await runBatches([batch(async () => { throw new Error('no'); }),
    batch(async () => {})], { repeat: 3, onProgress: (done, total) => seen.push([done, total]) });
  assert.deepEqual(results.notes, ['t: no']);
  assert.deepEqual(results.rows.map(({ values }) => values), [[1, 1, 1]]);
  assert.ok(results.complete);
  assert.ok(seen.every(([done, total]) => done < total && total === 10));
});

test('peaks are more than nothing', async () => {
  for (const level of levels) {
    const { int8, int4, f32, read } = await measurePeaks(level);
    assert.ok(int8 > 0.1 && f32 > 0.1 && read > 0.1, JSON.stringify({ int8, f32, read }));
    assert.ok(int4 >= int8, `${int4} of 4 bits, ${int8} of 8`);
  }
});
