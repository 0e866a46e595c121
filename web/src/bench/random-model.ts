// A GGUF file of random weights, as a stream: any shape and variant without a download.
//
// The file is ordinary (models/FORMAT.md): with projection QKV, or expanded, every runtime of its
// architecture loads it. Tensors are made row by row while the stream is read, so that a file of
// gigabytes takes a megabyte of memory here. An expanded file holds the very rows of the shared
// one.
import type { OpenedSource } from '../api/source.js';
import { aligned, ggufHeader } from './gguf-writer.js';
import type { KeyValue } from './gguf-writer.js';
import { RowMaker, elementTypes, hashName, rowBytes } from './random-rows.js';
import type { ShapeType, ShapedModel } from './shapes.js';
import { titleOf } from './shapes.js';

interface RandomTensor {
  /** Without .weight or .bias. */
  stem: string;
  kind: 'weight' | 'bias';
  rows: number;
  /** A vector has one, and that many rows. */
  columns: number;
  vector: boolean;
  type: ShapeType;
  /** Standard deviation times the square root of the columns. */
  gain: number;
  /** Added to each number; f32 only. */
  mean: number;
  /** Whose row, by stem and number, a row is; undefined: it is all zeros. */
  source(row: number): [stem: string, row: number] | undefined;
}

const u32 = (value: number): KeyValue => ({ kind: 'u32', value });
const f32 = (value: number): KeyValue => ({ kind: 'f32', value });
const text = (value: string): KeyValue => ({ kind: 'string', value });
const flag = (value: boolean): KeyValue => ({ kind: 'bool', value: Number(value) });

/** Ids below this are the special tokens and the bytes. */
const firstCharacter = 259;
const firstCodePoint = 0x20000;

/**
 * The text of that many tokens: each token but the first 259 is one character, so that a text of n
 * characters is n tokens for any runtime.
 */
export function textOfIds(ids: ArrayLike<number>): string {
  return Array.from(ids, (id) => String.fromCodePoint(firstCodePoint + id - firstCharacter))
    .join('');
}

/** Ids of characters, as random as the seed: the same for every runtime. */
export function randomIds(count: number, vocabulary: number, seed = 1): Int32Array {
  let state = seed;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return firstCharacter + (state >>> 8) % (vocabulary - firstCharacter);
  });
}

