// The shape of the package: the map in web/README.md is complete and true, what pages load needs
// no Node, and the entries give what they promise.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { posix } from 'node:path';
import { test } from 'node:test';
import * as browserEntry from '../../dist/src/engine-entry.js';
import * as nodeEntry from '../../dist/src/engine-entry-node.js';
import { root } from './support.mjs';

const folder = `${root}web/src/`;
const files = readdirSync(folder, { recursive: true }).filter((file) => /(?<!\.d)\.ts$/.test(file))
  .map((file) => file.replace(/\.ts$/, ''));
const textOf = (file) => readFileSync(`${folder}${file}.ts`, 'utf8');
const map = readFileSync(`${root}web/README.md`, 'utf8');
const order = [...map.matchAll(/^\| (`[^|]+`) \|/gm)]
  .flatMap(([, cell]) => [...cell.matchAll(/`([a-z0-9/-]+)`/g)].map(([, name]) => name));

test('the map names every file, and files import only what stands above them', () => {
  assert.deepEqual([...order].sort(), [...files].sort());
  for (const file of files) {
    const imports = /^import (?!type)[^;]* from '(\.[^']+)\.js'/gm;
    for (const [, path] of textOf(file).matchAll(imports)) {
      const other = posix.join(posix.dirname(file), path);
      assert.ok(order.indexOf(other) < order.indexOf(file), `${file} imports ${other}`);
    }
  }
});

test('only files of Node import what pages do not have', () => {
  const withNode = files.filter((file) => /from 'node:|import\('node:/.test(textOf(file)));
  assert.deepEqual(withNode.filter((file) => !/(^|-)node$/.test(file)), []);
});

test('both entries have the same names; by its own name the package gives Node\'s', () => {
  const extra = Object.keys(nodeEntry).filter((name) => !(name in browserEntry));
  assert.deepEqual(extra, ['openFile']);
  assert.deepEqual(Object.keys(browserEntry).filter((name) => !(name in nodeEntry)), []);
  const found = execFileSync(process.execPath, ['--input-type=module', '-e',
    "import * as onekv from 'onekv/engine'; process.stdout.write(String('openFile' in onekv));"],
  { cwd: root, encoding: 'utf8' });
  assert.equal(found, 'true');
});

test('a program that leaves its engine open ends by itself', () => {
  execFileSync(process.execPath, ['--input-type=module', '-e',
    "import { Engine } from 'onekv/engine'; await Engine.open({ threads: 2 });"],
  { cwd: root, timeout: 60_000 });
});
