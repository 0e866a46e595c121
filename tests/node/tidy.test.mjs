// Each rule of tests/tidy.mjs is provoked by a small text, and a text beside it that keeps it.
import assert from 'node:assert/strict';
import test from 'node:test';
import { functionsOf } from '../tidy-functions.mjs';
import { fileFrom, findings, levelOf } from '../tidy.mjs';

const word = (...parts) => parts.join('');

/** Findings of one rule for files given as { path: text }, as "path:line". */
function found(rule, texts, others = []) {
  const files = Object.entries(texts).map(([path, text]) => fileFrom(path, text));
  return findings(files, new Set([...Object.keys(texts), ...others]))
    .filter((finding) => finding.rule === rule)
    .map(({ path, line }) => `${path}:${line}`);
}

const cFunction = (lines) =>
  `/* x */\nstatic int\nf(int a) {\n${'  a++;\n'.repeat(lines - 4)}  return a;\n}\n`;

test('blanks: at the end, tabs, control characters, newline at the end', () => {
  assert.deepEqual(found('blanks', { 'a.md': '# a \n' }), ['a.md:1']);
  assert.deepEqual(found('blanks', { 'a.py': '# a\n\tx\n' }), ['a.py:2']);
  assert.deepEqual(found('blanks', { 'a.ts': '// a\n// \x07\n' }), ['a.ts:2']);
  assert.deepEqual(found('blanks', { 'a.ts': '// a\r\n' }), ['a.ts:1']);
  assert.deepEqual(found('blanks', { 'a.ts': '// a' }), ['a.ts:1']);
  assert.deepEqual(found('blanks', { 'a.ts': '// a\n\n' }), ['a.ts:2']);
  assert.deepEqual(found('blanks', { 'a.ts': '// a\nlet b;\n' }), []);
});

test('columns: 100 characters, not bytes; table rows, addresses and data are free', () => {
  const long = 'x'.repeat(101);
  assert.deepEqual(found('columns', { 'a.c': `/* a */\n/*${long}*/\n` }), ['a.c:2']);
  assert.deepEqual(found('columns', { 'a.c': `/* ${'é'.repeat(94)} */\n` }), []);
  assert.deepEqual(found('columns', { 'a.md': `| ${long} |\n` }), []);
  assert.deepEqual(found('columns', { 'a.md': `https://example.org/${long}\n` }), []);
  assert.deepEqual(found('columns', { 'tests/golden/a.txt': `${long}\n` }), []);
  assert.deepEqual(found('columns', { 'tests/golden/a.py': `# ${long}\n` }),
    ['tests/golden/a.py:1']);
});

test('file length: 400 lines, README 200', () => {
  assert.deepEqual(found('file length', { 'a.py': '#\n'.repeat(401) }), ['a.py:401']);
  assert.deepEqual(found('file length', { 'a.py': '#\n'.repeat(400) }), []);
  assert.deepEqual(found('file length', { 'README.md': 'x\n'.repeat(201) }), ['README.md:201']);
  assert.deepEqual(found('file length', { 'models/README.md': 'x\n'.repeat(401) }), []);
});

test('function length: 70 lines, SIMD bodies 100', () => {
  assert.deepEqual(found('function length', { 'a.c': cFunction(71) }), ['a.c:2']);
  assert.deepEqual(found('function length', { 'a.c': cFunction(70) }), []);
  assert.deepEqual(found('function length', { 'core/kernels/floats_simd.h': cFunction(100) }), []);
  assert.deepEqual(found('function length', { 'core/kernels/floats_simd.h': cFunction(101) }),
    ['core/kernels/floats_simd.h:2']);
});

/** Names and lengths of the functions in a text. */
const lengths = (path, text) => functionsOf(fileFrom(path, text))
  .map(({ name, length }) => `${name} ${length}`);

test('functions are found in C: declarations, tables and structs are none', () => {
  const text = 'int g(int);\nstruct s {\n  int a;\n};\nstatic const int t[] = {\n  1,\n};\n' +
    '#define M(a) \\\n  do { a; } while (0)\n' +
    'static int f(int a,\n             int b) {\n  if (a) {\n  }\n  return b;\n}\n' +
    'void h(void) {\n}\n';
  assert.deepEqual(lengths('a.c', text), ['f 6', 'h 2']);
});

