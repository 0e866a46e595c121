// Sees to everything that the commands need and that is not in the repository.
//
//   node wasm/toolchain/setup.mjs [NEED…]        for instance: native browsers npm
//
// Without names: all of them. Each need is probed first and nothing is done when it is met, so
// calling this is always cheap. Programs come from Debian's packages where there is root,
// JavaScript packages from the lock file, Emscripten from emcc-env. Elsewhere the message says
// what to install.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Stop, cacheFolder, has, main, must, root, run, say, withLock } from './shell.mjs';

const canInstall = () => process.getuid?.() === 0 && has('apt-get');

async function output(program, args) {
  const result = await run(program, args);
  return result.status === 0 ? result.output.trim() : '';
}

/** clang's runtime is a package of its own, named after clang's version. */
async function clangRuntime() {
  const major = /version (\d+)\./.exec(await output('clang', ['--version']))?.[1];
  return major ? `libclang-rt-${major}-dev` : undefined;
}

async function hasFuzzer() {
  const folder = await output('clang', ['-print-resource-dir']);
  return folder !== '' && existsSync(join(folder, 'lib/linux/libclang_rt.fuzzer-x86_64.a'));
}

/** WebKit's driver and its browser; their folder has the machine's name in it. */
async function hasWebKit() {
  return has('WebKitWebDriver') && has('Xvfb');
}

const included = (header) => () =>
  ['/usr/include', '/usr/local/include'].some((folder) => existsSync(join(folder, header)));

// What to probe, and the Debian packages that provide it.
const programs = {
  native: [
    { met: () => has('cc') && included('stdio.h')(), packages: ['gcc', 'libc6-dev'] },
    { met: () => has('cmake'), packages: ['cmake'] },
    { met: () => has('ninja'), packages: ['ninja-build'] },
    { met: included('simde/wasm/simd128.h'), packages: ['libsimde-dev'] },
  ],
  fuzz: [
    { met: () => has('clang'), packages: ['clang'] },
    { met: hasFuzzer, packages: clangRuntime },
  ],
  // Of the ways to the community model, the one that is open where a model hub is not.
  pip: [{ met: async () => (await run('python3', ['-m', 'pip', '--version'])).status === 0,
    packages: ['python3', 'python3-pip'] }],
  valgrind: [{ met: () => has('valgrind'), packages: ['valgrind'] }],
  browsers: [
    { met: () => has('chromium'), packages: ['chromium'] },
    { met: () => has('firefox-esr'), packages: ['firefox-esr'] },
    { met: hasWebKit, packages: ['webkit2gtk-driver', 'xvfb'] },
  ],
};

let listsUpdated = false;

async function aptInstall(packages) {
  const options = { env: { DEBIAN_FRONTEND: 'noninteractive' } };
  await withLock(join(cacheFolder, 'apt.lock'), async () => {
    if (!listsUpdated) await must('apt-get update', 'apt-get', ['update', '-qq'], options);
    listsUpdated = true;
    const what = `installing ${packages.join(' ')}`;
    say(`set-up: ${what}`);
    await must(what, 'apt-get', ['install', '-y', '-qq', '--no-install-recommends', '-o',
      'DPkg::Lock::Timeout=600', ...packages], { ...options, moving: `set-up: ${what}` });
  });
}

async function missing(probes) {
  const names = [];
  for (const { met, packages } of probes) {
    if (await met()) continue;
    names.push(...[typeof packages === 'function' ? await packages() : packages].flat());
  }
  return names;
}

async function needPrograms(name) {
  // Twice: what a later probe needs may depend on what an earlier one brought (clang's version).
  for (let round = 0; round < 2; round += 1) {
    const packages = (await missing(programs[name])).filter(Boolean);
    if (packages.length === 0) return;
    if (!canInstall()) {
      throw new Stop(`${name} needs programs that are not here; as root on Debian: ` +
        `apt-get install ${packages.join(' ')}`);
    }
    await aptInstall(packages);
  }
  const still = await missing(programs[name]);
  if (still.length > 0) throw new Stop(`installed, but still not usable: ${still.join(' ')}`);
}

/** Whether node_modules holds what the lock names. Optional ones may be another machine's. */
function packagesInstalled(folder) {
  const read = (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')).packages;
  try {
    const present = read('node_modules/.package-lock.json');
    return Object.entries(read('package-lock.json')).every(([path, { version, optional }]) =>
      path === '' || optional || present[path]?.version === version);
  } catch {
    return false;
  }
}

async function needNpm(folder = root) {
  if (packagesInstalled(folder)) return;
  await withLock(join(root, 'build/npm.lock'), async () => {
    if (packagesInstalled(folder)) return;
    say('set-up: installing npm packages');
    // The Node binary for tests exists for one platform; elsewhere npm would refuse the whole lock.
    const force = process.platform === 'linux' && process.arch === 'x64' ? [] : ['--force'];
    await must('npm ci', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', ...force],
      { cwd: folder, moving: 'set-up: installing npm packages' });
  });
}

async function needToolchain() {
  const wrapper = join(root, 'wasm/toolchain/emcc-env');
  await must('the Emscripten set-up', wrapper, ['--prepare'], { live: true });
  // Inside the private copy everything is there; an emcc from PATH needs these beside it.
  const where = await output(wrapper, ['--where']);
  if (where.endsWith('/emcc')) await needPrograms('native');
}

/** A published model of the tests. Where it cannot be had they are skipped, and say so. */
async function needModel(name) {
  const fetch = () => run(process.execPath, [join(root, 'models/fetch/fetch.mjs'), name]);
  let { status, output: said } = await fetch();
  if (status === 3 && canInstall() && (await missing(programs.pip)).length > 0) {
    // Without it the tests are skipped for the first reason; all others still run.
    await needPrograms('pip').catch((error) => say(error.message));
    ({ status, output: said } = await fetch());
  }
  if (status === 3) say(said.trim());
  else if (status !== 0) throw new Stop(said.trim());
}

async function needModels() {
  for (const name of ['smollm2-135m-instruct', 'gemma-3-270m']) await needModel(name);
}

/** Bundlers, checkers and typedoc: for the package as others use it. */
const needPackageTools = () => needNpm(join(root, 'tests/package/tools'));

const others = { npm: () => needNpm(), 'package-tools': needPackageTools,
  toolchain: needToolchain, models: needModels };

/** Names of all needs. */
export const needs = [...Object.keys(programs), ...Object.keys(others)];

/** Sees to the named needs, in order; throws a Stop that says what is missing. */
export async function need(...names) {
  for (const name of names) await (others[name] ?? (() => needPrograms(name)))();
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const wanted = process.argv.slice(2);
    const unknown = wanted.filter((name) => !needs.includes(name));
    if (unknown.length > 0) throw new Stop(`no such need: ${unknown}; there are ${needs}`);
    await need(...(wanted.length > 0 ? wanted : needs));
    say('set-up: everything is there');
  });
}
