// The first program of core/README.md is built and run as the page says.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const hasCompiler = spawnSync('cc', ['--version']).status === 0;

/** The shell block below a heading of a page. */
function shellBlock(page, heading) {
  const section = page.slice(page.indexOf(`## ${heading}\n`));
  return /```sh\n([^]*?)```/.exec(section)[1];
}

test('core/README.md: the compile line makes a program that writes the tokens of a story', {
  skip: hasCompiler ? false : 'no C compiler (cc)',
}, () => {
  const page = readFileSync(join(root, 'core/README.md'), 'utf8');
  const block = shellBlock(page, 'A first program');
  assert.match(block, /^cc [^]*core\/example\.c[^]*\n\.\/example models\/\S+\.gguf\n$/);
  // The program lands where the line is run: in a folder that looks like the checkout.
  const folder = mkdtempSync(join(tmpdir(), 'onekv-example-'));
  try {
    for (const name of ['core', 'models']) symlinkSync(join(root, name), join(folder, name));
    const output = execFileSync('sh', ['-e', '-c', block], { cwd: folder, encoding: 'utf8' });
    const ids = output.trim().split('\n').map(Number);
    assert.equal(ids.length, 20);
    // What `npx onekv generate stories-q-mqa --ids 1 --temperature 0` begins with. Scalar and SIMD
    // kernels round differently: later ids may part.
    assert.deepEqual(ids.slice(0, 8), [199, 405, 392, 479, 284, 377, 394, 267]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('what a newcomer to core reads first stays near a thousand lines', () => {
  const page = readFileSync(join(root, 'core/README.md'), 'utf8');
  const [, path] = /in this order: ([^]*?)\.\n\n/.exec(page);
  const files = [...path.matchAll(/`([a-z_/]+\.[ch])`/g)].map(([, file]) => `core/${file}`);
  assert.deepEqual(files, ['core/onekv.h', 'core/net/forward.c', 'core/net/attention.c',
    'core/kernels/floats_scalar.c']);
  const lines = ['core/README.md', ...files].map((file) =>
    readFileSync(join(root, file), 'utf8').trimEnd().split('\n').length);
  const sum = lines.reduce((a, b) => a + b);
  assert.ok(sum <= 1150, `${sum} lines: ${lines}`);
});

test('core/example.c is a whole program of at most 40 lines', () => {
  const text = readFileSync(join(root, 'core/example.c'), 'utf8');
  assert.ok(text.trimEnd().split('\n').length <= 40);
  assert.match(text, /int main\(/);
});