test('functions are found in TypeScript: methods, arrows, parameters on lines of their own', () => {
  const text = [
    'export class A {', '  #b = 1;', '  async get<T>(a: T): Promise<void> {', '    if (a) {',
    '    }', '  }', '  private *all(', '    a: number,', '  ): Iterable<number> {', '    yield a;',
    '  }', '}', 'const f = async (a: number) => {', '  for (;;) {', '  }', '};',
    "test('x', () => {", '});', "describe('y', () => {", '});', 'const o = {', '  a: 1,', '};', '',
  ].join('\n');
  assert.deepEqual(lengths('a.ts', text), ['get 4', 'all 5', 'f 4', 'test 2']);
});

test('functions are found in Python, nested ones too', () => {
  const text = 'def f(\n    a,\n):\n    def g():\n        return 1\n\n    return g\n\n\nx = 1\n';
  assert.deepEqual(lengths('a.py', text), ['f 7', 'g 2']);
});

test('opening comment: in every language, after a shebang or doctype', () => {
  assert.deepEqual(found('opening comment', { 'a.c': 'int a;\n' }), ['a.c:1']);
  assert.deepEqual(found('opening comment', { 'a.ts': 'let a;\n// b\n' }), ['a.ts:1']);
  assert.deepEqual(found('opening comment', { run: '#!/bin/sh\nls\n' }), ['run:1']);
  assert.deepEqual(found('opening comment', {
    'a.c': '/* a */\n', 'a.ts': '#!/usr/bin/env node\n// a\n', 'a.py': '"""a."""\n',
    'a.html': '<!doctype html>\n<!-- a -->\n', run: '#!/bin/sh\n# a\n', 'a.css': '/* a */\n',
    'CMakeLists.txt': '# a\n', 'a/__init__.py': '',
  }), []);
});

test('leftovers: marks, words, printing in the library', () => {
  for (const mark of [word('TO', 'DO'), word('FIX', 'ME'), word('X', 'XX'), word('HA', 'CK')]) {
    assert.deepEqual(found('leftovers', { 'a.md': `x\n${mark}: y\n` }), ['a.md:2'], mark);
  }
  assert.deepEqual(found('leftovers', { 'a.c': `/* for ${'now'} */\n` }), ['a.c:1']);
  assert.deepEqual(found('leftovers', { 'a.ts': '// a\n  debugger;\n' }), ['a.ts:2']);
  const printing = `// a\nconsole.${'log'}(1);\n`;
  assert.deepEqual(found('leftovers', { 'web/src/a.ts': printing }), ['web/src/a.ts:2']);
  assert.deepEqual(found('leftovers', { 'web/cli/a.ts': printing }), []);
});

test('core without a host: headers, calls, variables', () => {
  const rule = 'core without a host';
  const of = (line) => found(rule, { 'core/base/gguf.c': `/* printf(), exit() */\n${line}\n` });
  for (const line of ['#include <stdio.h>', '#include <emscripten/threading.h>', 'int a;',
    '#include <sys/stat.h>', '  printf("x");', '  abort();', 'static size_t n = 0;',
    'static float table[16];', '_Atomic int n;', 'static char *name;']) {
    assert.deepEqual(of(line), ['core/base/gguf.c:2'], line);
  }
  for (const line of ['#include <string.h>', 'static const int a = 1;', 'int f(int a);',
    '  char *text = "exit(1)";', 'struct gguf;', 'typedef int number;', '  reprint(x);',
    '// abort()', '  int a;']) {
    assert.deepEqual(of(line), [], line);
  }
  assert.deepEqual(found(rule, { 'core/base/status.c': '/* a */\n#include <stdio.h>\n' }), []);
  assert.deepEqual(found(rule, { 'tests/native/a.c': '/* a */\n#include <stdio.h>\n' }), []);
});

test('places: registries and paths of one machine', () => {
  assert.deepEqual(found('places', { 'a.json': `"https://${word('registry.npmj', 's.org')}/a"\n` }),
    ['a.json:1']);
  for (const folder of ['work', 'root', 'farm', 'home/anna']) {
    assert.deepEqual(found('places', { 'a.md': `in \`/${folder}/x\`\n` }), ['a.md:1'], folder);
  }
  const relative = `see ./${'work'}/x, a/${'root'}/x and $HOME/${'farm'}/x\n`;
  assert.deepEqual(found('places', { 'a.md': relative }), []);
});

