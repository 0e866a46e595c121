// What is exported is used: a function that nobody calls goes, and a name that no other file asks
// for is not exported.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** { path: text } of the files below some folders whose names end so. */
function texts(folders, ending) {
  const paths = folders.flatMap((folder) => readdirSync(join(root, folder), { recursive: true })
    .filter((name) => ending.test(name) && !/(^|\/)(node_modules|build|dist)\//.test(name))
    .map((name) => `${folder}/${name}`));
  return new Map(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

/** Text without comments. */
const bare = (text) => text.replace(/\/\*[^]*?\*\/|(?<!:)\/\/.*$/gm, '');

test('every name of wasm/exports.txt is called in web/src', () => {
  const names = readFileSync(join(root, 'wasm/exports.txt'), 'utf8').split('\n')
    .filter((line) => /^[a-z]/.test(line)).map((line) => line.trim());
  assert.ok(names.length > 40);
  const sources = [...texts(['web/src'], /\.ts$/).values()].join('\n');
  const unused = names.filter((name) => !new RegExp(`\\._${name}\\b`).test(sources));
  assert.deepEqual(unused, []);
});

/** Names in `import { … }`, `import type { … }` and `export { … } from`; of a namespace, all. */
function asked(text) {
  const clause = /\b(?:import|export)\s+(?:type\s+)?(?:\w+,\s*)?\{([^}]*)\}\s*from/g;
  const lists = [...text.matchAll(clause)].flatMap(([, list]) => list.split(','));
  const dynamic = [...text.matchAll(/\{([^{}]*)\}\s*=\s*await\s+(?:import|load)\(/g)]
    .flatMap(([, list]) => list.split(','));
  const members = [...text.matchAll(/import\('[^']*'\)\.(\w+)/g)].map(([, name]) => name);
  return [...lists, ...dynamic, ...members]
    .map((item) => item.trim().replace(/^type\s+/, '').split(/\s+as\s+|:/)[0].trim());
}

test('every name that a file of web/ exports is asked for by another one, or by a test', () => {
  const sources = texts(['web/src', 'web/cli', 'web/demo'], /(?<!\.d)\.ts$/);
  const others = texts(['tests', 'wasm/toolchain', 'web/demo', 'web/examples', 'web/docs'],
    /\.(mjs|js|md|ts)$/);
  const users = new Map();
  for (const [path, text] of [...sources, ...others]) {
    for (const name of asked(bare(text))) {
      users.set(name, (users.get(name) ?? new Set()).add(path));
    }
  }
  // What pages import by a subpath of the package is for them to ask for.
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const entries = JSON.stringify(exports).match(/src\/[\w/-]+(?=\.js)/g)
    .map((path) => `web/${path}.ts`);
  const whole = entries.flatMap((path) =>
    [...sources.get(path).matchAll(/export (?:type )?\* from '\.\/([\w/-]+)\.js'/g)]
      .map(([, file]) => `web/src/${file}.ts`));
  const unused = [];
  for (const [path, text] of sources) {
    if (entries.includes(path) || whole.includes(path)) continue;
    const names = [...bare(text).matchAll(
      /^export (?:abstract |async )?(?:const|function\*?|class|interface|type|enum) (\w+)/gm)];
    for (const [, name] of names) {
      if ([...users.get(name) ?? []].some((user) => user !== path)) continue;
      unused.push(`${path}: ${name}`);
    }
  }
  assert.deepEqual(unused, []);
});

test('every function that a header of core declares is called from another file', () => {
  const headers = texts(['core'], /\.h$/);
  const sources = texts(['core', 'wasm', 'tests/native', 'tests/fuzz'], /\.[ch]$/);
  sources.set('wasm/exports.txt', readFileSync(join(root, 'wasm/exports.txt'), 'utf8'));
  const words = new Map([...sources].map(([path, text]) =>
    [path, new Set(bare(text).match(/\w+/g))]));
  const names = new Set([...headers.values()].flatMap((text) =>
    [...bare(text).matchAll(/^(?!static|typedef|_)\w[\w *]*?\b(\w+)\([^;{]*\);/gm)]
      .map(([, name]) => name)));
  assert.ok(names.size > 150, `${names.size} names`);
  const unused = [...names].filter((name) => {
    const defines = new RegExp(`^(?!static)[\\w *]*\\b${name}\\([^;{]*\\)\\s*\\{`, 'm');
    // A header that declares it may also call it, in a function that is inline.
    const calls = new RegExp(`[^\\w *] *${name}\\(|\\breturn ${name}\\(`);
    return ![...words].some(([path, found]) => found.has(name) &&
      (headers.has(path) ? calls.test(bare(sources.get(path)))
        : !defines.test(bare(sources.get(path)))));
  });
  assert.deepEqual(unused, []);
});
