// What a file says about text: the tokenizer's keys and the chat template, as plain data, read
// while the header is there. Plain, so that it can also be posted from a worker to its page.
import type { Metadata } from '../engine/metadata.js';

export interface TextKeys {
  /** tokenizer.ggml.model: 'gpt2' (byte-level BPE) or 'llama' (SentencePiece). */
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
  addBos: boolean | undefined;
  addEos: boolean | undefined;
  addSpacePrefix: boolean | undefined;
  chatTemplate: string | undefined;
}

/** undefined when the file has no tokenizer. Error: BAD_KEY for a value of a wrong type. */
export function readTextKeys(metadata: Metadata): TextKeys | undefined {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const model = metadata.string(key('model'));
  const tokens = metadata.strings(key('tokens'));
  if (model === undefined || tokens === undefined) return undefined;
  return {
    model,
    tokens,
    pre: metadata.string(key('pre')),
    types: metadata.numbers(key('token_type')),
    scores: metadata.numbers(key('scores')),
    merges: metadata.strings(key('merges')),
    bos: metadata.number(key('bos_token_id')),
    eos: metadata.number(key('eos_token_id')),
    eot: metadata.number(key('eot_token_id')),
    unknown: metadata.number(key('unknown_token_id')),
    addBos: metadata.boolean(key('add_bos_token')),
    addEos: metadata.boolean(key('add_eos_token')),
    addSpacePrefix: metadata.boolean(key('add_space_prefix')),
    chatTemplate: metadata.string('tokenizer.chat_template'),
  };
}
