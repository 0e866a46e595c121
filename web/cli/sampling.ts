// How the commands that write choose their tokens.
import type { SamplingOptions } from '../src/engine-entry-node.js';
import { UsageError } from './arguments.js';
import type { Option, Values } from './arguments.js';
import { findModel } from './model-file.js';

export const samplingOptions: readonly Option[] = [
  { name: 'temperature', aliases: ['temp'], value: 'T',
    help: '0: always the likeliest token (default 0.7)' },
  { name: 'top-k', value: 'K', help: 'only the K likeliest tokens (default 0: all)' },
  { name: 'top-p', value: 'P', help: 'only the likeliest tokens that together have this ' +
    'probability (default 0.95)' },
  { name: 'min-p', value: 'P', help: "only tokens of this share of the likeliest one's " +
    'probability (default 0)' },
  { name: 'repetition-penalty', aliases: ['repeat-penalty'], value: 'R', help: 'above 1: ' +
    'tokens of the last 64 become less likely (default 0: none)' },
  { name: 'sampler-order', value: 'ORDER', help: 'temperature-first (default) or ' +
    'temperature-last: before or after the unlikely tokens are cut off' },
  { name: 'seed', short: 's', value: 'N', help: 'the same seed gives the same text (default: ' +
    'random)' },
];

/** Of the session, not of the choice: the text is the same. */
export const draftOption: Option = { name: 'draft', value: 'MODE|FILE', help: 'lookup: guesses ' +
  'that what was in the text comes again; FILE: a smaller model with the same tokens guesses; ' +
  'same answer, faster where guesses are right (default off)' };

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

export function readSampling(values: Values): SamplingOptions {
  const seed = values.integer('seed', 0, Number.MAX_SAFE_INTEGER);
  return {
    temperature: values.number('temperature', 0, 100) ?? 0.7,
    topK: values.integer('top-k', 0, 2 ** 31 - 1) ?? 0,
    topP: values.number('top-p', 0, 1) ?? 0.95,
    minP: values.number('min-p', 0, 1) ?? 0,
    repetitionPenalty: values.number('repetition-penalty', 0, 100) ?? 0,
    samplerOrder: values.choice('sampler-order', ['temperature-first', 'temperature-last']) ??
      'temperature-first',
    seed,
  };
}
