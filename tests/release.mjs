// npm run release:check: what must hold before a version is published.
//
//   node tests/release.mjs [--only NAME,… | --without NAME,…]     the steps of the table at the end
//
// The tree has to be committed, because the second build is that of a fresh clone in another
// folder. "everything" is the whole test run: its package stage has the budgets of sizes.
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Stop, main, must, root, say } from '../wasm/toolchain/shell.mjs';
import { choose } from './run.mjs';
import { stages } from './stages.mjs';

const read = (folder, file) => readFileSync(join(folder, file));
const build = (folder, ...targets) =>
  must(`building ${targets.join(' and ')}`, process.execPath,
    ['wasm/toolchain/build.mjs', ...targets], { cwd: folder });

/** Does work in a new folder outside of the checkout, and removes it. */
async function elsewhere(work) {
  const folder = mkdtempSync(join(tmpdir(), 'onekv-release-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function committed() {
  const { output } = await must('git status', 'git', ['status', '--porcelain']);
  if (output !== '') throw new Stop(`not committed:\n${output}`);
  const { version } = JSON.parse(read(root, 'package.json'));
  if (!read(root, 'CHANGELOG.md').includes(`\n## ${version}`)) {
    throw new Stop(`CHANGELOG.md has nothing about ${version}`);
  }
  return `version ${version}`;
}

/** Digests of what a build has left in dist/wasm, by file. */
function digests(folder) {
  const names = readdirSync(join(folder, 'dist/wasm')).sort();
  return Object.fromEntries(names.map((name) =>
    [name, createHash('sha256').update(read(folder, `dist/wasm/${name}`)).digest('hex')]));
}

/** Two builds from nothing, in two places. */
async function reproducible() {
  await build(root, 'clean');
  await build(root, 'wasm');
  const here = digests(root);
  const there = await elsewhere(async (folder) => {
    await must('git clone', 'git', ['clone', '--quiet', '--shared', root, folder]);
    await build(folder, 'wasm');
    return digests(folder);
  });
  const names = Object.keys(here);
  if (names.length === 0) throw new Stop('nothing was built');
  const different = names.filter((name) => here[name] !== there[name]);
  if (different.length > 0) throw new Stop(`other bytes in another folder: ${different}`);
  return names.map((name) => `${name} ${here[name]}`).join('\n   ');
}

/** The grammar module is kept built: its recipe gives the same bytes, if its compilers are the
 * ones that built it. */
async function grammar() {
  const kept = join(root, 'wasm/grammar');
  return elsewhere(async (folder) => {
    await must('the grammar module', join(kept, 'build.sh'), [join(folder, 'onekv-grammar.wasm')]);
    const [was, is] = [kept, folder].map((at) => String(read(at, 'built-with.txt')).trim());
    if (was !== is) throw new Stop(`built with\n${was}\nand now with\n${is}: build it anew`);
    const same = read(kept, 'onekv-grammar.wasm').equals(read(folder, 'onekv-grammar.wasm'));
    if (!same) throw new Stop('wasm/grammar/onekv-grammar.wasm: its recipe gives other bytes');
    return 'onekv-grammar.wasm is what its recipe builds';
  });
}

/** The table of keywords in web/docs/constraints.md, by the public suite, which PyPI's jsonschema
 * carries in its source package. */
async function schemaSuite() {
  await build(root, 'ts');
  return elsewhere(async (folder) => {
    await must('pip download', 'python3', ['-m', 'pip', 'download', '--quiet', '--no-deps',
      '--no-binary=:all:', '--dest', folder, 'jsonschema==4.26.0'], { cwd: folder });
    await must('tar', 'tar', ['xzf', 'jsonschema-4.26.0.tar.gz'], { cwd: folder });
    await must('the suite', process.execPath, ['tests/bench/schema-suite.mjs',
      join(folder, 'jsonschema-4.26.0/json/tests/draft2020-12'), '--check']);
    return 'web/docs/constraints.md says what the suite says';
  });
}

/** The tables of the README against the result files that they are made of. */
async function figures() {
  await build(root, 'ts');
  await must('the figures of README.md', process.execPath, ['tests/bench/readme.mjs', '--check']);
  return 'README.md says what the result files say';
}

async function everything() {
  await must('npm test', process.execPath, ['tests/run.mjs'], { live: true });
  return 'all stages';
}

/** The stages that npm test leaves out. */
async function slow() {
  const names = stages.filter((stage) => stage.slow).map((stage) => stage.name).join(',');
  await must(names, process.execPath, ['tests/run.mjs', '--only', names], { live: true });
  return names;
}

const packed = join(root, 'build/package');
const findTarball = () => (existsSync(packed) ? readdirSync(packed) : [])
  .find((name) => /^onekv-\d.*\.tgz$/.test(name));

/** The tarball that the package stage has packed, where no file of the checkout can help it. */
async function installed() {
  if (!findTarball()) {
    await must('the package stage', process.execPath,
      ['tests/run.mjs', '--only', 'package'], { live: true });
  }
  const tarball = findTarball();
  if (!tarball) throw new Stop(`no tarball in ${packed}`);
  return elsewhere(async (folder) => {
    writeFileSync(join(folder, 'package.json'), '{ "name": "fresh", "private": true }');
    await must('npm install', 'npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund',
      '--prefer-offline', join(packed, tarball)], { cwd: folder });
    const { output } = await must('onekv', join(folder, 'node_modules/.bin/onekv'),
      ['generate', 'stories-q-mqa', '-p', 'Once upon a time', '--max-tokens', '8', '--seed', '1'],
      { cwd: folder });
    if (!/^Once upon a time/m.test(output)) throw new Stop(`no story:\n${output}`);
    return tarball;
  });
}

async function hosts() {
  await must('npm run test:hosts', 'npm', ['run', 'test:hosts'], { live: true });
  return 'every host of web/docs/bundlers.md';
}

async function clients() {
  await must('npm run test:clients', 'npm', ['run', 'test:clients'], { live: true });
  return 'the client libraries of tests/package/clients';
}

async function memory() {
  await must('npm run test:memory', 'npm', ['run', 'test:memory'], { live: true });
  return 'memories near 4 GiB; fifty loads and unloads';
}

const steps = [
  { name: 'committed', after: [], run: committed },
  { name: 'figures', after: [], run: figures },
  { name: 'reproducible', after: [], run: reproducible },
  { name: 'grammar', after: [], run: grammar },
  { name: 'schema-suite', after: [], run: schemaSuite },
  { name: 'everything', after: [], run: everything },
  { name: 'slow', after: [], run: slow },
  { name: 'installed', after: [], run: installed },
  { name: 'hosts', after: [], run: hosts },
  { name: 'memory', after: [], run: memory },
  { name: 'clients', after: [], run: clients },
];

await main(async () => {
  const [option, names] = process.argv.slice(2);
  if (option !== undefined && (!['--only', '--without'].includes(option) || !names)) {
    throw new Stop('usage: node tests/release.mjs [--only NAME,… | --without NAME,…]');
  }
  const named = choose(steps, names?.split(',') ?? []);
  const chosen = option === '--without' ? steps.filter((step) => !named.includes(step)) : named;
  for (const { name, run } of chosen) {
    say(`== ${name}\n   ${await run()}`);
  }
});
