// Suite of perplexities: each model and cache type on one text, in windows of one length.
import { OneKVError } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { scoreDocument, scoreText, splitDocuments } from './perplexity.js';
import type { Pause, Score } from './perplexity.js';
import type { Batch, Case } from './runner.js';
import { Stable, labelsOf } from './subjects.js';
import type { Contender } from './subjects.js';

export interface QualityOptions {
  /** Documents between lines <|end|> or <|endoftext|> are scored one by one. */
  text: string;
  /** Only so many tokens of it, about. */
  tokens: number;
  /** Window in tokens; default and maximum: the model's. */
  context?: number;
  pause: Pause;
}

/** Characters of text that the shipped models read in a second, about. */
const charactersPerSecond = 30e3;

interface Found extends Score {
  textBytes: number;
}

const byteCount = (text: string) => new TextEncoder().encode(text).length;

async function scoreDocuments(model: Model, documents: readonly string[],
  { tokens, context, pause }: QualityOptions): Promise<Found> {
  const { tokenizer } = model;
  const [end] = tokenizer.ends;
  const sum = { logprob: 0, tokens: 0, textBytes: 0 };
  const session = model.openSession({ contextWindow: context });
  for (const text of documents) {
    if (sum.tokens >= tokens) break;
    const begin = tokenizer.bos ?? end;
    const ids = [...(begin === undefined ? [] : [begin]),
      ...tokenizer.encode(text, { begin: false }), ...(end === undefined ? [] : [end])];
    await scoreDocument(session, ids, sum, pause);
    sum.textBytes += byteCount(text);
  }
  session.destroy();
  return sum;
}

async function scoreWhole(model: Model, { text, tokens, context, pause }: QualityOptions):
  Promise<Found> {
  const { tokenizer } = model;
  const ids = tokenizer.encode(text).slice(0, tokens);
  const sum = { logprob: 0, tokens: 0, textBytes: byteCount(tokenizer.decode(ids)) };
  const session = model.openSession({ contextWindow: context });
  await scoreText(session, ids, Math.max(1, session.contextWindow >> 1), sum, pause);
  session.destroy();
  return sum;
}

async function score(model: Model, options: QualityOptions): Promise<Found> {
  const documents = splitDocuments(options.text);
  const found = documents.length > 1 ? await scoreDocuments(model, documents, options)
    : await scoreWhole(model, options);
  if (found.tokens > 0) return found;
  throw new OneKVError('INVALID_ARGUMENT', 'the text has fewer than two tokens');
}

/** Perplexity per token, and bits per byte, which models of any tokenizer have in common. */
export function qualityBatch(contender: Contender, options: QualityOptions): Batch {
  const stable = new Stable();
  const labels = { suite: 'quality', ...labelsOf(contender), better: 'less' } as const;
  let found: Found | undefined;
  const figure = (name: string, unit: string, value: (sum: Found) => number): Case => ({
    labels: { ...labels, name, unit },
    exact: true,
    seconds: Math.min(options.text.length, 4 * options.tokens) / charactersPerSecond / 3,
    async run() {
      found ??= await score(stable.model(contender), options);
      return { value: value(found) };
    },
  });
  return {
    title: `quality: ${contender.subject.title}, ${contender.setting.cacheType}`,
    cases: [
      figure('perplexity', 'per token', (sum) => Math.exp(-sum.logprob / sum.tokens)),
      figure('bits per byte', 'bits', (sum) => -sum.logprob / Math.LN2 / sum.textBytes),
      { ...figure('tokens scored', 'tokens', (sum) => sum.tokens),
        labels: { ...labels, name: 'tokens scored', unit: 'tokens', better: 'none' } },
    ],
    open: async () => {
      await stable.load(contender);
    },
    close: () => stable.close(),
  };
}