test('one title in Markdown, code blocks not counted', () => {
  assert.deepEqual(found('one title', { 'a.md': 'x\n' }), ['a.md:1']);
  assert.deepEqual(found('one title', { 'a.md': '# a\n\n# b\n' }), ['a.md:3']);
  assert.deepEqual(found('one title', { 'a.md': '# a\n```sh\n# b\n```\n## c\n' }), []);
});

test('levels of core: only downwards, and every file has one', () => {
  const rule = 'levels of core';
  const of = (path, header) => found(rule, { [path]: `/* a */\n#include "${header}"\n` });
  assert.deepEqual(of('core/base/pool.c', 'core/kernels/kernels.h'), ['core/base/pool.c:2']);
  assert.deepEqual(of('core/kernels/a.c', 'core/net/weights.h'), ['core/kernels/a.c:2']);
  assert.deepEqual(of('core/net/attention.c', 'core/net/kv_cache.h'), []);
  assert.deepEqual(of('core/net/forward.c', 'core/base/status.h'), []);
  assert.deepEqual(of('core/net/forward.c', 'core/onekv.h'), ['core/net/forward.c:2']);
  assert.deepEqual(of('core/api/model.c', 'strange.h'), ['core/api/model.c:2']);
  assert.deepEqual(of('core/strange/a.c', 'core/base/status.h'), ['core/strange/a.c:1']);
  assert.equal(levelOf('core/kernels/floats_simd.h'), 1);
  assert.equal(levelOf('core/onekv.h'), 3);
  assert.equal(levelOf('core/onekv_types.h'), 0);
  assert.deepEqual(of('core/base/pool.c', 'core/onekv_types.h'), []);
  assert.deepEqual(of('core/onekv.h', 'core/onekv_types.h'), []);
  assert.deepEqual(of('core/onekv.h', 'core/base/pool.h'), ['core/onekv.h:2']);
  assert.deepEqual(of('core/onekv_types.h', 'core/base/status.h'), ['core/onekv_types.h:2']);
  assert.deepEqual(of('core/example.c', 'core/onekv.h'), []);
  assert.deepEqual(of('core/example.c', 'core/net/config.h'), ['core/example.c:2']);
});

test('no array becomes the arguments of a call, which a long text would overflow', () => {
  const rule = 'spread into a call';
  const of = (line, path = 'web/src/text/a.ts') => found(rule, { [path]: `// a\n${line}\n` });
  assert.deepEqual(of('ids.push(...more);'), ['web/src/text/a.ts:2']);
  assert.deepEqual(of('const most = Math.max(0, ...ids);'), ['web/src/text/a.ts:2']);
  assert.deepEqual(of('String.fromCharCode(...units);'), ['web/src/text/a.ts:2']);
  assert.deepEqual(of('parts.push({ ...part });'), []);
  assert.deepEqual(of('const all = [...ids, ...more];'), []);
  assert.deepEqual(of('Math.max(...rows);', 'web/src/bench/a.ts'), []);
});

test('nothing unused: sources that nobody builds, headers that nobody includes', () => {
  const rule = 'nothing unused';
  assert.deepEqual(found(rule, { 'models/a.c': '/* a */\n' }), ['models/a.c:1']);
  assert.deepEqual(found(rule, { 'models/a.c': '/* a */\n', 'models/a.mjs': '// cc a.c\n' }), []);
  assert.deepEqual(found(rule, { 'core/base/gguf.h': '/* a */\n' }), ['core/base/gguf.h:1']);
  const included = { 'core/base/gguf.h': '/* a */\n', 'core/base/gguf.c': '#include "gguf.h"\n' };
  assert.deepEqual(found(rule, included), []);
});

test('links lead somewhere', () => {
  const text = '# a\n[b](b.md) [c](docs/c.md#d) [d](docs) [e](https://example.org/e) [f](#a)\n';
  assert.deepEqual(found('links', { 'a.md': text }, ['b.md', 'docs/c.md']), []);
  assert.deepEqual(found('links', { 'a.md': text }, ['b.md']), ['a.md:2', 'a.md:2']);
});
