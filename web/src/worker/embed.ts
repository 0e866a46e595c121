// The worker's side of Model.embed: texts to vectors, one text at a time.
//
// Between two texts other calls run and an abort is heard. A text that fails fails the call: the
// error says which one it was.
import type { Embeddings } from '../api/embed.js';
import { OneKVError, checkInteger, checkOneOf, invalidArgument, reasonOf } from '../api/errors.js';
import type { Model } from '../engine/model.js';
import { poolings } from '../engine/description.js';
import { pacedYield } from '../util/event-loop.js';
import type { Args } from '../wire/protocol.js';

function checkTexts(texts: unknown): readonly (string | Int32Array)[] {
  if (!Array.isArray(texts)) throw invalidArgument('texts', texts, 'a list of texts');
  for (const [i, text] of texts.entries() as Iterable<[number, unknown]>) {
    const isText = typeof text === 'string' || text instanceof Int32Array;
    if (!isText || text.length === 0) {
      throw invalidArgument(`texts[${i}]`, text, 'some text, or its token ids');
    }
  }
  return texts as readonly (string | Int32Array)[];
}

const tooLong = (found: string, most: number) => new OneKVError('CONTEXT_FULL',
  `found ${found} tokens, expected at most ${most}; with truncate the rest is left out`);

/** Its ids as the model's texts begin and end, no more than the window holds. */
function idsOf({ tokenizer, contextWindow }: Model, text: string, truncate: boolean): number[] {
  const least = tokenizer.leastTokens(text.length);
  if (!truncate && least > contextWindow) throw tooLong(`at least ${least}`, contextWindow);
  const ids = tokenizer.encode(text, { end: true });
  if (ids.length <= contextWindow) return ids;
  if (!truncate) throw tooLong(String(ids.length), contextWindow);
  const { last } = tokenizer;
  return last === undefined ? ids.slice(0, contextWindow)
    : [...ids.slice(0, contextWindow - 1), last];
}

/** vector /= its length; one of zeros stays. */
function normalise(vector: Float32Array): void {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  if (!Number.isFinite(length)) {
    throw new OneKVError('NOT_FINITE', 'the vector has numbers that are not finite');
  }
  for (let i = 0; length > 0 && i < vector.length; i++) vector[i] = (vector[i] as number) / length;
}

export async function embedTexts(model: Model, args: Args<'embed'>,
  signal: AbortSignal): Promise<Embeddings> {
  const texts = checkTexts(args.texts);
  const { embedding, features, pooling: own } = model.description;
  if (features > 0) {
    throw new OneKVError('WRONG_STATE', "the model's input is features, not text");
  }
  const pooling = args.pooling === undefined ? own
    : checkOneOf('pooling', args.pooling, poolings);
  const dimensions = args.dimensions === undefined ? embedding
    : checkInteger('dimensions', args.dimensions, 1, embedding);
  const pause = pacedYield();
  const all: Embeddings = { vectors: [], tokens: [] };
  for (const [i, text] of texts.entries()) {
    await pause();
    signal.throwIfAborted();
    try {
      const given = typeof text === 'string' ? idsOf(model, text, args.truncate === true) : text;
      const ids = args.truncate === true ? given.slice(0, model.contextWindow) : given;
      const vector = model.embed(ids, pooling).slice(0, dimensions);
      if (args.normalize !== false) normalise(vector);
      all.vectors.push(vector);
      all.tokens.push(ids.length);
    } catch (error) {
      if (!(error instanceof OneKVError)) throw error;
      throw new OneKVError(error.code, `texts[${i}]: ${reasonOf(error)}`, { cause: error });
    }
  }
  return all;
}
