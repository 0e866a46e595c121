// onekv eval: perplexity of a model on a text, with everything that is needed to repeat it.
//
// The text's ids (after the beginning-of-text token, where the file asks for one) are cut into
// windows of `context` tokens that start `stride` tokens apart. Each window is read afresh, and
// those of its tokens are scored that no window before it has scored: every token but the first is
// scored once, with at least context - stride tokens before it, once the first window is full.
import { readFileSync } from 'node:fs';
import type { Model } from '../src/node.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { Progress } from './progress.js';
import { engineOptions, engineReport, modelOptions, note, openModel, outputOptions, parseIds,
  readText, variant, write, writeJson } from './shared.js';
import { interrupted } from './signals.js';
import { digits, table } from './units.js';

interface Input {
  ids: number[];
  /** Of the text as UTF-8; undefined for ids. */
  textBytes: number | undefined;
}

/** The file's text, or the text itself when there is no such file. */
function textOf(argument: string): string {
  try {
    return readFileSync(argument === '-' ? 0 : argument, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && /\s/.test(argument)) return argument;
    return readText(argument);
  }
}

function readInput(values: Values, model: Model): Input {
  const ids = values.text('ids');
  const text = values.text('text');
  if ((ids === undefined) === (text === undefined)) throw new UsageError('give --text or --ids');
  if (ids !== undefined) return { ids: parseIds(ids), textBytes: undefined };
  const read = textOf(text as string);
  return { ids: model.tokenizer.encode(read), textBytes: new TextEncoder().encode(read).length };
}

interface Sum {
  /** Natural logarithm, summed. */
  logprob: number;
  tokens: number;
}

/** Lets the event loop hear an interrupt between windows. */
async function score(model: Model, ids: readonly number[], context: number, stride: number,
  onProgress: (done: number, total: number) => void): Promise<Sum> {
  const session = model.openSession({ contextLength: context });
  const sum = { logprob: 0, tokens: 0 };
  let scored = 1; // The first token has nothing before it.
  for (let start = 0; scored < ids.length; start += stride) {
    interrupted.throwIfAborted();
    const end = Math.min(ids.length, start + context);
    session.truncate(0);
    const logprobs = session.score(ids.slice(start, end));
    for (let i = scored; i < end; i++) sum.logprob += logprobs[i - start] as number;
    sum.tokens += end - scored;
    scored = end;
    onProgress(scored, ids.length);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  session.destroy();
  return sum;
}

function figures(sum: Sum, textBytes: number | undefined): Record<string, number> {
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

async function run(values: Values): Promise<number> {
  const { engine, model, path, loadMs } = await openModel(values, interrupted);
  try {
    const { ids, textBytes } = readInput(values, model);
    const most = Math.min(model.description.contextLength,
      values.integer('context', 2, 2 ** 31 - 1) ?? Number.POSITIVE_INFINITY);
    const stride = values.integer('stride', 1, most - 1) ?? Math.max(1, Math.floor(most / 2));
    if (ids.length < 2) throw new UsageError('the text has less than two tokens');
    const progress = new Progress('scoring');
    const started = performance.now();
    const sum = await score(model, ids, most, stride, (done, total) => progress.show(done, total));
    const ms = performance.now() - started;
    progress.clear();
    const results = figures(sum, textBytes);
    const settings = { tokens: sum.tokens, textBytes, context: most, stride };
    if (values.flag('json')) {
      const cacheType = values.text('cache-type') ?? 'f16';
      await writeJson({ model: path, hash: model.hash, cacheType,
        ...settings, ...results, loadMs, ms, engine: engineReport(engine) });
      return 0;
    }
    if (!values.flag('quiet')) note(`${model.name ?? path}: ${variant(model.description)}`);
    await write(`${table([
      ...Object.entries(settings).map(([name, value]) => [name, String(value ?? 'unknown')]),
      ...Object.entries(results).map(([name, value]) => [name, value.toFixed(4)]),
    ])}\n`);
    if (!values.flag('quiet')) note(`${digits(sum.tokens / ms * 1000)} tokens/s`);
    return 0;
  } finally {
    engine.destroy();
  }
}

export const evaluate: Command = {
  name: 'eval',
  summary: 'perplexity on a text, per token and per byte',
  usage: 'FILE --text T [options]',
  details: 'Windows of --context tokens start --stride tokens apart and are read afresh; every ' +
    'token but the first is scored once.',
  options: [
    { name: 'text', short: 't', value: 'T', help: 'a text file, - for stdin, or the text itself' },
    { name: 'ids', value: 'IDS', help: 'token ids instead of text, for models without tokenizer' },
    { name: 'stride', value: 'N', help: 'tokens from window to window (default: half a context)' },
    ...modelOptions, ...engineOptions, ...outputOptions,
  ],
  run,
};
