// What smaller caches cost: perplexity of models on the held-out stories by type of the cache.
//
//   node tests/bench/caches.mjs FILE… [--tokens 2048] [--context 512] [--save]
//
// Windows of `context` tokens, each of which begins with the last token of the one before; all
// types score the same tokens of the same weights. With --save the rows are written to
// results/caches.json, beside those of other files, of which web/docs/memory.md's table is made.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Engine, loadModel } from '../../dist/src/engine-entry-node.js';
import { scoreText } from '../../dist/src/bench/perplexity.js';
import { root } from '../../wasm/toolchain/shell.mjs';
import { commit, machine } from './machine.mjs';

const types = ['f32', 'f16', 'i8', 'i4'];
const { values, positionals: files } = parseArgs({ allowPositionals: true,
  options: { tokens: { type: 'string', default: '2048' },
    context: { type: 'string', default: '512' }, save: { type: 'boolean', default: false } } });
const [tokens, context] = [Number(values.tokens), Number(values.context)];
const text = readFileSync(join(root, 'models/validation.txt'), 'utf8')
  .replaceAll(/^<\|end\|>\n/gm, '');

async function perplexity(engine, file, cacheType) {
  const model = await loadModel(engine, file, { cacheType });
  const session = model.openSession({ contextWindow: context });
  try {
    const sum = { logprob: 0, tokens: 0 };
    const ids = model.tokenizer.encode(text.slice(0, 8 * tokens)).slice(0, tokens);
    await scoreText(session, ids, context - 1, sum, async () => {});
    return { bytesPerToken: model.cache.bytes(1).total, tokens: sum.tokens,
      perplexity: Math.exp(-sum.logprob / sum.tokens) };
  } finally {
    session.destroy();
    model.destroy();
  }
}

const engine = await Engine.open({});
const rows = [];
for (const file of files) {
  const row = { file: basename(file), commit: commit(), caches: {} };
  for (const type of types) {
    row.caches[type] = await perplexity(engine, file, type);
    console.log(`${row.file}, ${type}: ${row.caches[type].perplexity.toFixed(3)}`);
  }
  rows.push(row);
}
if (values.save) {
  const path = join(root, 'tests/bench/results/caches.json');
  const others = JSON.parse(readFileSync(path, 'utf8')).rows
    .filter((before) => rows.every((row) => row.file !== before.file));
  writeFileSync(path, `${JSON.stringify({ what: 'caches', tokens, context,
    date: new Date().toISOString(), commit: commit(), machine: machine(),
    rows: [...rows, ...others] }, null, 1)}\n`);
}
engine.destroy();
