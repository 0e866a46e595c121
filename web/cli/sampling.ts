// How the commands that write choose their tokens.
import type { SamplingOptions } from '../src/engine-entry-node.js';
import { smallest } from '../src/engine/sampling.js';
import { UsageError } from './arguments.js';
import type { Option, Values } from './arguments.js';
import { findModel } from './model-file.js';

export const samplingOptions: readonly Option[] = [
  { name: 'temperature', aliases: ['temp'], value: 'T',
    help: '0 always takes the likeliest token; more gives livelier text (default 0.7)' },
  { name: 'top-k', value: 'K', help: 'draw from the K likeliest tokens (default 0: all)' },
  { name: 'top-p', value: 'P', help: 'draw from the likeliest tokens that together have ' +
    'this probability (default 0.95)' },
  { name: 'min-p', value: 'P', help: 'draw from tokens that have at least this share of ' +
    "the likeliest one's probability (default 0: all)" },
  { name: 'repetition-penalty', aliases: ['repeat-penalty'], value: 'R', help: 'above 1 ' +
    'makes the last 64 tokens less likely to come again (default 0: off)' },
  { name: 'sampler-order', value: 'ORDER', help: 'temperature-first (default) or ' +
    'temperature-last: the temperature is applied before or after the unlikely tokens are cut ' +
    'off' },
  { name: 'seed', short: 's', value: 'N', help: 'the same seed gives the same text (default: ' +
    'random)' },
];

/** Of the session, not of the choice: the text is the same. */
export const draftOption: Option = { name: 'draft', value: 'MODE|FILE', help: 'speculative ' +
  'decoding: the same answer, faster where guesses are right. lookup guesses that the text ' +
  'repeats itself; with FILE, a smaller model with the same vocabulary guesses (default off)' };

/** How to guess: a mode, or the file of a model. Error: UsageError: neither. */
export function readDraft(values: Values): { mode: 'off' | 'lookup' } | { file: string } {
  const draft = values.text('draft') ?? 'off';
  if (draft === 'off' || draft === 'lookup') return { mode: draft };
  try {
    return { file: findModel(draft) };
  } catch (error) {
    throw new UsageError(`--draft: found ${JSON.stringify(draft)}, expected off, lookup or a ` +
      `model; ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** As the engine takes them: what is nearer to 0 would become 0 in 32 bits. */
function small(values: Values, name: string, most: number): number | undefined {
  const found = values.number(name, 0, most);
  if (found === undefined || found === 0 || found >= smallest) return found;
  throw new UsageError(`--${name}: found ${found}, expected 0, or ${smallest} at least`);
}

export function readSampling(values: Values): SamplingOptions {
  const seed = values.integer('seed', 0, Number.MAX_SAFE_INTEGER);
  return {
    temperature: small(values, 'temperature', 100) ?? 0.7,
    topK: values.integer('top-k', 0, 2 ** 31 - 1) ?? 0,
    topP: small(values, 'top-p', 1) ?? 0.95,
    minP: small(values, 'min-p', 1) ?? 0,
    repetitionPenalty: small(values, 'repetition-penalty', 10) ?? 0,
    samplerOrder: values.choice('sampler-order', ['temperature-first', 'temperature-last']) ??
      'temperature-first',
    seed,
  };
}
