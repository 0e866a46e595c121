// Published models' shapes with random weights: they load, they run, and their caches take what was
// computed by hand, no more.
//
//   node tests/real/shapes.mjs [NAME…]     all of them: 5 GB of weights are made, none is kept
//
// The headers are those of models/tools/family_shapes.py. The weights are noise of the right size.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { readGguf } from '../../dist/src/bench/gguf-reader.js';
import { Engine } from '../../dist/src/engine-entry-node.js';
import { main, root, say } from '../../wasm/toolchain/shell.mjs';

/**
 * What a cache takes in f16: elements of a position in layers that keep all, and in layers that
 * keep the last so many. Beside a window 32 positions stay, and those of a page that was begun.
 */
export const shapes = {
  'youtu-llm-2b': { all: 32 * (512 + 64), windowed: 0, window: 0 },
  'minicpm3-4b': { all: 62 * (256 + 32), windowed: 0, window: 0 },
  'gemma-3-1b': { all: 4 * 2 * 256, windowed: 22 * 2 * 256, window: 512 },
  'lfm2-1.2b': { all: 6 * 2 * 8 * 64, windowed: 10 * 2048, window: 3 },
};
export const contexts = [4096, 32768];

/** [least, most] bytes of n tokens. */
export function expectedBytes({ all, windowed, window }, n) {
  const least = 2 * (all * n + windowed * (window > 0 ? window - 1 : 0));
  return [least, least + 2 * windowed * 64];
}

export const headerOf = (name) =>
  new Uint8Array(gunzipSync(readFileSync(join(root, `tests/real/shapes/${name}.gguf.gz`))));

const F32 = 0;
/** By the format's number of a type: elements and bytes of a block, and its factors in f16, with
 * which weights are about 0 on average and some 0.02 large: Q5_0's 2^-9, and of Q4_K 2^-13 and 7.5
 * times that. */
const blocks = { 6: [32, 22, [0x1800]], 12: [256, 144, [0x0800, 0x1380]] };

function noise(bytes) {
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** So many whole blocks of noise; as floats: ones. */
function pieceOf(type) {
  if (type === F32) return new Uint8Array(new Float32Array(4096).fill(1).buffer);
  const [, blockBytes, factors] = blocks[type];
  const piece = noise(new Uint8Array(blockBytes * 4096));
  const view = new DataView(piece.buffer);
  for (let at = 0; at < piece.length; at += blockBytes) {
    factors.forEach((factor, i) => view.setUint16(at + 2 * i, factor, true));
  }
  return piece;
}

function feedTensor(loader, { type, dimensions }, pieces) {
  const elements = dimensions.reduce((product, n) => product * n, 1);
  const [blockElements, blockBytes] = type === F32 ? [1, 4] : blocks[type];
  const bytes = elements / blockElements * blockBytes;
  pieces[type] ??= pieceOf(type);
  for (let left = bytes; left > 0; left -= pieces[type].length) {
    loader.feed(pieces[type].subarray(0, left));
  }
  const padding = -bytes & 31;
  if (padding > 0) loader.feed(new Uint8Array(padding));
}

function loadNoise(engine, name) {
  const header = headerOf(name);
  const loader = engine.openLoader({ contextWindow: 32768, batch: 1 });
  const { tensors, headerBytes } = readGguf(header);
  loader.feed(header);
  loader.feed(new Uint8Array(headerBytes - header.length));
  const pieces = {};
  for (const tensor of tensors) feedTensor(loader, tensor, pieces);
  return loader.finish();
}

/** Loads, runs a few tokens, and takes the pages of both contexts. */
async function check(name) {
  const engine = await Engine.open({ threads: 2 });
  try {
    const started = performance.now();
    const model = loadNoise(engine, name);
    const loaded = performance.now();
    const session = model.openSession();
    session.append([1, 2, 3, 4]);
    assert.ok(session.logits().every(Number.isFinite), `${name}: its logits are numbers`);
    assert.equal(session.memory().cacheUsed, model.cache.bytes(4).total);
    const told = contexts.map((n) => {
      const [least, most] = expectedBytes(shapes[name], n);
      const bytes = model.cache.bytes(n).total;
      assert.ok(bytes >= least && bytes <= most, `${name}: ${bytes} bytes of ${n} tokens`);
      // Pages that are written again and again have been taken besides, for a batch of 256.
      session.reserve(n - 4);
      const held = model.memory().cache;
      assert.ok(held <= most + 2 * shapes[name].windowed * 384 && held >= least,
        `${name}: ${held} bytes held for ${n} tokens`);
      session.truncate(4);
      return `${(bytes / 1e6).toFixed(1)} MB at ${n}`;
    });
    say(`${name}: loaded in ${((loaded - started) / 1e3).toFixed(1)} s, ` +
      `weights ${(model.memory().weights / 1e6).toFixed(0)} MB, cache ${told.join(', ')}`);
  } finally {
    engine.destroy();
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const names = process.argv.slice(2);
    const chosen = names.length > 0 ? names : Object.keys(shapes);
    for (const name of chosen) await check(name);
    console.log(`${chosen.length} passed, 0 failed`);
  });
}
