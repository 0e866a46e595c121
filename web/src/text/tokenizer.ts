// Text to token ids and back, from the keys of a GGUF file.
//
// Words are cut and merged by @huggingface/tokenizers, set up as the model's own tokenizer.json
// would: byte-level BPE ('gpt2') with the cut of each known name, BPE with byte fallback
// ('gemma4'), SentencePiece ('llama') as the latter with merges derived from the scores, and
// WordPiece ('bert'). Two things are done here, because they have to be exact for streams and for
// hostile text: special tokens are found in the text only when asked for, and ids become bytes,
// not strings, so that a character that spans tokens is never cut.
import { Tokenizer as Pipeline } from '@huggingface/tokenizers';
import { OneKVError, reasonOf } from '../api/errors.js';
import { checkOptions } from '../api/options.js';
import type { NamesOf } from '../api/options.js';
import { SPACE_MARK, kindOf } from './tokenizer-kinds.js';
import { CONTROL, UNKNOWN, USER_DEFINED, idsOfType } from './keys.js';
import type { TextKeys } from './keys.js';
import { escapeForPattern, unmarkedEnd, withoutMarks } from './plain-marks.js';

/** How models write the end of a text or turn; files often name only one of those they have. */
const endings = ['<|im_end|>', '<|eot_id|>', '<|end_of_text|>', '<|endoftext|>', '<|end|>',
  '<|eom_id|>', '<end_of_turn>', '<turn|>', '<eos>', '<EOT>',
  '<|tool_response>', '<start_function_response>',
  '<\uff5cend\u2581of\u2581sentence\uff5c>'];

export interface EncodeOptions {
  /** Text of control tokens ("<|im_end|>") stands for them; default false: it is plain text, as
   * it must be for what users write. User-defined tokens are found in any case. */
  special?: boolean | undefined;
  /** The text is marked (plain-marks.ts): what is marked does not stand for a control token, with
   * `special` either; default false. */
  marked?: boolean | undefined;
  /** Puts the beginning-of-text token in front where the file says so; default true. */
  begin?: boolean | undefined;
  /** Puts the separator or end-of-text token behind where the file says so, as texts to embed
   * have it; default false. */
  end?: boolean | undefined;
}

const encodeNames: NamesOf<EncodeOptions> = {
  special: 'boolean', marked: 'boolean', begin: 'boolean', end: 'boolean',
};

export interface DecodeOptions {
  /** Shows the text of control tokens too; default false. */
  special?: boolean | undefined;
}

const decodeNames: NamesOf<DecodeOptions> = { special: 'boolean' };

export interface StreamOptions extends DecodeOptions {
  /** The ids go on from others: a space in front is part of the text; default false. */
  continues?: boolean | undefined;
}

const streamNames: NamesOf<StreamOptions> = { ...decodeNames, continues: 'boolean' };

/** The bytes that characters of a byte-level vocabulary stand for (GPT-2's table). */
function byteOfCharacter(): Map<string, number> {
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const shows = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    map.set(String.fromCharCode(shows ? byte : next++), byte);
  }
  return map;
}

export class Tokenizer {
  /** Tokens that the vocabulary has. */
  readonly size: number;
  /** Beginning of text; undefined when the file names none. */
  readonly bos: number | undefined;
  /** Ends of text or of a turn: a reply is over when one of them comes. */
  readonly ends: ReadonlySet<number>;
  /** A text begins with `bos`. */
  readonly addsBos: boolean;
  /** What stands behind a text to embed; undefined where the file asks for nothing. */
  readonly last: number | undefined;
  readonly #keys: TextKeys;
  readonly #isMarked: boolean;
  readonly #pipeline: Pipeline;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #control: ReadonlySet<number>;
  readonly #literal: ReadonlySet<number>;
  readonly #anySpecial: RegExp | undefined;
  readonly #unmarked: RegExp | undefined;
  readonly #userDefined: RegExp | undefined;
  readonly #bytes = byteOfCharacter();
  readonly #encoder = new TextEncoder();
  /** A space that stands for the start of the text only (SentencePiece, WordPiece). */
  readonly dropsFirstSpace: boolean;
  /** Most UTF-16 units of text that one token can stand for. */
  readonly #unitsMost: number;

