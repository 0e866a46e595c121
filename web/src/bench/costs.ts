// What measurements take, roughly: how long a run will be is said before it begins, and how far it
// is means time, not counts. Seconds of the two-core machine that the rates were read off; after
// the first measurements only their proportions matter.
import type { CacheType } from '../api/description.js';
import { elementTypes } from './random-rows.js';
import { parameterCount } from './random-model.js';
import type { ShapedModel } from './shapes.js';
import { shapedModel } from './shapes.js';
import type { Contender, Setting, Subject } from './subjects.js';

/** Of one core, relaxed SIMD: operations per second in products with weights, and in attention of
 * one and of many queries for each key; bytes per second read, made at random with loading,
 * cleared. */
const rates = { products: 55e9, attend: 3e9, attendMany: 25e9, read: 15e9, load: 180e6,
  clear: 2e9 };

/** simd128 does less an instruction. */
const slower = { relaxed: 1, simd128: 1.4 };

const modelOf = ({ shaped }: Subject): ShapedModel => shaped ?? shapedModel('S');

const bytesOf = (model: ShapedModel) =>
  parameterCount(model) * elementTypes[model.type].bytes / elementTypes[model.type].block;

const speedUp = ({ threads, simd }: Setting) => Math.min(2, threads) / slower[simd];

/** Making the weights and packing them. */
export const loadSeconds = (subject: Subject) => 0.05 + bytesOf(modelOf(subject)) / rates.load;

/** Reading tokens into a session that has `from` of them, until there are `to`. */
export function readSeconds({ subject, setting }: Contender, to: number, from = 0): number {
  const model = modelOf(subject);
  const work = 2 * parameterCount(model) * (to - from) / rates.products;
  const pairs = (to * to - from * from) / 2;
  return (work + 4 * model.layers * model.width * pairs / rates.attendMany) / speedUp(setting);
}

/** Choosing `count` tokens, each with `depth` before it. */
export function chooseSeconds({ subject, setting }: Contender, depth: number, count: number):
  number {
  const model = modelOf(subject);
  const rate = model.kvHeads === model.heads ? rates.attend : rates.attendMany;
  return count * (bytesOf(model) / rates.read + 4 * model.layers * model.width * depth / rate) /
    Math.sqrt(speedUp(setting));
}

const cacheElement: Record<CacheType, number> = { f32: 4, f16: 2, i8: 1, i4: 0.5 };

/** Taking and clearing the pages of that many positions. */
export function reserveSeconds({ subject, setting }: Contender, positions: number): number {
  const { layers, width, heads, kvHeads, projection } = modelOf(subject);
  const streams = projection === 'QKV' || projection === 'Q=K-V' ? 2 : 1;
  const bytes = positions * layers * streams * width / heads * kvHeads *
    cacheElement[setting.cacheType];
  return Math.min(bytes, 4e9) / rates.clear;
}
