// Computes the cache of a prompt once and writes it to a file, for pages to restore (pack.js):
//
//   node pack.mjs MODEL PACK
import { writeFile } from 'node:fs/promises';
import { OneKV } from 'onekv';

const [file, target] = process.argv.slice(2);
const model = await OneKV.load(file);
const session = await model.createSession();
await session.append('Once upon a time, there was a little girl named Lily. She had a red ball ' +
  'and a small dog. The dog was called Max. Every day they played near the big tree.');
const pack = await session.save();
await writeFile(target, Buffer.from(await pack.arrayBuffer()));
console.log(`${target}: ${session.contextUsage} tokens, ${pack.size} bytes`);
await model.unload();
