// The shape of the package: the table of rooms in web/README.md is complete and true, what pages
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
const map = readFileSync(`${root}web/README.md`, 'utf8');
const named = (cell) => [...cell.matchAll(/`([a-z-]+)`/g)].map(([, name]) => name);
const rooms = new Map([...map.matchAll(/^\| `([a-z]+)` \| ([^|]+) \|/gm)]
  .map(([, room, allowed]) => [room, named(allowed)]));
const roomOf = (file) => (file.includes('/') ? file.split('/')[0] : undefined);
/** Files on top of all rooms that rooms import, and which rooms do. */
const addresses = {
  'worker-file': ['page', 'worker'], 'wasm-files': ['engine'],
  'engine-entry-node': ['worker'], // Node's worker opens paths
};

/** What breaks the table of rooms: a file, and what it imports. */
function strangers(file, text) {
  const room = roomOf(file);
  if (room === undefined) return [];
  const imports = /^(?:import|export) (?!type)[^;]*? from '(\.[^']+)\.js'/gm;
  return [...text.matchAll(imports)]
    .map(([, path]) => posix.join(posix.dirname(file), path))
    .filter((other) => (roomOf(other) === undefined ? !addresses[other]?.includes(room)
      : roomOf(other) !== room && !rooms.get(room).includes(roomOf(other))))
    .map((other) => `${file} imports ${other}`);
}

test('the table names every room, and files import only from the rooms that it allows', () => {
  const there = [...new Set(files.map(roomOf))].filter(Boolean);
  assert.deepEqual([...rooms.keys()].sort(), there.sort());
  assert.deepEqual(files.flatMap((file) => strangers(file, textOf(file))), []);
  const upwards = "import { a } from '../worker/server.js';\n";
  assert.deepEqual(strangers('api/model', upwards), ['api/model imports worker/server']);
});

test('rooms stand in order: none imports from one below itself in the table', () => {
  const order = [...rooms.keys()];
  for (const [room, allowed] of rooms) {
    for (const other of allowed) assert.ok(order.indexOf(other) < order.indexOf(room), room);
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
