// What is in the tarballs: files, links of their pages, fields of package.json, bytes; and that the
// second one, installed beside the first, gives the command line the other models.
import assert from 'node:assert/strict';
import { cpSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { before, test } from 'node:test';
import { withLinks } from '../../wasm/toolchain/pack.mjs';
import { run } from '../../wasm/toolchain/shell.mjs';
import { packAndInstall } from './projects.mjs';

const limit = { timeout: 300_000 };

let packed;
before(async () => {
  packed = await packAndInstall();
}, limit);

const installed = (file) => join(packed.project, 'node_modules/onekv', file);

test('the tarball has what is used, and nothing else', limit, () => {
  const folders = new Set(packed.files.map((file) => file.split('/').slice(0, 2).join('/')));
  for (const folder of ['dist/src', 'dist/cli', 'dist/wasm']) assert.ok(folders.has(folder));
  // npm adds the README of every folder that something is taken from.
  const expectedFiles = [/^dist\/(src|cli|wasm)\//,
    /^models\/(stories-q-mqa\.q8_0\.gguf|cards\/(stories-q-mqa\.md|picture-books\.tsv))$/,
    /^web\/demo\/screenshots\/run-desktop-light\.webp$/,
    /^web\/docs\/[a-z-]+\.md$/, /^web\/examples\/[a-z./-]+$/,
    /^web\/cli\/(bin\.mjs|bench\/schema\.json)$/, /(^|\/)README\.md$/, /^(package\.json|LICENSE)$/,
    /^(CHANGELOG|THIRD_PARTY_NOTICES)\.md$/, /^licenses\/[A-Za-z0-9.-]+\.txt$/];
  const strange = packed.files.filter((file) =>
    !expectedFiles.some((pattern) => pattern.test(file)));
  assert.deepEqual(strange, []);
  // A model comes with its card, in either package.
  for (const files of [packed.files, packed.others.files]) {
    const models = files.filter((file) => file.endsWith('.gguf'));
    assert.ok(models.length > 0);
    for (const model of models) {
      const card = model.replace(/([^/]+?)(\.\w+)?\.gguf$/, 'cards/$1.md');
      assert.ok(files.includes(card), card);
    }
  }
});

/** Links of a package's pages, and those that lead out of it. */
function linksOf(files, read) {
  const pages = files.filter((file) => file.endsWith('.md'));
  return pages.flatMap((page) => [...read(page).matchAll(/\]\(([^)\s#:]+)(?:#[^)]*)?\)/g)]
    .map(([, target]) => {
      const path = posix.join(posix.dirname(page), target).replace(/\/$/, '');
      const isThere = files.some((file) => file === path || file.startsWith(`${path}/`));
      return { page, path, isThere };
    }));
}

test('links of the pages lead to what is in the tarball; sizes of both tarballs', limit, (t) => {
  const links = linksOf(packed.files, (file) => readFileSync(installed(file), 'utf8'));
  assert.ok(links.length > 30);
  assert.ok(links.some(({ page, path }) => page === 'README.md' && path.endsWith('.webp')));
  assert.deepEqual(links.filter(({ isThere }) => !isThere), []);
  t.diagnostic(`onekv: ${packed.bytes} bytes; onekv-models: ${packed.others.bytes} bytes`);
  assert.ok(packed.bytes < 7e6);
  assert.ok(packed.others.bytes < 8.5e6);
});

test('package.json: what a registry shows, and nothing that only a checkout can do', limit, () => {
  const own = JSON.parse(readFileSync(installed('package.json'), 'utf8'));
  for (const name of ['description', 'license', 'author', 'keywords', 'engines', 'bin']) {
    assert.ok(own[name], name);
  }
  assert.equal(own.scripts, undefined);
  assert.equal(own.devDependencies, undefined);
  const text = '[a](b.md) ![c](d/e.webp#f) [g](there.md)';
  // Without an address the reader is told which file is meant, and where it is.
  const [told, note] = withLinks(`${text} ([h](i.md)) [b.md](b.md)`, 'README.md', ['there.md'])
    .split('\n\n');
  assert.equal(told, 'a (`b.md`) c [g](there.md) (h, `i.md`) `b.md`');
  assert.match(note, /in the repository/);
  assert.equal(withLinks('[g](there.md)', 'README.md', ['there.md']), '[g](there.md)');
  assert.equal(withLinks(text, 'x/y.md', ['x/there.md'], 'models', 'https://host/a/b'),
    '[a](https://host/a/b/blob/main/models/x/b.md) ' +
    '![c](https://host/a/b/raw/main/models/x/d/e.webp#f) [g](there.md)');
  // The README's first command can be typed where the repository has an address.
  assert.equal(withLinks('git clone … && cd onekv', 'README.md', [], '', 'https://host/a/onekv'),
    'git clone https://host/a/onekv && cd onekv');
});

test('onekv-models: the command line says that it has the others, and finds them there', limit,
  async () => {
    const { files, tarball } = packed.others;
    assert.deepEqual(files.filter((file) => file.endsWith('.gguf')).sort(),
      ['digits-keqv.f16.gguf', 'digits-qkv.f16.gguf', 'stories-qkv.q8_0.gguf', 'table-q-kv.gguf',
        'table-qk-v.gguf']);
    const project = join(packed.project, '../with-models');
    cpSync(packed.project, project, { recursive: true, verbatimSymlinks: true });
    const write = () => run(process.execPath, ['node_modules/onekv/dist/cli/onekv.js', 'generate',
      'stories-qkv', '-p', 'Once upon a time', '--max-tokens', '4'], { cwd: project });
    const before = await write();
    assert.notEqual(before.status, 0);
    assert.match(before.output, /npm install onekv-models/);
    const { status, output } = await run('npm', ['install', '--ignore-scripts', '--no-audit',
      '--no-fund', '--prefer-offline', tarball], { cwd: project });
    assert.equal(status, 0, output);
    const after = await write();
    assert.equal(after.status, 0, after.output);
    assert.match(after.output, /^Once upon a time/m);
    const read = (file) => readFileSync(join(project, 'node_modules/onekv-models', file), 'utf8');
    assert.match(read('README.md'), /^# onekv-models/);
    assert.deepEqual(linksOf(files, read).filter(({ isThere }) => !isThere), []);
  });