function tokenizerKeys(vocabulary: number): Record<string, KeyValue> {
  const bytes = Array.from({ length: 256 }, (_, i) =>
    `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const characters = Array.from({ length: vocabulary - firstCharacter }, (_, i) =>
    String.fromCodePoint(firstCodePoint + i));
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...characters];
  // The format's numbers: 2 unknown, 3 control, 6 byte, 1 anything else.
  const types = Int32Array.from(tokens, (_, i) =>
    (i === 0 ? 2 : i < 3 ? 3 : i < firstCharacter ? 6 : 1));
  return {
    'tokenizer.ggml.model': text('llama'),
    'tokenizer.ggml.tokens': { kind: 'strings', value: tokens },
    'tokenizer.ggml.scores': { kind: 'f32s', value: new Float32Array(vocabulary) },
    'tokenizer.ggml.token_type': { kind: 'i32s', value: types },
    'tokenizer.ggml.bos_token_id': u32(1),
    'tokenizer.ggml.eos_token_id': u32(2),
    'tokenizer.ggml.unknown_token_id': u32(0),
    'tokenizer.ggml.add_bos_token': flag(false),
    'tokenizer.ggml.add_eos_token': flag(false),
    'tokenizer.ggml.add_space_prefix': flag(false),
  };
}

function keysOf(model: ShapedModel): Record<string, KeyValue> {
  const { architecture: a } = model;
  const shared = model.projection !== 'QKV' && !model.expand;
  return {
    'general.architecture': text(a),
    'general.name': text(`random ${titleOf(model)}`),
    'general.quantization_version': u32(2),
    [`${a}.block_count`]: u32(model.layers),
    [`${a}.context_length`]: u32(model.context),
    [`${a}.embedding_length`]: u32(model.width),
    [`${a}.feed_forward_length`]: u32(model.feedForward),
    [`${a}.attention.head_count`]: u32(model.heads),
    [`${a}.attention.head_count_kv`]: u32(model.kvHeads),
    ...(a === 'llama' ? {
      'llama.attention.layer_norm_rms_epsilon': f32(1e-5),
      'llama.rope.dimension_count': u32(model.width / model.heads),
      'llama.rope.freq_base': f32(10000),
    } : {
      'gpt2.attention.layer_norm_epsilon': f32(1e-5),
      'onekv.mlp.activation': text('gelu_erf'),
    }),
    ...(shared ? { 'onekv.attention.projection': text(model.projection) } : {}),
    ...tokenizerKeys(model.vocabulary),
  };
}

class TensorList {
  readonly tensors: RandomTensor[] = [];
  readonly #model: ShapedModel;

  constructor(model: ShapedModel) {
    this.#model = model;
  }

  matrix(stem: string, rows: number, columns: number,
    options: Partial<Pick<RandomTensor, 'gain' | 'source' | 'type'>> = {}): void {
    this.tensors.push({
      stem, kind: 'weight', rows, columns, vector: false, type: this.#model.type, gain: 1, mean: 0,
      source: (row) => [stem, row], ...options,
    });
  }

  #vector(stem: string, kind: RandomTensor['kind'], rows: number, mean: number,
    source: RandomTensor['source'] = (row) => [stem, row]): void {
    this.tensors.push({
      stem, kind, rows, columns: 1, vector: true, type: 'f32', gain: 0.05, mean, source,
    });
  }

  norm(stem: string): void {
    const { architecture, width } = this.#model;
    this.#vector(stem, 'weight', width, 1);
    if (architecture === 'gpt2') this.#vector(stem, 'bias', width, 0);
  }

  /** A matrix with the bias that gpt2 has beside it. */
  linear(stem: string, rows: number, columns: number,
    options: Partial<Pick<RandomTensor, 'gain' | 'source'>> = {}): void {
    this.matrix(stem, rows, columns, options);
    if (this.#model.architecture !== 'gpt2') return;
    this.#vector(stem, 'bias', rows, 0, options.source);
  }

  /** The projections that the file holds. gpt2's runtimes want one matrix of three. */
  attention(layer: string): void {
    const { architecture, projection, width, heads, kvHeads, expand } = this.#model;
    const h = width / heads;
    const kv = kvHeads * h;
    const name = (role: string) => `${layer}.attn_${role}`;
    const isKey = {
      q: projection === 'Q=K-V' || projection === 'Q=K=V',
      v: projection === 'Q-K=V' || projection === 'Q=K=V',
    };
    // Query head i is key head ⌊i·g/H⌋.
    const queryRow = (row: number) =>
      Math.floor(Math.floor(row / h) * kvHeads / heads) * h + row % h;
    const q = (row: number): [string, number] =>
      (isKey.q ? [name('k'), queryRow(row)] : [name('q'), row]);
    const k = (row: number): [string, number] => [name('k'), row];
    const v = (row: number): [string, number] => [name(isKey.v ? 'k' : 'v'), row];
    if (architecture === 'gpt2' && (expand || projection === 'QKV')) {
      const source = (row: number) => (row < width ? q(row)
        : row < width + kv ? k(row - width) : v(row - width - kv));
      this.linear(name('qkv'), width + 2 * kv, width, { source });
      return;
    }
    if (expand || !isKey.q) this.linear(name('q'), width, width, { source: q });
    this.linear(name('k'), kv, width, { source: k });
    if (expand || !isKey.v) this.linear(name('v'), kv, width, { source: v });
  }
}

function tensorsOf(model: ShapedModel): RandomTensor[] {
  const { architecture, layers, width, feedForward } = model;
  const list = new TensorList(model);
  // What is added to the stream of activations keeps it at its size, whatever the depth.
  const gain = 1 / Math.sqrt(2 * layers);
  // A logit of 0 is never the largest of thousands: no runtime has to write a byte that is not a
  // character, and none ends a text.
  list.matrix('token_embd', model.vocabulary, width, {
    source: (row) => (row < firstCharacter ? undefined : ['token_embd', row]),
  });
  if (architecture === 'gpt2') {
    list.matrix('position_embd', model.context, width, { type: 'f16' });
  }
  for (let n = 0; n < layers; n++) {
    const layer = `blk.${n}`;
    list.norm(`${layer}.attn_norm`);
    list.attention(layer);
    list.linear(`${layer}.attn_output`, width, width, { gain });
    list.norm(`${layer}.ffn_norm`);
    if (architecture === 'llama') list.linear(`${layer}.ffn_gate`, feedForward, width);
    list.linear(`${layer}.ffn_up`, feedForward, width);
    list.linear(`${layer}.ffn_down`, width, feedForward, { gain });
  }
  list.norm('output_norm');
  return list.tensors;
}

const tensorBytes = (tensor: RandomTensor) =>
  tensor.rows * rowBytes(tensor.type, tensor.columns);

/** Parameters of the file's tensors, written copies included. */
export function parameterCount(model: ShapedModel): number {
  return tensorsOf(model).reduce((sum, { rows, columns }) => sum + rows * columns, 0);
}

const chunkBytes = 1 << 20;

function* tensorChunks(tensor: RandomTensor, seed: number): Generator<Uint8Array> {
  const maker = new RowMaker(tensor.type, tensor.columns, tensor.gain, tensor.mean);
  const total = tensor.rows * maker.bytes;
  const perChunk = Math.max(1, Math.floor(chunkBytes / maker.bytes));
  const seeds = new Map<string, number>();
  for (let first = 0; first < tensor.rows; first += perChunk) {
    const count = Math.min(perChunk, tensor.rows - first);
    const last = first + count === tensor.rows;
    const chunk = new Uint8Array(count * maker.bytes + (last ? aligned(total) - total : 0));
    for (let i = 0; i < count; i++) {
      const source = tensor.source(first + i);
      if (source === undefined) continue;
      const [stem, row] = source;
      if (!seeds.has(stem)) seeds.set(stem, hashName(`${stem}.${tensor.kind}`, seed));
      // The golden ratio's bits keep the rows' random sequences apart.
      const key = ((seeds.get(stem) as number) + Math.imul(row, 0x9e3779b9)) | 0;
      chunk.set(maker.make(key), i * maker.bytes);
    }
    yield chunk;
  }
}

/** The model as a source for loadModel, or for a file; it can be read once. */
export function randomModel(model: ShapedModel): OpenedSource {
  const tensors = tensorsOf(model);
  const header = ggufHeader(keysOf(model), tensors.map((tensor) => ({
    name: `${tensor.stem}.${tensor.kind}`,
    dimensions: tensor.vector ? [tensor.rows] : [tensor.columns, tensor.rows],
    type: elementTypes[tensor.type].number,
    bytes: tensorBytes(tensor),
  })));
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield header;
    for (const tensor of tensors) yield* tensorChunks(tensor, model.seed);
  }
  return {
    chunks: chunks(),
    totalBytes: tensors.reduce((sum, tensor) => sum + aligned(tensorBytes(tensor)), header.length),
    name: titleOf(model),
  };
}
