// What the two story models have to show on the page, computed from their shapes: a header says the
// shape, and the bytes are products of it.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OneKV } from '../../dist/src/onekv-node.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Bytes of a vector of so many elements. An i8 row has a scale in four. */
const rowBytes = { f32: (width) => 4 * width, f16: (width) => 2 * width, i8: (width) => width + 4 };

async function read(name) {
  const file = `${name}.q8_0.gguf`;
  const { description } = await OneKV.estimate(join(root, 'models', file));
  const { layers, kvHeads, headWidth, projection } = description;
  const vectors = projection === 'Q-K=V' ? kvHeads : 2 * kvHeads;
  const perToken = Object.fromEntries(Object.entries(rowBytes)
    .map(([type, bytes]) => [type, layers * vectors * bytes(headWidth)]));
  return { file, vectors, perToken, ...description };
}

const one = await read('stories-q-mqa');
const std = await read('stories-qkv');

/** 32, 2.7: as many decimals as tell something. */
const short = (value) => String(Number(value.toFixed(value < 10 ? 2 : 1)));

/** Of a baseline with so many KV heads, in the second model's layers. */
const computed = (heads) => short(2 * heads * std.headWidth * 2 * std.layers / one.perToken.f16);

export const pair = { one, std, context: one.contextWindow,
  /** How many times less the first one keeps, by baseline: as the page writes it. */
  times: { MHA: short(std.perToken.f16 / one.perToken.f16), 'GQA-8': computed(8),
    'GQA-4': computed(4), MQA: computed(1) },
  /** As all heads of the first model would keep it. */
  timesWithin: 2 * one.queryHeads / one.vectors };

/** Three significant digits and a unit: 29.8 KB. */
export function bytesText(value) {
  const unit = Math.max(0, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** unit;
  return `${scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0)} ` +
    `${['B', 'KB', 'MB', 'GB'][unit]}`;
}
