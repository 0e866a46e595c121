// Decoding far into a text beside native llama.cpp, by how heads share their cache:
//
//   node tests/bench/depths.mjs [ROW…] [--depths 2048,8192] [options of turns.mjs]
//
// ROW is one of those below, default: all. Writes each file of random weights where it is not there
// yet, measures it by turns.mjs, and saves it in results/turns. Both
// caches are f16 and hold the rows of so many random tokens. A row of Q-K=V is given to llama.cpp
// with its projection written twice; latent attention both cache alike.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../../wasm/toolchain/shell.mjs';
import { modelOf, shapeFolder, writeShape } from './shape.mjs';
import { printTurns, saveTurns, takeTurns, turnNumbers, turnOptions } from './turns.mjs';

const sixteen = { layers: 12, width: 1024, heads: 16, 'feed-forward': 2048 };

/** What a row measures: a shape and its options, or the latent one; M has 12 heads. */
const rows = {
  'mha-1t': { shape: 'M', threads: '1' },
  mha: { shape: 'M' },
  'gqa-by-4': { shape: 'M', options: { 'kv-heads': 3 } },
  'gqa-by-8': { shape: 'M16', options: { ...sixteen, 'kv-heads': 2 } },
  'mqa-keqv': { shape: 'M', options: { projection: 'Q-K=V', 'kv-heads': 1 } },
  mla: { latent: { layers: 4, vocabulary: 4096 } },
};

/** Youtu-LLM's layers, some of them. */
function writeLatent(changes) {
  const path = join(shapeFolder, `youtu-llm-2b-${changes.layers}-layers.gguf`);
  if (existsSync(path)) return path;
  const words = Object.entries(changes).map(([name, value]) => `${name}=${value}`);
  execFileSync(process.env.ONEKV_PYTHON ?? 'python3',
    ['-m', 'models.tools.family_shapes', 'youtu-llm-2b', path, ...words], { cwd: root });
  return path;
}

async function filesOf({ shape, options = {}, latent }) {
  if (latent !== undefined) return { file: writeLatent(latent) };
  const file = await writeShape(modelOf(shape, options));
  if (options.projection === undefined) return { file };
  return { file, peerFile: await writeShape(modelOf(shape, { ...options, expand: true })) };
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { ...turnOptions,
  prefill: { type: 'string', default: '0' }, depths: { type: 'string', default: '2048,8192' } } });
for (const name of positionals.length > 0 ? positionals : Object.keys(rows)) {
  if (rows[name] === undefined) throw new Error(`no row ${name}: ${Object.keys(rows).join(', ')}`);
  const { threads = values.threads } = rows[name];
  const job = { ...await filesOf(rows[name]), ...turnNumbers({ ...values, threads }) };
  console.log(`${name}, ${threads} threads:`);
  const found = await takeTurns(job, ['native', 'native-flash']);
  printTurns(found);
  saveTurns(`deep-${name}`, job, found);
}
process.exit(0);
