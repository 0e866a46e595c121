// The kinds of tokenizers, as the tokenizer.json that the models of each kind publish.
import { OneKVError } from '../api/errors.js';
import { CONTROL, idsOfType } from './keys.js';
import type { TextKeys } from './keys.js';
import { type PreTokenizer, preTokenizers } from './pre-tokenizers.js';

/** What SentencePiece writes for a space. */
export const SPACE_MARK = '\u2581';

/** A tokenizer.json and its configuration, for @huggingface/tokenizers. */
interface PipelineFile {
  tokenizer: object;
  config: object;
}

/** Names of tokenizer.ggml.pre that are not byte-level: spaces become ▁, bytes have tokens. */
const markedNames = ['gemma4', 'granite-embed-multi-311m', 'sarvam-moe'];

const isMarkedBpe = ({ model, pre = '' }: TextKeys) =>
  model === 'gemma4' || (model === 'gpt2' && markedNames.includes(pre));

function unsupported(key: string, found: unknown, known: string[]): OneKVError {
  return new OneKVError('UNSUPPORTED_TOKENIZER',
    `tokenizer.ggml.${key}: found ${JSON.stringify(found)}, expected ${known.join(', ')}`);
}

/** Without control tokens: no text is one by itself. fromEntries, not a literal: a token may be
 * called __proto__. */
function vocabularyOf(keys: TextKeys, unknown = keys.unknown): Record<string, number> {
  const controls = new Set(idsOfType(keys, CONTROL));
  return Object.fromEntries(keys.tokens.flatMap((token, id) =>
    (controls.has(id) && id !== unknown ? [] : [[token, id]])));
}

const isPair = (merge: string) => merge.split(' ').length === 2 && !/^ | $/.test(merge);

function mergesOf({ merges }: TextKeys): string[][] {
  const wrong = merges?.findIndex((merge) => !isPair(merge)) ?? 0;
  if (merges === undefined || wrong >= 0) {
    throw new OneKVError('UNSUPPORTED_TOKENIZER', `tokenizer.ggml.merges: found ` +
      `${JSON.stringify(merges?.[wrong])} at ${wrong}, expected two tokens with a blank between`);
  }
  return merges.map((merge) => merge.split(' '));
}

const split = (pattern: string) =>
  ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });

function preTokenizerOf(keys: TextKeys): PreTokenizer {
  const { pre = 'gpt-2' } = keys;
  const found = preTokenizers.get(pre);
  if (found === undefined) {
    throw unsupported('pre', pre, [...preTokenizers.keys(), ...markedNames]);
  }
  return found;
}

function byteLevelBpe(keys: TextKeys): PipelineFile {
  const { splits, ignoresMerges = false, composes = false } = preTokenizerOf(keys);
  const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: composes ? { type: 'NFC' } : null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits.map(split), bytes] },
      post_processor: null,
      decoder: null,
      model: {
        type: 'BPE',
        vocab: vocabularyOf(keys),
        merges: mergesOf(keys),
        ignore_merges: ignoresMerges,
      },
    },
    config: {},
  };
}

const replaceSpaces = { type: 'Replace', pattern: { String: ' ' }, content: SPACE_MARK };

/** Gemma 4's: a line is a word, spaces are ▁, and what no token covers is spelt in bytes. */
function markedBpe(keys: TextKeys): PipelineFile {
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: replaceSpaces,
      pre_tokenizer: split('[^\\n]+|[\\n]+'),
      post_processor: null,
      decoder: null,
      model: {
        type: 'BPE', vocab: vocabularyOf(keys), merges: mergesOf(keys), byte_fallback: true,
      },
    },
    config: {},
  };
}

/** Chinese characters beyond those of 16 bits, which the library leaves together. */
const rareHan = '[\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b81f}\\u{2b920}-\\u{2ceaf}' +
  '\\u{2f800}-\\u{2fa1f}]';

/** BERT's words. llama.cpp's converter writes a word's first piece with ▁ in front and the others
 * without their "##". */
