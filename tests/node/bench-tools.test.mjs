// What stands around the measuring: how busy the machine was, and the table of bench:peers.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { summarise } from '../../dist/src/bench/statistics.js';
import { busyShares, commit, machine, startWatch } from '../bench/machine.mjs';
import { filesMarkdown, peersMarkdown } from '../bench/peers-table.mjs';

/** Takes that much of a core's time, however long it has to wait for it. */
const burnMs = 300;
const burn = `while (process.cpuUsage().user < ${burnMs * 1000});`;

test('work of this process and its children is its own', async () => {
  const started = performance.now();
  const watch = startWatch();
  const child = spawn(process.execPath, ['-e', burn]);
  await new Promise((resolve) => { child.once('exit', resolve); });
  const { own, others, stolen } = busyShares(watch);
  const ownMs = own * (performance.now() - started) * availableParallelism();
  assert.ok(ownMs > burnMs * 0.9 && own <= 1.1, `${ownMs} ms, ${own}`);
  assert.ok(others >= 0 && others <= 1.1, `others ${others}`);
  assert.ok(stolen >= 0);
});

test('a result says where it comes from', () => {
  const { cpu, cores, memoryBytes } = machine();
  assert.ok(cpu.length > 0 && cores >= 1 && memoryBytes > 1e6);
  assert.match(commit(), /^[0-9a-f]{12}\+?$/);
});

test('ratios above 1 are in our favour, whatever the unit', () => {
  const figures = (decode, loadMs) => ({
    'decode after 8': summarise([decode]), loadMs: summarise([loadMs]),
    'first decode': summarise([decode / 2]),
    'decode as the page sees it': summarise([180]),
  });
  const text = peersMarkdown([{
    title: 'S QKV MHA q8_0', threads: 2, commit: '0123456789ab', date: '2026-01-01T00:00:00.000Z',
    machine: machine(), browser: 'Chromium 1', versions: { wllama: '3' },
    onekv: { simd: 'relaxed' }, busy: { others: 0.01, stolen: 0 },
    figures: { wllama: figures(50, 1000), onekv: figures(200, 250),
      fetch: { fetchAndHashMs: summarise([100]) } },
  }]);
  assert.match(text, /^\| \| wllama 3 \| OneKV \(relaxed\) \| to wllama \|$/m);
  assert.match(text, /\| decode after 8, tokens\/s \| 50\.0 ±0 % \| 200 ±0 % \| 4\.00 × \|/);
  assert.match(text, /\| 1\.00 s ±0 % \| 0\.25 s ±0 % \| 4\.00 × \|/);
  assert.match(text, /OneKV's load 2\.50 times that/);
  assert.match(text, /OneKV's first decode: 0\.50 of the later one/);
});

test('a file\'s table names peers, ratios, and who could not read it', () => {
  const figures = (decode, weights) => ({
    'decode after 8': summarise([decode]), 'prefill 256': summarise([10 * decode]),
    'first decode': summarise([decode / 2]), weightBytes: summarise([weights]),
    wasmBytes: summarise([2e8]),
  });
  const text = filesMarkdown([{
    file: 'a.gguf', fileBytes: 1e8, threads: 2, commit: '0123456789ab',
    date: '2026-01-01T00:00:00.000Z', browser: 'Chromium 1',
    machine: { ...machine(), instructionSets: ['avx2', 'fma'] },
    versions: { wllama: '3', native: '0.3' }, onekv: { simd: 'relaxed' },
    nativeInstructions: 'CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | FMA = 1 | ',
    busy: { others: 0.5, stolen: 0.01 }, failures: { wllama: 'RangeError: too long' },
    figures: { native: figures(40, 0), onekv: figures(30, 1.02e8) },
  }]);
  assert.match(text, /^\| \| llama\.cpp \(0\.3\) \| OneKV \(relaxed\) \| to native \|$/m);
  assert.match(text, /\| decode after 8, tokens\/s \| 40\.0 ±0 % \| 30\.0 ±0 % \| 0\.75 × \|/);
  assert.match(text, /wllama did not do it: RangeError: too long\./);
  assert.match(text, /^llama\.cpp was built for\nAVX2, FMA\.$/m);
  assert.match(text, /102 MB of weights, 1\.02 times the file's bytes/);
  assert.match(text, /Other programs took at most 50 %.*\n.*\n\(avx2, fma\)/);
});
