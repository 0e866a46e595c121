// An engine that was destroyed gives its memory back, and lets the program end.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

// 60 MB are written in each engine: kept memories of twelve would be 720 MB.
const program = `
  const { Engine, loadModel } = await import('${join(root, 'dist/src/engine-entry-node.js')}');
  const once = async () => {
    const engine = await Engine.open({ threads: 2 });
    await loadModel(engine, '${join(root, 'models/stories-q-mqa.q8_0.gguf')}');
    const at = engine.bindings.take(60e6);
    engine.bindings.bytes.fill(1, at, at + 60e6);
    engine.destroy();
  };
  const resident = [];
  for (let i = 0; i < 12; i++) {
    await once();
    await new Promise((resolve) => { setTimeout(resolve, 50); });
    resident.push(process.memoryUsage().rss);
  }
  console.log(JSON.stringify(resident));
`;

test('twelve engines, one after the other: resident memory stays, and the program ends', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath,
    ['--input-type=module', '--eval', program],
    { encoding: 'utf8', timeout: 60_000 });
  assert.equal(status, 0, stderr);
  const resident = JSON.parse(stdout);
  const grown = resident.at(-1) - resident[1];
  assert.ok(grown < 130e6, `${Math.round(grown / 1e6)} MB more after ten further engines`);
});
