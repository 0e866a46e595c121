// What the pages tell a reader to run is there: scripts, modules, presets, commands with their
// options; and so are the files that they name.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from './support.mjs';

const pages = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' })
  .split('\n').filter((path) => path !== '' && !path.startsWith('models/cards/'));
const text = pages.map((path) => readFileSync(join(root, path), 'utf8')
  // A command may be broken by a line's end, also in a comment of a program.
  .replace(/\\\n\s*/g, ' ')).join('\n');

/** What follows these words, each once. */
function named(pattern) {
  const found = [...new Set([...text.matchAll(pattern)].map(([, name]) => name))];
  assert.ok(found.length > 0, String(pattern));
  return found;
}

test('npm run …: scripts of package.json', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const unknown = named(/npm run ([a-z][a-z:-]*)/g).filter((name) => !(name in scripts));
  assert.deepEqual(unknown, []);
});

test('node FILE.mjs: programs without errors of syntax', () => {
  const files = named(/\bnode ((?:models|tests|wasm|web)\/[\w/.-]+\.mjs)/g);
  for (const file of files) {
    const { status, stderr } = spawnSync(process.execPath, ['--check', join(root, file)],
      { encoding: 'utf8' });
    assert.equal(status, 0, `${file}: ${stderr}`);
  }
});

test('python -m MODULE: modules that Python can read', {
  skip: spawnSync('python3', ['--version']).status === 0 ? false : 'no python3',
}, () => {
  const files = named(/python3? -m ((?:models|tests)(?:\.\w+)+)/g)
    .map((name) => `${name.replaceAll('.', '/')}.py`);
  assert.deepEqual(files.filter((file) => !existsSync(join(root, file))), []);
  const program = 'import ast, sys\nfor f in sys.argv[1:]: ast.parse(open(f).read(), f)';
  execFileSync('python3', ['-c', program, ...files], { cwd: root });
});

test('cmake --preset, ctest --preset: presets of CMakePresets.json', () => {
  const presets = JSON.parse(readFileSync(join(root, 'CMakePresets.json'), 'utf8'));
  const names = presets.configurePresets.map(({ name }) => name);
  assert.deepEqual(named(/--preset ([a-z0-9-]+)/g).filter((name) => !names.includes(name)), []);
});

test('onekv COMMAND --OPTION: commands of the program, and their options', () => {
  const wrong = [];
  const helps = new Map();
  for (const [, name, rest] of text.matchAll(/(?:npx |`)onekv ([a-z]+)([^`\n|#]*)/g)) {
    if (!helps.has(name)) {
      const { status, stdout } = spawnSync(process.execPath,
        [join(root, 'dist/cli/onekv.js'), name, '--help'], { encoding: 'utf8' });
      if (status !== 0) wrong.push(name);
      helps.set(name, stdout);
    }
    for (const [option] of rest.matchAll(/--[a-z][a-z0-9-]*/g)) {
      if (!new RegExp(`${option}\\b(?!-)`).test(helps.get(name))) wrong.push(`${name} ${option}`);
    }
  }
  assert.ok(helps.size >= 5, [...helps.keys()].join());
  assert.deepEqual(wrong, []);
});

test('what npx starts is the program, or says that it has to be built', (t) => {
  const bin = 'web/cli/bin.mjs';
  const run = (folder) => spawnSync(process.execPath, [join(folder, bin), '--version'],
    { encoding: 'utf8' });
  const { version, bin: named } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  assert.equal(named.onekv, bin);
  assert.equal(run(root).stdout, `${version}\n`);
  const folder = mkdtempSync(join(tmpdir(), 'onekv-unbuilt-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(join(root, bin), join(folder, bin));
  const { status, stderr } = run(folder);
  assert.deepEqual([status, stderr],
    [1, 'onekv: this checkout has not been built yet: npm run build\n']);
});

test('the walk through a new architecture shows lines of the sources', () => {
  const page = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  const walk = page.slice(page.indexOf('## Add an architecture'),
    page.indexOf('## Before a change'));
  const plain = (line) => line.replace(/\s+/g, ' ').replace(/^[+{ ]+|[},;]+ *$/g, '');
  const sources = ['architectures.c', 'architectures.h', 'tensors.c']
    .map((file) => readFileSync(join(root, 'core/net', file), 'utf8')).join('\n').split('\n')
    .map(plain);
  const shown = [...walk.matchAll(/```(?:c|diff)\n([^]*?)```/g)]
    .flatMap(([, block]) => block.trimEnd().split('\n').map(plain));
  assert.ok(shown.length > 15, `${shown.length} lines`);
  assert.deepEqual(shown.filter((line) => !sources.includes(line)), []);
});

test('files that pages name in code are there', () => {
  const missing = [];
  for (const page of pages) {
    const words = readFileSync(join(root, page), 'utf8')
      .matchAll(/`((?:core|web|wasm|tests|models)\/[\w/.-]+\.(?:c|h|ts|mjs|js|py|md|json|txt))`/g);
    for (const [, path] of words) {
      if (!existsSync(join(root, path))) missing.push(`${page}: ${path}`);
    }
  }
  assert.deepEqual(missing, []);
});