function wordPiece(keys: TextKeys): PipelineFile {
  const { tokens, unknown = 100, lowercase = true, stripAccents = lowercase } = keys;
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: {
        type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, lowercase,
        strip_accents: stripAccents,
      },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [split(rareHan), { type: 'BertPreTokenizer' },
          { type: 'Metaspace', replacement: SPACE_MARK, prepend_scheme: 'always' }],
      },
      post_processor: null,
      decoder: null,
      model: {
        type: 'WordPiece', vocab: vocabularyOf(keys, unknown), unk_token: tokens[unknown] ?? null,
        continuing_subword_prefix: '', max_input_chars_per_word: 101,
      },
    },
    config: {},
  };
}

/** Every pair of pieces that makes a piece, in the order in which SentencePiece would merge;
 * `pieces`: tokens that text can become. */
function mergesFromScores(tokens: string[], scores: number[],
  pieces: ReadonlySet<string>): [string, string][] {
  const merges: { pair: [string, string]; score: number }[] = [];
  tokens.forEach((token, id) => {
    if (!pieces.has(token)) return;
    const score = scores[id] as number;
    const characters = Array.from(token);
    for (let at = 1; at < characters.length; at++) {
      const pair: [string, string] =
        [characters.slice(0, at).join(''), characters.slice(at).join('')];
      if (pair.every((piece) => pieces.has(piece))) merges.push({ pair, score });
    }
  });
  return merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair);
}

function sentencePiece(keys: TextKeys): PipelineFile {
  const { tokens, scores, unknown = 0 } = keys;
  if (scores?.length !== tokens.length) {
    throw new OneKVError('UNSUPPORTED_TOKENIZER',
      `tokenizer.ggml.scores: found ${scores?.length ?? 'none'}, expected ${tokens.length}`);
  }
  const prefix = keys.addSpacePrefix ?? true;
  const vocab = vocabularyOf(keys, unknown);
  return {
    tokenizer: {
      added_tokens: [],
      normalizer: {
        type: 'Sequence',
        normalizers: [...(prefix ? [{ type: 'Prepend', prepend: SPACE_MARK }] : []),
          replaceSpaces],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: {
        type: 'BPE',
        vocab,
        merges: mergesFromScores(tokens, scores, new Set(Object.keys(vocab))),
        unk_token: tokens[unknown] ?? null,
        byte_fallback: true,
      },
    },
    config: {},
  };
}

/** What a tokenizer is set up with. */
interface TokenizerKind {
  pipeline: PipelineFile;
  /** Tokens are text with ▁ for a space (and <0x0A> for a byte), not characters for bytes. */
  isMarked: boolean;
  /** The first space is not text: it stands for the beginning of a word. */
  dropsFirstSpace: boolean;
  addsBos: boolean;
  addsSeparator: boolean;
}

/** What the file says, or what llama.cpp takes a file of the kind to mean where it does not say
 * it. Error: UNSUPPORTED_TOKENIZER names the key and what was found. */
export function kindOf(keys: TextKeys): TokenizerKind {
  const { model, addBos, addSeparator = false, addSpacePrefix = true } = keys;
  const marked = { isMarked: true, dropsFirstSpace: false, addsSeparator: addSeparator };
  if (model === 'llama') {
    return { ...marked, pipeline: sentencePiece(keys), dropsFirstSpace: addSpacePrefix,
      addsBos: addBos ?? true };
  }
  // Early files of Gemma 4 say that no text begins with bos, which is wrong.
  if (isMarkedBpe(keys)) return { ...marked, pipeline: markedBpe(keys), addsBos: true };
  if (model === 'bert') {
    return { ...marked, pipeline: wordPiece(keys), dropsFirstSpace: true, addsBos: true,
      addsSeparator: true };
  }
  if (model !== 'gpt2') throw unsupported('model', model, ['gpt2', 'llama', 'gemma4', 'bert']);
  const kind = preTokenizerOf(keys);
  return { pipeline: byteLevelBpe(keys), isMarked: false, dropsFirstSpace: false,
    addsBos: addBos ?? kind.addsBos ?? false,
    addsSeparator: keys.addSeparator ?? kind.addsSeparator ?? false };
}
