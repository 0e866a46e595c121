// The shape of the package: rooms import only what the table in web/README.md lets them, what pages
// load needs no Node, and the entries give what they promise.
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
const readme = readFileSync(`${root}web/README.md`, 'utf8');

/** The table of rooms: { room: [what it may import] }. */
const rooms = Object.fromEntries([...readme.matchAll(/^\| `([a-z]+)\/` \|[^|]*\| ([^|]*) \|$/gm)]
  .map(([, room, others]) => [room, [...others.matchAll(/`([a-z-]+)`/g)].map(([, name]) => name)]));
/** Files of the top level: entries, which may import anything, and addresses. */
const entries = ['onekv', 'onekv-node', 'engine-entry', 'engine-entry-node'];
const addresses = ['worker-file', 'wasm-files'];

/** Paths that a file names, in imports and re-exports, of types too: './x', '../room/y'. */
function importsOf(text) {
  const code = text.replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '');
  return [...code.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)'(\.[^']+)'/g)].map(([, path]) => path);
}

const roomOf = (file) => (file.includes('/') ? file.split('/')[0] : file);

test('every file is in a room of the table, or is an entry or an address', () => {
  assert.deepEqual([...new Set(files.map(roomOf))].sort(),
    [...Object.keys(rooms), ...entries, ...addresses].sort());
});

test('imports are found in each form', () => {
  const text = "import a from './a.js';\nimport type {\n  b,\n} from '../b/b.js';\n" +
    "export type * from './c.js';\nexport { d }\n  from './d.js';\nimport './e.js';\n" +
    "const f = await import('./f.js');\ntype G = typeof import('./g.js').x;\n" +
    "// import './not.js';\nimport fs from 'node:fs';\n";
  assert.deepEqual(importsOf(text),
    ['./a.js', '../b/b.js', './c.js', './d.js', './e.js', './f.js', './g.js']);
});

test('rooms import only what their line of the table has', () => {
  const wrong = [];
  for (const file of files.filter((name) => name.includes('/'))) {
    for (const path of importsOf(textOf(file))) {
      const other = posix.join(posix.dirname(file), path).replace(/\.js$/, '');
      const from = roomOf(file);
      if (roomOf(other) !== from && !rooms[from].includes(roomOf(other))) {
        wrong.push(`${file} imports ${other}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('addresses import from api and util at most', () => {
  for (const file of addresses) {
    const others = importsOf(textOf(file)).filter((path) => !/^\.\/(api|util)\//.test(path));
    assert.deepEqual(others, []);
  }
});

test('rooms make no circle', () => {
  const open = [];
  const visit = (room) => {
    assert.ok(!open.includes(room), `${open.join(' → ')} → ${room}`);
    open.push(room);
    for (const other of rooms[room] ?? []) visit(other);
    open.pop();
  };
  Object.keys(rooms).forEach(visit);
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
