// The test run itself: what its options choose, and that a runner's closing lines are read right.
import assert from 'node:assert/strict';
import test from 'node:test';
import { choose, inLanes, parseArguments } from '../run.mjs';
import { stages } from '../stages.mjs';
import { compiling } from '../../wasm/toolchain/build.mjs';
import { fromCtest, fromNodeTest, fromPlain, total } from '../summaries.mjs';

const names = (table) => table.map(({ name }) => name).join(' ');

test('--only takes stages, groups of stages, and what they are built from', () => {
  const table = [
    { name: 'native-a', after: [] }, { name: 'native-b', after: [] }, { name: 'ts', after: [] },
    { name: 'node', after: ['ts'] }, { name: 'hours', after: ['ts'], slow: true },
  ];
  assert.equal(names(choose(table, [])), 'native-a native-b ts node');
  assert.equal(names(choose(table, ['native'])), 'native-a native-b');
  assert.equal(names(choose(table, ['node', 'native-b'])), 'native-b ts node');
  assert.equal(names(choose(table, ['hours'])), 'ts hours');
  assert.throws(() => choose(table, ['nat']), /no such stage: nat/);
});

test('options are read, wrong ones refused', () => {
  const { only, fuzzSeconds } = parseArguments(['--only', 'a,b', '--fuzz-seconds', '60']);
  assert.deepEqual([only, fuzzSeconds], [['a', 'b'], 60]);
  assert.throws(() => parseArguments(['--all']), /no such option: --all/);
  assert.throws(() => parseArguments(['--only']), /needs a value/);
  assert.throws(() => parseArguments(['--fuzz-seconds', 'x']), /whole number/);
});

test('a build of several parts says which of how many it compiles', () => {
  assert.equal(compiling('wasm-simd128', [1, 2]),
    'build: compiling wasm-simd128, 1 of 2, which takes minutes …');
  assert.equal(compiling('native-asan'),
    'build: compiling native-asan, which takes minutes …');
});

test('a stage comes after those that it uses', () => {
  const seen = new Set();
  for (const { name, after } of stages) {
    for (const other of after) assert.ok(seen.has(other), `${name} after ${other}`);
    seen.add(name);
  }
});

test('a stage with pages runs beside one of the others, and behind what it uses', async () => {
  const table = [{ name: 'ts', after: [] }, { name: 'a', after: ['ts'], pages: true },
    { name: 'b', after: ['ts'] }, { name: 'c', after: [], pages: true },
    { name: 'd', after: ['c'] }];
  const said = [];
  const open = {};
  const running = inLanes(table, async ({ name }, cause) => {
    said.push(`${name} ${cause ?? ''}`);
    await new Promise((resolve) => { open[name] = resolve; });
    said.push(`${name} ended`);
    return { name, broken: name === 'c' };
  });
  const turn = () => new Promise((resolve) => { setImmediate(resolve); });
  for (const names of [['ts'], ['b', 'a'], ['c'], ['d']]) {
    await turn();
    for (const name of names) open[name]();
  }
  assert.deepEqual((await running).map(({ name }) => name), ['ts', 'a', 'b', 'c', 'd']);
  assert.deepEqual(said, ['ts ', 'ts ended', 'a ', 'b ', 'b ended', 'a ended', 'c ', 'c ended',
    'd c', 'd ended']);
});

test('ctest: passed, failed, skipped; an output cut short is not a result', () => {
  const output = '1/3 Test #1: test_a ....   Passed    0.01 sec\n' +
    '2/3 Test #2: test_b ....***Failed    0.00 sec\n' +
    '3: skipped: no model here\n3/3 Test #3: test_c ....***Skipped   0.00 sec\n\n' +
    '67% tests passed, 1 tests failed out of 3\n';
  assert.deepEqual(fromCtest(output),
    { passed: 1, failed: 1, skipped: 1, notes: ['test_c: no model here'] });
  assert.equal(fromCtest('1/3 Test #1: test_a ....   Passed    0.01 sec\n'), null);
});

test('node --test: cancelled counts as failed; a skipped test keeps its reason', () => {
  const output = '✔ a (1.2ms)\n﹣ b (0.1ms) # no model here\nℹ tests 4\nℹ suites 0\nℹ pass 1\n' +
    'ℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\nℹ duration_ms 7\n';
  assert.deepEqual(fromNodeTest(output),
    { passed: 1, failed: 2, skipped: 1, notes: ['b: no model here'] });
  assert.equal(fromNodeTest('✔ a (1.2ms)\n'), null);
});

test('the plain closing line, and sums', () => {
  const plain = fromPlain('x\n12 passed, 1 failed\n');
  assert.deepEqual(plain, { passed: 12, failed: 1, skipped: 0, notes: [] });
  assert.equal(fromPlain('12 passed, 1 failed, or so\n'), null);
  assert.deepEqual(total([plain, { passed: 1, failed: 0, skipped: 2, notes: ['a'] }]),
    { passed: 13, failed: 1, skipped: 2, notes: ['a'] });
});
