// How the next token is chosen, checked and put where the module reads it.
import { samplingNames } from '../api/sampling.js';
import type { SamplingOptions } from '../api/sampling.js';
import { biasesMax, samplingFields } from './bindings.js';
import type { Bindings } from './bindings.js';
import { checkInteger, checkOneOf, invalidArgument } from '../api/errors.js';

/** In the order of core/net/sampler.h. */
const samplerOrders = ['temperature-first', 'temperature-last'] as const;

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

function biasEntries(bias: SamplingOptions['logitBias']): [number, number][] {
  if (bias === undefined) return [];
  if (typeof bias !== 'object' || bias === null) {
    throw invalidArgument('logitBias', bias, 'a map or an object');
  }
  const entries = bias instanceof Map ? [...bias as ReadonlyMap<number, number>]
    : Object.entries(bias).map(([token, value]): [number, number] => [Number(token), value]);
  if (entries.length > biasesMax) {
    throw invalidArgument('logitBias', `${entries.length} tokens`, `at most ${biasesMax}`);
  }
  for (const [token, value] of entries) {
    checkInteger('a token of logitBias', token, 0, 2 ** 31 - 1);
    if (typeof value !== 'number' || Number.isNaN(value)) {
      throw invalidArgument(`logitBias of ${token}`, value, 'a number');
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
 * Types are checked here, ranges by core; both give INVALID_ARGUMENT.
 */
export function stageSampling(bindings: Bindings, options: SamplingOptions): StagedSampling {
  // Without a temperature nothing is drawn, and equal sessions are to be equal.
  const seed = checkSeed(options.seed ?? (options.temperature ? randomSeed() : 0));
  const order = samplerOrders.indexOf(
    checkOneOf('samplerOrder', options.samplerOrder ?? 'temperature-first', samplerOrders));
  const biases = biasEntries(options.logitBias);
  const numbers = bindings.numbers(samplingFields.length);
  samplingFields.forEach((name, i) => {
    const value = name === 'biases' ? biases.length
      : name === 'order' ? order : options[name] ?? 0;
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw invalidArgument(name, value, 'a finite number');
    }
    if (name === 'topK' || name === 'penaltyWindow') checkInteger(name, value, 0, 2 ** 32 - 1);
    numbers[i] = value;
  });
  const ints = bindings.ints(bindings.staging, biases.length * 2);
  const floats = bindings.floats(bindings.staging, biases.length * 2);
  biases.forEach(([token, value], i) => {
    ints[2 * i] = token;
    floats[2 * i + 1] = value;
  });
  return { biases: bindings.staging, seed };
}
