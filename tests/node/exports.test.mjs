// What the module exports is used: a function that nobody calls goes.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('every name of wasm/exports.txt is called in web/src', () => {
  const names = readFileSync(join(root, 'wasm/exports.txt'), 'utf8').split('\n')
    .filter((line) => /^[a-z]/.test(line)).map((line) => line.trim());
  assert.ok(names.length > 40);
  const sources = readdirSync(join(root, 'web/src'), { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(root, 'web/src', name), 'utf8')).join('\n');
  const unused = names.filter((name) => !new RegExp(`\\._${name}\\b`).test(sources));
  assert.deepEqual(unused, []);
});
