// The build's long steps move: how far ninja is, on a line of a terminal or in few lines of a log.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Progress, clearLine, countOf } from '../../wasm/toolchain/progress.mjs';
import { must } from '../../wasm/toolchain/shell.mjs';

/** A stream that keeps what is written; columns make it a terminal. */
const stream = (columns) => ({ isTTY: columns !== undefined, columns, written: [],
  write(text) { this.written.push(text); } });

test('the last count of ninja is taken, and nothing that only looks like one', () => {
  assert.deepEqual(countOf('[1/96] Building C object a.o\n[2/96] Building C object b.o\n'),
    { done: 2, of: 96 });
  for (const text of ['', 'ninja: no work to do.\n', 'warning: a[1/2] is odd\n', '[1/']) {
    assert.equal(countOf(text), undefined, text);
  }
});

test('a log has a line now and then, also when a count comes in pieces', async () => {
  const out = stream();
  const progress = new Progress('build: compiling x', out, 20);
  progress.take('[3/9] Building\n[4');
  progress.take(Buffer.from('0/96] Buil'));
  await pause(50);
  progress.end();
  const { length } = out.written;
  assert.match(out.written[0], /^build: compiling x: 40 of 96 files, 0 s\n$/);
  await pause(50);
  assert.equal(out.written.length, length, 'it ends');
});

test('a terminal has one line, which is written over, and goes in the end', async () => {
  const out = stream(30);
  const progress = new Progress('build: configuring a preset of a long name', out, 10);
  await pause(50);
  clearLine(out);
  assert.equal(out.written.at(-1), '\r\x1b[K');
  await pause(50);
  progress.end();
  const lines = out.written.filter((text) => text !== '\r\x1b[K');
  assert.ok(lines.length > 1);
  for (const line of lines) assert.match(line, /^\r[^\r\n]{1,29}\x1b\[K$/);
  assert.equal(out.written.at(-1), '\r\x1b[K');
});

test('a step that takes no time says nothing', async (t) => {
  const written = t.mock.method(process.stderr, 'write', () => true);
  const { output } = await must('it', process.execPath, ['-e', 'console.log("[1/2] done")'],
    { moving: 'build: it' });
  assert.deepEqual([output, written.mock.calls], ['[1/2] done\n', []]);
});
