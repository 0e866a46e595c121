// Writes a GGUF file of random weights: npm run bench:shape -- M --projection Q-K=V --kv-heads 1
//
// What it can make, and how: web/src/bench/shapes.ts, random-model.ts. The file's name goes to
// stdout.
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fileNameOf, shapedModel, shapes } from '../../dist/src/bench/shapes.js';
import { randomModel } from '../../dist/src/bench/random-model.js';
import { cacheFolder } from '../../wasm/toolchain/shell.mjs';

const usage = `usage: node tests/bench/shape.mjs SHAPE [options]

SHAPE is ${Object.keys(shapes).join(', ')}, or any word with all dimensions given:
  --layers N --width N --heads N --feed-forward N --vocabulary N --context N
  --architecture llama|gpt2
options:
  --projection P   QKV (default), Q-K=V, Q=K-V, Q=K=V
  --kv-heads N     default: as many as query heads
  --type T         q8_0 (default), q4_0, f16, f32
  --expand         write shared projections as copies, for any other runtime
  --seed N         default 1
  --out FOLDER     default: the cache folder's "shapes"`;

/** Where generated files are kept between runs. */
export const shapeFolder = join(cacheFolder, 'shapes');

/** Writes the file unless it is there already; gives its path. */
export async function writeShape(model, folder = shapeFolder) {
  mkdirSync(folder, { recursive: true });
  const seed = model.seed === 1 ? '' : `seed${model.seed}-`;
  const path = join(folder, `${seed}${fileNameOf(model)}`);
  const source = randomModel(model);
  if (statSync(path, { throwIfNoEntry: false })?.size === source.totalBytes) return path;
  const part = `${path}.${process.pid}.part`;
  const file = await open(part, 'w');
  try {
    for await (const chunk of source.chunks) await file.write(chunk);
  } finally {
    await file.close();
  }
  renameSync(part, path);
  return path;
}

/** The model that these options describe, keys as on the command line. */
export function modelOf(shape, values) {
  const number = (name) => (values[name] === undefined ? {}
    : { [name.replace(/-(.)/g, (_, letter) => letter.toUpperCase())]: Number(values[name]) });
  const word = (name) => (values[name] === undefined ? {} : { [name]: values[name] });
  return shapedModel(shape, {
    ...['layers', 'width', 'heads', 'feed-forward', 'vocabulary', 'context', 'kv-heads', 'seed']
      .reduce((all, name) => ({ ...all, ...number(name) }), {}),
    ...word('architecture'), ...word('projection'), ...word('type'),
    ...(values.expand ? { expand: true } : {}),
  });
}

export const shapeOptions = {
  layers: { type: 'string' }, width: { type: 'string' }, heads: { type: 'string' },
  'feed-forward': { type: 'string' }, vocabulary: { type: 'string' }, context: { type: 'string' },
  architecture: { type: 'string' }, projection: { type: 'string' }, 'kv-heads': { type: 'string' },
  type: { type: 'string' }, expand: { type: 'boolean' }, seed: { type: 'string' },
};

if (import.meta.filename === process.argv[1]) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { ...shapeOptions, out: { type: 'string' }, help: { type: 'boolean' } },
  });
  if (values.help || positionals.length !== 1) {
    console.error(usage);
    process.exitCode = values.help ? 0 : 2;
  } else {
    console.log(await writeShape(modelOf(positionals[0], values), values.out));
  }
}
