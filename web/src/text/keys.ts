// What a file says about text: the tokenizer's keys and the chat template, as plain data, read
// while the header is there. Plain, so that it can also be posted from a worker to its page.

export interface TextKeys {
  /** tokenizer.ggml.model: 'gpt2' (byte-level BPE), 'llama' (SentencePiece), 'gemma4' (BPE with
   * bytes as tokens) or 'bert' (WordPiece). */
  model: string;
  /** tokenizer.ggml.pre: how text is split into words. */
  pre: string | undefined;
  tokens: string[];
  /** Token types by id (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte). */
  types: number[] | undefined;
  scores: number[] | undefined;
  merges: string[] | undefined;
  bos: number | undefined;
  eos: number | undefined;
  eot: number | undefined;
  unknown: number | undefined;
  /** What ends a text and parts two, for BERT and its like. */
  separator: number | undefined;
  /** What some files name in place of `bos`. */
  first: number | undefined;
  addBos: boolean | undefined;
  addEos: boolean | undefined;
  addSeparator: boolean | undefined;
  addSpacePrefix: boolean | undefined;
  lowercase: boolean | undefined;
  stripAccents: boolean | undefined;
  chatTemplate: string | undefined;
}

/** Token types as GGUF numbers them. */
export const UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4;

/** Ids of these types, in order. */
export function idsOfType({ tokens, types }: Pick<TextKeys, 'tokens'> &
  Partial<Pick<TextKeys, 'types'>>, ...wanted: readonly number[]): number[] {
  return tokens.flatMap((_, id) => (wanted.includes(types?.[id] ?? 1) ? [id] : []));
}
