// models/FORMAT.md against what core reads: architectures, keys, tensors and their shapes.
//
// The tables of the page are compared with the rows of core's source, which are data: a row that
// is new, gone or of another shape has to be written down in both.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path) => readFileSync(join(root, path), 'utf8');
const page = read('models/FORMAT.md');

/** Cells of the rows of the first table behind a line. */
function tableBehind(line) {
  const rest = page.slice(page.indexOf(line) + line.length);
  const [table] = /(^\|.*\n)+/m.exec(rest);
  return table.trim().split('\n').slice(2).map((row) =>
    row.slice(1, -1).split('|').map((cell) => cell.trim()));
}

const quoted = (text) => [...text.matchAll(/`([^`\n]+)`/g)].map(([, name]) => name);

/** Names in backquotes; one that begins with a dot takes the beginning of the one before. */
function names(text) {
  let last = '';
  return quoted(text).map((name) => {
    const kept = last.split('.').slice(0, -name.split('.').length + 1).join('.');
    if (/^\.\w/.test(name)) return kept + name;
    last = name;
    return name;
  });
}

test('architectures: a row each, with norm, rotation and mask', () => {
  const rows = read('core/net/architectures.c').split('{.name = ').slice(1);
  const documented = tableBehind('`{arch}` is the value of `general.architecture`.');
  const core = rows.map((row) => /^"([^"]+)"/.exec(row)[1]);
  assert.ok(core.length >= 7);
  assert.deepEqual(documented.map(([name]) => quoted(name)[0]).sort(), [...core].sort());
  for (const [name, norm, positions, , mask] of documented) {
    const row = rows[core.indexOf(quoted(name)[0])];
    assert.equal(row.includes('ONEKV_RMS_NORM'), norm.startsWith('RMSNorm'), `${name}: norm`);
    assert.equal(row.includes('.causal = true'), mask.startsWith('causal'), `${name}: mask`);
    if (!row.includes('ONEKV_ROPE')) continue;
    assert.match(positions, /RoPE/, name);
    assert.equal(row.includes('.rope_halves = true'), positions.includes('half split'),
      `${name}: pairs`);
  }
});

test('keys: what core reads is documented, and nothing else', () => {
  const sources = readdirSync(join(root, 'core/net')).filter((name) => /^config.*\.c$/.test(name))
    .map((name) => read(`core/net/${name}`)).join('\n');
  const found = new Set([
    ...[...sources.matchAll(/\(reader, "([a-z_.0-9]+)"/g)].map(([, key]) => key),
    ...[...sources.matchAll(/"((?:onekv|attention|rope)\.[a-z_.0-9]+)"/g)].map(([, key]) => key),
  ]);
  assert.ok(found.size >= 25, `${found.size} keys`);
  const bare = (name) => name.replace('{arch}.', '');
  const all = new Set(names(page).map(bare));
  assert.deepEqual([...found].filter((key) => !all.has(key)), [], 'not in models/FORMAT.md');
  const engine = readdirSync(join(root, 'web/src/engine')).map((name) =>
    read(`web/src/engine/${name}`)).join('\n');
  const documented = tableBehind('A `{arch}` key for which no default is named is required.')
    .flatMap(([key]) => names(key).map(bare));
  const isRead = (key) => found.has(key) || engine.includes(`'${key}'`) ||
    (key.startsWith('onekv.image.') && engine.includes('onekv.image.'));
  assert.deepEqual(documented.filter((key) => !isRead(key)), [], 'nobody reads these keys');
});

/** How the page writes an extent of core/net/tensors.h. */
const extents = {
  D: ['d'], QUERIES: ['H·h', 'H·(n+r)'], KEYS: ['g·h', 'R+r'], VALUES: ['g·h'],
  HEADS: ['H·h', 'H·v'], MLP: ['I'], CONTEXT: ['P'], VOCABULARY: ['V'],
  FEATURES: ['F'], OUTPUTS: ['V or C'], PAIRS: ['rotated/2'], ONE: ['1'],
  QUERY_NORM: ['h'], KEY_NORM: ['h'],
  RANK: ['R'], QUERY_RANK: ['q'], PLAIN: ['n'], LATENT_KEYS: ['H·R'], LATENT_ALL: ['H·(n+v)'],
  TYPES: ['types'], PER_LAYER: ['p'], ALL_LAYERS: ['L·p'], CONVOLUTION: ['3·d'], TAPS: ['J'],
};

function slots() {
  const row = /\{"([a-z_.]+)", FIELD\(\w+\),\s*SLOT_(\w+),\s*EXTENT_(\w+),\s*EXTENT_(\w+)/g;
  const found = [...read('core/net/tensors.c').matchAll(row)].map(
    ([, stem, holds, rows, columns]) => ({ stem, holds, rows, columns }));
  assert.ok(found.length >= 23, `${found.length} slots`);
  return found;
}

test('tensors: each slot is documented with its shape, and each documented one is a slot', () => {
  const table = tableBehind('LayerNorm has a weight and a bias');
  const stemOf = (name) => name.replace(/^blk\.N\./, '').replace(/\.(weight|\*)$/, '');
  const shapes = new Map();
  for (const [tensors, shape] of table) {
    const weights = quoted(tensors).filter((name) => name !== '.bias').map(stemOf);
    const written = [...shape.matchAll(/\[([^\]]+)\]/g)].map(([, text]) => text);
    weights.forEach((stem, i) => shapes.set(stem, written[i] ?? written[0]));
  }
  const known = slots();
  for (const { stem, holds, rows, columns } of known) {
    assert.ok(extents[rows] && extents[columns], `${stem}: name its extents in this test`);
    assert.ok(shapes.has(stem) || table.flat().some((cell) => quoted(cell).includes(stem)),
      `${stem} is not in the table of models/FORMAT.md`);
    if (!shapes.has(stem)) continue;
    const isVector = holds === 'NORM' || (holds === 'VECTOR' && rows === 'ONE');
    const expected = extents[columns].flatMap((column) =>
      isVector ? [column] : extents[rows].map((row) => `${row}, ${column}`));
    assert.ok(expected.includes(shapes.get(stem)),
      `${stem}: [${shapes.get(stem)}] in models/FORMAT.md, [${expected}] in core`);
  }
  // weights.c takes the fused matrix apart by itself.
  const stems = new Set([...known.map(({ stem }) => stem), 'attn_qkv']);
  assert.ok(read('core/net/weights.c').includes('"attn_qkv.weight"'));
  assert.deepEqual([...shapes.keys()].filter((stem) => !stems.has(stem)), [], 'no slot of core');
});
