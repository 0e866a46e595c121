// What a file says about text: the tokenizer's keys and the chat template, as plain data, read
// while the header is there. Plain, so that it can also be posted from a worker to its page.

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