  /** Error: UNSUPPORTED_TOKENIZER names the key and its value. */
  constructor(keys: TextKeys | undefined) {
    if (keys === undefined) {
      throw new OneKVError('UNSUPPORTED_TOKENIZER',
        'the file has no tokenizer: tokenizer.ggml.model or .tokens is missing');
    }
    this.#keys = keys;
    this.size = keys.tokens.length;
    this.bos = this.#checkId('bos_token_id', keys.bos) ??
      this.#checkId('cls_token_id', keys.first);
    this.ends = this.#findEnds();
    const { pipeline, isMarked, dropsFirstSpace, addsBos, addsSeparator } = kindOf(keys);
    this.#isMarked = isMarked;
    this.dropsFirstSpace = dropsFirstSpace;
    this.addsBos = this.bos !== undefined && addsBos;
    this.last = addsSeparator ? this.#checkId('seperator_token_id', keys.separator)
      : keys.addEos ? this.#checkId('eos_token_id', keys.eos) : undefined;
    const userDefined = new Set(idsOfType(keys, USER_DEFINED));
    this.#control = new Set(idsOfType(keys, CONTROL, UNKNOWN));
    this.#literal = new Set([...this.#control, ...userDefined]);
    this.#ids = new Map(keys.tokens.map((token, id) => [token, id]));
    this.#unitsMost = this.#findUnitsMost();
    this.#anySpecial = this.#pattern(this.#literal);
    this.#unmarked = this.#pattern(this.#literal, unmarkedEnd);
    this.#userDefined = this.#pattern(userDefined);
    try {
      this.#pipeline = new Pipeline(pipeline.tokenizer, pipeline.config);
    } catch (error) {
      throw new OneKVError('UNSUPPORTED_TOKENIZER', `the tokenizer's keys: ${reasonOf(error)}`,
        { cause: error });
    }
  }

