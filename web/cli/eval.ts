// onekv eval: perplexity of a model on a text, with everything that is needed to repeat it.
//
// The text's ids (after the beginning-of-text token, where the file asks for one) are cut into
// windows of `context` tokens that start `stride` tokens apart. Each window is read afresh, and
// those of its tokens are scored that no window before it has scored: every token but the first is
// scored once, with at least context - stride tokens before it, once the first window is full.
//
// With --documents the text is documents, and each is scored by itself, as models/train/evaluate.py
// does: an end-of-text token before it and one after it, all tokens but the first scored, a
// document longer than the context cut into windows that do not overlap.
import { existsSync } from 'node:fs';
import { scoreDocument, scoreText, splitDocuments } from '../src/bench/perplexity.js';
import type { Score } from '../src/bench/perplexity.js';
import type { Model } from '../src/engine-entry-node.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { findModel } from './model-file.js';
import { Progress } from './progress.js';
import { checkWrites, dim, engineOptions, engineReport, modelOptions, note, openModel,
  outputOptions, parseIds, readStdin, readText, variant, write, writeJson } from './shared.js';
import { interrupted } from './signals.js';
import { digits, table } from './units.js';

interface Input {
  /** One for the whole text, or one for each document. */
  texts: number[][];
  /** Of the text as UTF-8, without separators; undefined for ids. */
  textBytes: number | undefined;
}

/** Of stdin, of a file, or the argument itself where there is no such file and it has blanks. */
async function textOf(argument: string): Promise<string> {
  if (argument === '-') return readStdin();
  return /\s/.test(argument) && !existsSync(argument) ? argument : readText(argument);
}

function readDocuments(read: string, model: Model): Input {
  const { tokenizer } = model;
  const [end] = tokenizer.ends;
  if (end === undefined) throw new UsageError('--documents needs an end-of-text token');
  const documents = splitDocuments(read);
  return {
    texts: documents.map((text) =>
      [tokenizer.bos ?? end, ...tokenizer.encode(text, { begin: false }), end]),
    textBytes: documents.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
  };
}

/** What the command line gives to score: ids, or a text. Read before a model is loaded, so that a
 * complaint comes at once. */
async function readGiven(values: Values): Promise<number[] | string> {
  const ids = values.text('ids');
  const text = values.text('text');
  if ((ids === undefined) === (text === undefined)) {
    throw new UsageError('give a text file with --text FILE, or token ids with --ids');
  }
  if (values.flag('documents')) {
    if (ids !== undefined) throw new UsageError('--documents needs --text');
    if (values.text('stride') !== undefined) throw new UsageError('--documents has no --stride');
  }
  return ids === undefined ? textOf(text as string) : parseIds(ids);
}

function inputOf(given: number[] | string, values: Values, model: Model): Input {
  if (typeof given !== 'string') return { texts: [given], textBytes: undefined };
  if (values.flag('documents')) return readDocuments(given, model);
  return { texts: [model.tokenizer.encode(given)], textBytes: Buffer.byteLength(given) };
}

/** Lets the event loop hear an interrupt. */
async function pause(): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  interrupted.throwIfAborted();
}

function figures(sum: Score, textBytes: number | undefined): Record<string, number> {
  const nats = -sum.logprob;
  return {
    nats,
    lossPerToken: nats / sum.tokens,
    perplexityPerToken: Math.exp(nats / sum.tokens),
    ...(textBytes === undefined ? {} : {
      perplexityPerByte: Math.exp(nats / textBytes),
      bitsPerByte: nats / Math.LN2 / textBytes,
    }),
  };
}

interface Settings {
  context: number;
  /** Undefined for documents. */
  stride: number | undefined;
}

function readSettings(values: Values, model: Model): Settings {
  const context = Math.min(model.description.contextWindow,
    values.integer('context', 2, 2 ** 31 - 1) ?? Number.POSITIVE_INFINITY);
  const stride = values.integer('stride', 1, context - 1);
  if (values.flag('documents')) return { context, stride: undefined };
  return { context, stride: stride ?? Math.max(1, Math.floor(context / 2)) };
}

/** Tokens to score. */
const scoredOf = (texts: readonly number[][]) =>
  texts.reduce((all, ids) => all + ids.length - 1, 0);

