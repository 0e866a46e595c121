// How the next token is chosen, checked and put where the module reads it.
import type { Model } from './model.js';
import { samplingNames } from '../api/sampling.js';
import type { SamplingOptions } from '../api/sampling.js';
import { biasesMax, samplingFields } from './bindings.js';
import { checkInteger, checkNumber, checkOneOf, invalidArgument } from '../api/errors.js';

/** In the order of core/net/sampler.h. */
const samplerOrders = ['temperature-first', 'temperature-last'] as const;

/** As core/net/sampler.c checks them again. */
const ranges = {
  temperature: [0, 100], topK: [0, 2 ** 32 - 1], topP: [0, 1], minP: [0, 1],
  repetitionPenalty: [0, 10], presencePenalty: [-100, 100], frequencyPenalty: [-100, 100],
  penaltyWindow: [0, 256],
} as const;
/** What is nearer to 0 would become 0 in 32 bits, which often stands for another thing, or make a
 * logit that it divides infinite. */
export const smallest = 1e-30;

function checkField(name: keyof typeof ranges, value: unknown): number {
  const [least, most] = ranges[name];
  if (name === 'topK' || name === 'penaltyWindow') return checkInteger(name, value, least, most);
  const number = checkNumber(name, value, least, most);
  if (number === 0 || Math.abs(number) >= smallest) return number;
  throw invalidArgument(name, value, `0, or a number that is at least ${smallest} away from it`);
}

interface StagedSampling {
  /** Address of the biases, in the staging buffer. */
  biases: number;
  /** As the signed 64-bit integer that wasm takes. */
  seed: bigint;
}

function checkSeed(seed: unknown): bigint {
  const isInteger = typeof seed === 'bigint' ||
    (typeof seed === 'number' && Number.isInteger(seed));
  if (isInteger && seed >= 0 && BigInt(seed) < 1n << 64n) return BigInt.asIntN(64, BigInt(seed));
  throw invalidArgument('seed', seed, 'an integer from 0 to 2^64 - 1');
}

/** An integer that a number holds exactly. */
function randomSeed(): number {
  const [low = 0, high = 0] = crypto.getRandomValues(new Uint32Array(2));
  return low + 2 ** 32 * (high & 0x1fffff);
}

function biasEntries(bias: SamplingOptions['logitBias'], tokens: number): [number, number][] {
  if (bias === undefined) return [];
  if (typeof bias !== 'object' || bias === null || (Array.isArray(bias) && bias.length > 0)) {
    throw invalidArgument('logitBias', bias, 'a map or an object');
  }
  const entries = bias instanceof Map ? [...bias as ReadonlyMap<number, number>]
    : Object.entries(bias).map(([token, value]): [number, number] =>
      [(/^\d+$/.test(token) ? Number(token) : token) as number, value]);
  if (entries.length > biasesMax) {
    throw invalidArgument('logitBias', `${entries.length} tokens`, `at most ${biasesMax}`);
  }
  for (const [token, value] of entries) {
    checkInteger('logitBias, a token', token, 0, tokens - 1);
    if (value === Number.NEGATIVE_INFINITY) continue;
    if (typeof value !== 'number' || !Number.isFinite(Math.fround(value))) {
      throw invalidArgument(`logitBias of ${token}`, value, 'a number of 32 bits, or -Infinity');
    }
  }
  return entries;
}

/** Of an object with other things in it, what is about sampling. */
export function pickSampling(options: object): SamplingOptions {
  return Object.fromEntries(Object.entries(options).filter(([name, value]) =>
    value !== undefined && Object.hasOwn(samplingNames, name)));
}

/**
 * Writes the options into the module's numbers and its staging buffer, for the next call.
 * Error: INVALID_ARGUMENT.
 */
export function stageSampling({ bindings, description }: Model,
  options: SamplingOptions): StagedSampling {
  // Without a temperature nothing is drawn, and equal sessions are to be equal.
  const { seed: given = options.temperature ? randomSeed() : 0,
    samplerOrder = 'temperature-first' } = options;
  const seed = checkSeed(given);
  const order = samplerOrders.indexOf(checkOneOf('samplerOrder', samplerOrder, samplerOrders));
  const biases = biasEntries(options.logitBias, description.vocabulary);
  const numbers = bindings.numbers(samplingFields.length);
  samplingFields.forEach((name, i) => {
    const { [name as keyof SamplingOptions]: value = 0 } = options;
    numbers[i] = name === 'biases' ? biases.length : name === 'order' ? order
      : checkField(name, value);
  });
  const ints = bindings.ints(bindings.staging, biases.length * 2);
  const floats = bindings.floats(bindings.staging, biases.length * 2);
  biases.forEach(([token, value], i) => {
    ints[2 * i] = token;
    floats[2 * i + 1] = value;
  });
  return { biases: bindings.staging, seed };
}