  #checkId(name: string, id: number | undefined): number | undefined {
    // 2^32 - 1 is how some converters write "none".
    if (id === undefined || id === 0xffffffff) return undefined;
    if (Number.isInteger(id) && id >= 0 && id < this.size) return id;
    throw new OneKVError('UNSUPPORTED_TOKENIZER',
      `tokenizer.ggml.${name}: found ${id}, expected 0 to ${this.size - 1}`);
  }

  #findEnds(): ReadonlySet<number> {
    const { eos, eot, tokens } = this.#keys;
    const ends = [this.#checkId('eos_token_id', eos), this.#checkId('eot_token_id', eot)];
    for (const text of endings) {
      const id = tokens.indexOf(text);
      if (id >= 0 && this.#keys.types?.[id] === CONTROL) ends.push(id);
    }
    return new Set(ends.filter((id) => id !== undefined));
  }

  /** A character of a vocabulary stands for one UTF-16 unit at most: where tokens are written as
   * bytes, for one byte. Infinite where text can vanish: bytes that a vocabulary has no token for
   * are left out. */
  #findUnitsMost(): number {
    const { model, tokens } = this.#keys;
    const isComplete = model === 'llama' ||
      (model === 'gpt2' && [...this.#bytes.keys()].every((c) => this.#ids.has(c)));
    if (!isComplete) return Number.POSITIVE_INFINITY;
    const longest = tokens.reduce((most, { length }) => Math.max(most, length), 1);
    // NFC, which some kinds apply first, puts at most four units together.
    return 4 * longest;
  }

  /** Finds the longest of these tokens' texts at each place; `end`: what is to follow it. */
  #pattern(ids: ReadonlySet<number>, end = ''): RegExp | undefined {
    const texts = [...ids].map((id) => this.#keys.tokens[id] as string).filter(Boolean);
    if (texts.length === 0) return undefined;
    texts.sort((a, b) => b.length - a.length);
    return new RegExp(`(${texts.map(escapeForPattern).join('|')})${end}`, 'u');
  }

  /** Text to ids. Bytes that the vocabulary lacks and has no token for are left out. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const { special = false, marked = false, begin = true, end = false } =
      checkOptions('encode', options, encodeNames);
    const ids = begin && this.addsBos ? [this.bos as number] : [];
    const pattern = !special ? this.#userDefined : marked ? this.#unmarked : this.#anySpecial;
    // Every second part is a special token's text.
    const parts = pattern === undefined ? [text] : text.split(pattern);
    parts.forEach((part, i) => {
      if (part === '') return;
      if (i % 2 === 1) ids.push(this.#ids.get(part) as number);
      else for (const id of this.#encodePlain(marked ? withoutMarks(part) : part)) ids.push(id);
    });
    if (end && this.last !== undefined) ids.push(this.last);
    return ids;
  }

  /** What encode gives at least for a text of that length (String.length), without the work. */
  leastTokens(length: number): number {
    return Math.ceil(length / this.#unitsMost);
  }

  #encodePlain(text: string): number[] {
    const { ids } = this.#pipeline.encode(text, { add_special_tokens: false }) as
      { ids: (number | undefined)[] };
    return ids.filter((id) => id !== undefined);
  }

  /** Ids to text. Bytes that are not a whole character are shown as U+FFFD. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const stream = this.stream(checkOptions('decode', options, decodeNames));
    let text = '';
    for (const id of ids) text += stream.push(id);
    return text + stream.end();
  }

  /** Ids to text piece by piece; no piece ends inside a character. */
  stream(options: StreamOptions = {}): TextStream {
    return new TextStream(this, checkOptions('stream', options, streamNames));
  }

  /** The token as its vocabulary writes it. */
  textOf(id: number): string | undefined {
    return this.#keys.tokens[id];
  }

  /** The id of a token as its vocabulary writes it. */
  idOf(text: string): number | undefined {
    return this.#ids.get(text);
  }

  isControl(id: number): boolean {
    return this.#control.has(id);
  }

  /** The bytes that a token stands for, none for an id outside the vocabulary. */
  bytesOf(id: number): Uint8Array {
    const token = this.#keys.tokens[id] ?? '';
    if (this.#literal.has(id)) return this.#encoder.encode(token);
    if (this.#isMarked) {
      const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
      return this.#encoder.encode(token.replaceAll(SPACE_MARK, ' '));
    }
    const bytes = Array.from(token, (character) => this.#bytes.get(character));
    // A token with a character outside the table was written as plain text.
    return bytes.includes(undefined) ? this.#encoder.encode(token)
      : Uint8Array.from(bytes as number[]);
  }
}

/** Turns ids into text as they come. */
export class TextStream {
  readonly #tokenizer: Tokenizer;
  readonly #special: boolean;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #dropsSpace: boolean;

  /** @internal */
  constructor(tokenizer: Tokenizer, options: StreamOptions) {
    this.#tokenizer = tokenizer;
    this.#special = options.special ?? false;
    this.#dropsSpace = tokenizer.dropsFirstSpace && options.continues !== true;
  }

  /** The text that this token completes, '' while a character is not whole. */
  push(id: number): string {
    const hidden = this.#tokenizer.isControl(id) && !this.#special;
    return hidden ? '' : this.#shown(this.#decoder.decode(this.#tokenizer.bytesOf(id),
      { stream: true }));
  }

  /** What is left: a character that stayed incomplete shows as U+FFFD. */
  end(): string {
    return this.#shown(this.#decoder.decode());
  }

  #shown(text: string): string {
    if (!this.#dropsSpace || text === '') return text;
    this.#dropsSpace = false;
    return text.startsWith(' ') ? text.slice(1) : text;
  }
}
