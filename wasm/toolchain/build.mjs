// Builds what is asked for, and only what has changed:
//
//   node wasm/toolchain/build.mjs [wasm] [ts] [native] [docs] [pack] [clean]     (default: wasm ts)
//
// wasm    build/wasm-*/onekv-{simd128,relaxed}.{mjs,wasm}, copied to dist/wasm/, and the grammar
//         module, which is kept built (wasm/grammar/build.sh)
// ts      web/src and web/cli to dist/src and dist/cli, and the worker in one file
// docs    the reference of the package's interface, from its comments, in build/docs/
// pack    the packages as they are published, in build/npm/ (pack.mjs)
// native  the test programs with sanitizers and with optimisation, in build/native-*/
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync,
  rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Stop, main, must, root, run, say, withLock } from './shell.mjs';
import { bundleWorker } from './bundle.mjs';
import { need } from './setup.mjs';
import { stagePackages } from './pack.mjs';

const wrapper = join(root, 'wasm/toolchain/emcc-env');
const levels = ['simd128', 'relaxed'];

/** Runs a build step under the preset's lock; says its seconds when it did something. */
async function step(what, program, args, moving = what) {
  const { seconds, output } = await must(what, program, args, { moving: `build: ${moving}` });
  if (!/no work to do/.test(output)) say(`build: ${what} (${seconds.toFixed(1)} s)`);
}

/** What is said before a preset is compiled anew; part is its place among those that are built. */
export const compiling = (preset, [at, of] = [1, 1]) => `build: compiling ${preset}` +
  `${of > 1 ? `, ${at} of ${of}` : ''}, which takes minutes …`;

/** Configures the preset when it was not, or was with another compiler, and builds the target. */
export async function buildPreset(preset, target = 'all', part = undefined) {
  const wasm = preset.startsWith('wasm-');
  await need(wasm ? 'toolchain' : preset === 'native-fuzz' ? 'fuzz' : 'native');
  if (preset === 'native-fuzz') await need('native');
  const folder = join(root, 'build', preset);
  await withLock(`${folder}.lock`, async () => {
    const stamp = join(folder, 'configured-with');
    const compiler = wasm ? (await run(wrapper, ['--where'])).output : `${preset}\n`;
    const same = existsSync(stamp) && readFileSync(stamp, 'utf8') === compiler;
    if (!same) {
      rmSync(folder, { recursive: true, force: true });
      await step(`configuring ${preset}`, ...command(wasm, ['cmake', '--preset', preset], true));
      writeFileSync(stamp, compiler);
    }
    if (!same) say(compiling(preset, part));
    await step(`${preset}`, ...command(wasm,
      ['cmake', '--build', '--preset', preset, '--target', target]), `compiling ${preset}`);
  });
}

function command(wasm, [program, ...args], configure = false) {
  if (!wasm) return [program, args];
  return [wrapper, [...(configure ? ['emcmake'] : []), program, ...args]];
}

/** Copies when the target is older; keeps a running server's files stable. */
function copyNewer(from, to, copy = copyFileSync) {
  const target = statSync(to, { throwIfNoEntry: false });
  if (!target || target.mtimeMs < statSync(from).mtimeMs) copy(from, to);
}

/**
 * The module's script is that of its threads too. Emscripten finds it by its name, which a bundler
 * may have changed; it is found by its own address instead.
 */
function copyScript(from, to) {
  const script = readFileSync(from, 'utf8');
  const byName = /new URL\("[^"]+\.mjs",\s*import\.meta\.url\)/;
  const own = script.replace(byName, 'new URL(import.meta.url)');
  if (own === script) throw new Stop(`${from}: no worker is started there as expected`);
  writeFileSync(to, own);
}

export async function buildWasm() {
  const sources = readdirSync(join(root, 'wasm')).filter((name) => name.endsWith('.c'));
  if (sources.length === 0) return say('build: wasm: no sources yet');
  mkdirSync(join(root, 'dist/wasm'), { recursive: true });
  for (const [i, level] of levels.entries()) {
    await buildPreset(`wasm-${level}`, 'onekv_wasm', [i + 1, levels.length]);
    const built = join(root, `build/wasm-${level}/onekv-${level}`);
    const target = join(root, `dist/wasm/onekv-${level}`);
    copyNewer(`${built}.wasm`, `${target}.wasm`);
    copyNewer(`${built}.mjs`, `${target}.mjs`, copyScript);
  }
  const grammar = 'onekv-grammar.wasm';
  copyNewer(join(root, 'wasm/grammar', grammar), join(root, 'dist/wasm', grammar));
}

export async function buildTypeScript() {
  await need('npm');
  const sources = ['web/src', 'web/cli'].flatMap((folder) =>
    existsSync(join(root, folder)) ? readdirSync(join(root, folder), { recursive: true }) : []);
  if (!sources.some((name) => name.endsWith('.ts'))) return say('build: ts: no sources yet');
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  await withLock(join(root, 'build/ts.lock'), async () => {
    // What an earlier run emitted may have been removed by hand; the build record would not know.
    if (!existsSync(join(root, 'dist/src'))) {
      rmSync(join(root, 'build/tsc.tsbuildinfo'), { force: true });
    }
    const { seconds } = await must('tsc', process.execPath, [compiler, '--project', root],
      { moving: 'build: ts' });
    say(`build: ts (${seconds.toFixed(1)} s)`);
    await bundleWorker();
    const bin = join(root, 'dist/cli/onekv.js');
    if (existsSync(bin)) chmodSync(bin, 0o755);
  });
}

async function buildNative() {
  const presets = ['native-asan', 'native-release'];
  for (const [i, preset] of presets.entries()) {
    await buildPreset(preset, 'all', [i + 1, presets.length]);
  }
}

export async function buildDocs() {
  await need('package-tools');
  const typedoc = join(root, 'tests/package/tools/node_modules/.bin/typedoc');
  await step('docs', typedoc, ['--options', 'web/docs/typedoc.json']);
  say('build: docs are in build/docs/index.html');
}

async function buildPackages() {
  for (const [name, folder] of Object.entries(await stagePackages())) {
    const { output } = await must('npm pack', 'npm', ['pack', '--json', '--pack-destination',
      join(root, 'build/npm')], { cwd: folder });
    const [{ filename, size, entryCount }] = JSON.parse(output.slice(output.indexOf('[')));
    say(`build: ${name}: ${(size / 1e6).toFixed(1)} MB, ${entryCount} files in ` +
      `build/npm/${filename}`);
  }
}

function clean() {
  for (const name of ['build', 'dist']) rmSync(join(root, name), { recursive: true, force: true });
}

const targets = {
  wasm: buildWasm, ts: buildTypeScript, native: buildNative, docs: buildDocs,
  pack: buildPackages, clean,
};

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const wanted = process.argv.length > 2 ? process.argv.slice(2) : ['wasm', 'ts'];
    const unknown = wanted.filter((name) => !(name in targets));
    if (unknown.length > 0) throw new Stop(`no such target: ${unknown}; ${Object.keys(targets)}`);
    for (const name of wanted) await targets[name]();
  });
}
