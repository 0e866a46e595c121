// THIRD_PARTY_NOTICES.md names what is carried along: every dependency that users install, every
// package that the build bundles and every one that the demo page imports, as the lock has them.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { root } from '../../wasm/toolchain/shell.mjs';

const read = (file) => readFileSync(`${root}${file}`, 'utf8');
const notices = read('THIRD_PARTY_NOTICES.md');
const lock = JSON.parse(read('package-lock.json')).packages;

/** Rows of a section's table: name → [version, licence]. */
function rowsOf(heading) {
  const [, section] = notices.split(`## ${heading}\n`);
  const lines = section.split('\n## ')[0].split('\n').filter((line) => /^\| [@a-z]/.test(line));
  return new Map(lines.map((line) => line.split('|').map((cell) => cell.trim()).slice(1, 4))
    .filter(([name]) => name !== 'package').map(([name, ...rest]) => [name, rest]));
}

function checkAgainstLock(rows) {
  for (const [name, [version, licence]] of rows) {
    const locked = lock[`node_modules/${name}`];
    assert.deepEqual([version, licence], [locked?.version, locked?.license], name);
  }
}

test('the package: what users install and what is bundled', () => {
  const installed = Object.entries(lock)
    .filter(([path, { dev, devOptional, optional }]) => path && !dev && !devOptional && !optional)
    .map(([path]) => path.replace(/^.*node_modules\//, ''));
  const bundle = read('wasm/toolchain/bundle.mjs');
  const [, list] = /const carried = \[([^\]]*)\]/.exec(bundle);
  const carried = [...list.matchAll(/'([^']+)'/g)].map(([, name]) => name);
  const rows = rowsOf('In the npm package');
  const expected = new Set([...installed, ...carried]);
  assert.deepEqual([...rows.keys()].sort(), [...expected].sort());
  checkAgainstLock(rows);
});

test('the demo page: what its sources import', () => {
  const files = ['web/demo/src', 'web/demo/style'].flatMap((folder) =>
    readdirSync(`${root}${folder}`).map((name) => `${folder}/${name}`))
    .filter((file) => statSync(`${root}${file}`).isFile());
  const imports = files.flatMap((file) => [...read(file).matchAll(
    /^(?:import (?!type)[^;]*from |@import |.*\burl\()'((?:@[^/']+\/)?[a-z][^/']*)/gm)])
    .map(([, name]) => name).filter((name) => !/^(onekv|virtual:)/.test(name));
  const rows = rowsOf('In the demo page');
  assert.deepEqual([...rows.keys()].sort(), [...new Set(imports)].sort());
  checkAgainstLock(rows);
});

test('the grammar module: crates of the versions that are locked', () => {
  const crates = new Map([...read('wasm/grammar/locked.toml').matchAll(
    /name = "([^"]+)"\nversion = "([^"]+)"/g)].map(([, name, version]) => [name, version]));
  const rows = rowsOf('In the grammar module');
  rows.delete('crate');
  assert.ok(rows.size > 15 && rows.has('llguidance'));
  for (const [name, [version]] of rows) assert.equal(crates.get(name), version, name);
});

test('the texts of the licences that rows name are there', () => {
  for (const name of ['Apache-2.0', 'OFL-1.1']) {
    assert.match(notices, new RegExp(`\\(licenses/${name}\\.txt\\)`));
    assert.ok(read(`licenses/${name}.txt`).length > 3000);
  }
  assert.match(read('licenses/Apache-2.0.txt'), /Apache License\s+Version 2\.0/);
  assert.match(read('licenses/OFL-1.1.txt'), /SIL OPEN FONT LICENSE Version 1\.1/);
});