/** An interrupt ends it early: what has been scored by then still counts. */
async function score(model: Model, texts: readonly number[][], { context, stride }: Settings):
  Promise<Score> {
  const total = scoredOf(texts);
  const progress = new Progress('scoring');
  const session = model.openSession({ contextWindow: context });
  const sum = { logprob: 0, tokens: 0 };
  const show = async () => {
    progress.show(sum.tokens, total);
    await pause();
  };
  try {
    for (const ids of texts) {
      if (stride === undefined) await scoreDocument(session, ids, sum, show);
      else await scoreText(session, ids, stride, sum, show);
    }
  } catch (error) {
    if (!interrupted.aborted || sum.tokens === 0) throw error;
  } finally {
    progress.clear();
    session.destroy();
  }
  return sum;
}

const meaning = `A perplexity of 10 means that the model was as unsure of each token as if it had to
guess among 10 equally likely ones: lower is better, 1 is certainty. Compare figures
of the same text only, and per byte if the models have different tokenizers.`;

async function run(values: Values): Promise<number> {
  findModel(values.file());
  const given = await readGiven(values);
  const { engine, model, path, loadMs } = await openModel(values, interrupted);
  try {
    checkWrites(values.file(), model.description);
    const settings = readSettings(values, model);
    const { texts, textBytes } = inputOf(given, values, model);
    if (!texts.some((ids) => ids.length > 1)) {
      throw new UsageError('the text has fewer than two tokens');
    }
    const isQuiet = values.flag('quiet') || values.flag('json');
    if (!isQuiet) note(`${model.name ?? path}: ${variant(model.description)}`);
    const started = performance.now();
    const sum = await score(model, texts, settings);
    const ms = performance.now() - started;
    const isWhole = sum.tokens === scoredOf(texts);
    // Of a part the bytes are not known.
    const results = figures(sum, isWhole ? textBytes : undefined);
    const documents = values.flag('documents') ? { documents: texts.length } : {};
    const about = { tokens: sum.tokens, ...(isWhole ? { textBytes } : { of: scoredOf(texts) }),
      ...documents, ...settings };
    const status = interrupted.aborted ? 130 : 0;
    if (values.flag('json')) {
      const cacheType = values.text('cache-type') ?? 'f16';
      const arithmetic = values.text('arithmetic') ?? 'int8';
      await writeJson({ model: path, hash: model.hash, cacheType, arithmetic,
        ...about, ...results, loadMs, ms, engine: engineReport(engine) });
      return status;
    }
    if (status !== 0 && process.stderr.isTTY) note('');
    await write(`${table([
      ...Object.entries(about).filter(([name, value]) => value !== undefined || name !== 'stride')
        .map(([name, value]) => [name, String(value ?? 'unknown')]),
      ...Object.entries(results).map(([name, value]) => [name, value.toFixed(4)]),
    ])}\n`);
    if (!isQuiet) {
      note(`${digits(sum.tokens / ms * 1000)} tokens/s`);
      note(dim(meaning));
    }
    return status;
  } finally {
    engine.destroy();
  }
}

export const evaluate: Command = {
  name: 'eval',
  summary: 'measure perplexity on a text, per token and per byte',
  usage: 'FILE --text TEXTFILE [options]',
  details: 'The text is read in windows of --context tokens that start --stride tokens apart. ' +
    'Each window is computed from scratch, and every token but the first is scored once. With ' +
    '--documents each document is scored by itself, in windows that do not overlap. Ctrl-C ends ' +
    'it; what was scored by then is still reported.',
  example: 'onekv eval stories-q-mqa --text story.txt',
  options: [
    { name: 'text', short: 'f', value: 'TEXTFILE', help: 'a text file, - for stdin, or ' +
      'the text itself' },
    { name: 'ids', value: 'IDS',
      help: 'token ids instead of text, for models without a tokenizer' },
    { name: 'documents', help: 'the text consists of documents, each ending with a line ' +
      '<|end|> or <|endoftext|>' },
    { name: 'stride', value: 'N', help: 'distance between windows, in tokens (default: half ' +
      'of --context)' },
    ...modelOptions, ...engineOptions, ...outputOptions,
  ],
  computes: true,
  run,
};
