// The kinds of tokenizers, as the tokenizer.json that the models of each kind publish.
import { OneKVError } from '../api/errors.js';
import type { TextKeys } from './keys.js';

/** What SentencePiece writes for a space. */
export const SPACE_MARK = '\u2581';

/** A tokenizer.json and its configuration, for @huggingface/tokenizers. */
export interface PipelineFile {
  tokenizer: object;
  config: object;
}

type Steps = Record<string, unknown>[];

const byteLevel = (usesPattern: boolean) => ({
  type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: usesPattern,
});

/** Llama 3's and Qwen 2's cut into words; they differ in how many digits stand together. */
function wordSplit(digits: string): Record<string, unknown> {
  const pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" + digits +
    '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

/** The step "Digits" of tokenizer.json as its authors run it: on every character of the class N.
 * The library's own step of that name knows the decimal digits only. */
const eachNumber = {
  type: 'Split', pattern: { Regex: '\\p{N}' }, behavior: 'Isolated', invert: false,
};

/** By tokenizer.ggml.pre. */
const preTokenizers: Record<string, Steps> = {
  'gpt-2': [byteLevel(true)],
  smollm: [eachNumber, byteLevel(true)],
  'llama-bpe': [wordSplit('{1,3}'), byteLevel(false)],
  qwen2: [wordSplit(''), byteLevel(false)],
};

function unsupported(key: string, found: unknown, known: string[]): OneKVError {
  return new OneKVError('UNSUPPORTED_TOKENIZER',
    `tokenizer.ggml.${key}: found ${JSON.stringify(found)}, expected ${known.join(', ')}`);
}

// fromEntries, not a literal: a token may be called __proto__.
const vocabularyOf = (tokens: string[]) =>
  Object.fromEntries(tokens.map((token, id) => [token, id]));

const isPair = (merge: string) => merge.split(' ').length === 2 && !/^ | $/.test(merge);

function byteLevelBpe(keys: TextKeys): PipelineFile {
  const { pre = 'gpt-2', merges } = keys;
  const steps = Object.hasOwn(preTokenizers, pre) ? preTokenizers[pre] : undefined;
  if (steps === undefined) throw unsupported('pre', pre, Object.keys(preTokenizers));
  const wrong = merges?.findIndex((merge) => !isPair(merge)) ?? 0;
  if (merges === undefined || wrong >= 0) {
    throw new OneKVError('UNSUPPORTED_TOKENIZER', `tokenizer.ggml.merges: found ` +
      `${JSON.stringify(merges?.[wrong])} at ${wrong}, expected two tokens with a blank between`);
  }
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: pre === 'qwen2' ? { type: 'NFC' } : null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: steps },
      post_processor: null,
      decoder: null,
      model: {
        type: 'BPE',
        vocab: vocabularyOf(keys.tokens),
        merges: merges.map((merge) => merge.split(' ')),
        ignore_merges: pre === 'llama-bpe',
      },
    },
    config: {},
  };
}

/** Every pair of pieces that makes a piece, in the order in which SentencePiece would merge. */
function mergesFromScores(tokens: string[], scores: number[]): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { pair: [string, string]; score: number }[] = [];
  tokens.forEach((token, id) => {
    const score = scores[id] as number;
    const characters = Array.from(token);
    for (let at = 1; at < characters.length; at++) {
      const pair: [string, string] =
        [characters.slice(0, at).join(''), characters.slice(at).join('')];
      if (pair.every((piece) => ids.has(piece))) merges.push({ pair, score });
    }
  });
  return merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}

function sentencePiece(keys: TextKeys): PipelineFile {
  const { tokens, scores, unknown } = keys;
  if (scores?.length !== tokens.length) {
    throw new OneKVError('UNSUPPORTED_TOKENIZER',
      `tokenizer.ggml.scores: found ${scores?.length ?? 'none'}, expected ${tokens.length}`);
  }
  const prefix = keys.addSpacePrefix ?? true;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_MARK };
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: {
        type: 'Sequence',
        normalizers: [...(prefix ? [{ type: 'Prepend', prepend: SPACE_MARK }] : []), replace],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: {
        type: 'BPE',
        vocab: vocabularyOf(tokens),
        merges: mergesFromScores(tokens, scores),
        unk_token: tokens[unknown ?? 0] ?? null,
        byte_fallback: true,
      },
    },
    config: {},
  };
}

/** Error: UNSUPPORTED_TOKENIZER names the key and what was found. */
export function pipelineOf(keys: TextKeys): PipelineFile {
  if (keys.model === 'gpt2') return byteLevelBpe(keys);
  if (keys.model === 'llama') return sentencePiece(keys);
  throw unsupported('model', keys.model, ['gpt2', 'llama']);
}
