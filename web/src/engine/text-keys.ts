// Reads what a file says about text while its header is there.
import type { TextKeys } from '../text/keys.js';
import type { Metadata } from './metadata.js';

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
    separator: metadata.number(key('seperator_token_id')), // the format's spelling
    first: metadata.number(key('cls_token_id')),
    addBos: metadata.boolean(key('add_bos_token')),
    addEos: metadata.boolean(key('add_eos_token')),
    addSeparator: metadata.boolean(key('add_sep_token')),
    lowercase: metadata.boolean(key('normalizer.lowercase')),
    stripAccents: metadata.boolean(key('normalizer.strip_accents')),
    addSpacePrefix: metadata.boolean(key('add_space_prefix')),
    chatTemplate: metadata.string('tokenizer.chat_template'),
  };
}
