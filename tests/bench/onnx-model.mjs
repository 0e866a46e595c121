// A shape of random weights as ONNX, for ONNX Runtime: the very weights of the GGUF file.
//
//   node tests/bench/onnx-model.mjs SHAPE [--matrices nbits|f32|int8] [options of shape.mjs]
//
// The graph is what ONNX Runtime's own model builder makes of a Llama for the CPU: one product for
// queries, keys and values, GroupQueryAttention with rotation inside and keys and values in and
// out, norms joined with the sums before them, logits of the last token alone.
//
// Matrices: "nbits" keeps the blocks of 32 of Q8_0 as they are (MatMulNBits, 8 bits), "f32" has the
// same numbers in four bytes each; "int8" has one scale a row and integer products
// (DynamicQuantizeMatMul), as dynamic quantisation makes them: it rounds the weights once more.
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { readGguf } from '../../dist/src/bench/gguf-reader.js';
import { halfValue } from '../../dist/src/bench/random-rows.js';
import { onnxFile } from './onnx-format.mjs';
import { modelOf, shapeFolder, shapeOptions, writeShape } from './shape.mjs';

const block = 32;
const epsilon = { float: 1e-5 };

/** Integers [rows, columns] of a Q8_0 tensor and the scales [rows, columns / 32] of its blocks. */
function unpackQ8({ dimensions: [columns, rows], data }) {
  const blocks = rows * columns / block;
  const integers = new Int8Array(rows * columns);
  const scales = new Float32Array(blocks);
  const view = new DataView(data.buffer, data.byteOffset);
  for (let i = 0; i < blocks; i++) {
    scales[i] = halfValue(view.getUint16(34 * i, true));
    integers.set(new Int8Array(data.buffer, data.byteOffset + 34 * i + 2, block), block * i);
  }
  return { rows, columns, integers, scales };
}

/** Matrices below each other as one. */
function stacked(parts) {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const { columns } = parts[0];
  const joined = { rows, columns, integers: new Int8Array(rows * columns),
    scales: new Float32Array(rows * columns / block) };
  let at = 0;
  for (const { rows: count, integers, scales } of parts) {
    joined.integers.set(integers, at * columns);
    joined.scales.set(scales, at * columns / block);
    at += count;
  }
  return joined;
}

/** One scale per row instead of one per block; [columns, rows], as the operator wants them. */
function byRow({ rows, columns, integers, scales }) {
  const blocks = columns / block;
  const data = new Int8Array(rows * columns);
  const rowScales = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    let most = 0;
    for (let c = 0; c < columns; c++) {
      const at = r * columns + c;
      most = Math.max(most, Math.abs(integers[at] * scales[r * blocks + Math.floor(c / block)]));
    }
    rowScales[r] = most / 127;
    for (let c = 0; c < columns && most > 0; c++) {
      const value = integers[r * columns + c] * scales[r * blocks + Math.floor(c / block)];
      data[c * rows + r] = Math.round(value / rowScales[r]);
    }
  }
  return { data, rowScales };
}

/** The graph under way. */
class Graph {
  nodes = [];
  initializers = [];

  constructor(matrices) {
    this.matrices = matrices;
  }

  constant(name, type, dimensions, data) {
    this.initializers.push({ name, type, dimensions, data });
    return name;
  }

  node(operator, inputs, output, attributes = {}) {
    const outputs = [output].flat();
    this.nodes.push({ operator, inputs, outputs, attributes });
    return outputs[0];
  }

  /** Bytes of 128 more than the integers, and scales: what products and look-ups share. */
  blocks(name, { rows, columns, integers, scales }) {
    const bytes = Uint8Array.from(integers, (value) => value + 128);
    const shape = [rows, columns / block];
    return [this.constant(`${name}.q`, 'u8', [...shape, block], bytes),
      this.constant(`${name}.s`, 'f32', shape, scales)];
  }

  /** x Wᵀ. */
  product(name, x, matrix) {
    const { rows, columns } = matrix;
    if (this.matrices === 'nbits') {
      const attributes = { K: columns, N: rows, bits: 8, block_size: block, accuracy_level: 4 };
      return this.node('MatMulNBits', [x, ...this.blocks(name, matrix)], name, attributes);
    }
    if (this.matrices === 'f32') {
      const data = new Float32Array(rows * columns);
      matrix.integers.forEach((value, at) => {
        data[at % columns * rows + Math.floor(at / columns)] =
          value * matrix.scales[Math.floor(at / block)];
      });
      return this.node('MatMul', [x, this.constant(`${name}.w`, 'f32', [columns, rows], data)],
        name);
    }
    const { data, rowScales } = byRow(matrix);
    return this.node('DynamicQuantizeMatMul', [x,
      this.constant(`${name}.q`, 'i8', [columns, rows], data),
      this.constant(`${name}.s`, 'f32', [rows], rowScales)], name);
  }
}

/** Rows of the table for the ids [1, n], scaled: [1, n, columns]. */
function lookUp(graph, matrix) {
  const [bytes, scales] = graph.blocks('embedding', matrix);
  const zero = graph.constant('embedding.zero', 'f32', [1], Float32Array.of(128));
  const shape = graph.constant('embedding.shape', 'i64', [3],
    BigInt64Array.of(1n, -1n, BigInt(matrix.columns)));
  const last = graph.constant('last axis', 'i64', [1], BigInt64Array.of(-1n));
  const rows = graph.node('Cast', [graph.node('Gather', [bytes, 'ids'], 'embedding.rows')],
    'embedding.floats', { to: 1 });
  const scale = graph.node('Unsqueeze',
    [graph.node('Gather', [scales, 'ids'], 'embedding.scales'), last], 'embedding.scale');
  const centred = graph.node('Sub', [rows, zero], 'embedding.centred');
  return graph.node('Reshape', [graph.node('Mul', [centred, scale], 'embedding.scaled'), shape],
    'embedding.x');
}

/** Angles of the rotation by position: cosines and sines [context, h / 2]. */
function addAngles(graph, h, context) {
  for (const name of ['cos', 'sin']) {
    const data = Float32Array.from({ length: context * h / 2 }, (_, i) => {
      const position = Math.floor(i / (h / 2));
      return Math[name](position * 10000 ** (-2 * (i % (h / 2)) / h));
    });
    graph.constant(name, 'f32', [context, h / 2], data);
  }
}

function addLayer(graph, layer, x, { tensor, matrix, model }) {
  const name = `blk.${layer}`;
  const { width, heads, kvHeads } = model;
  const gain = (part) => graph.constant(`${name}.${part}.gain`, 'f32', [width],
    tensor(`${name}.${part}`));
  const norm = (sums, part, output) => (sums.length === 1
    ? graph.node('SimplifiedLayerNormalization', [...sums, gain(part)], output,
      { axis: -1, epsilon, stash_type: 1 })
    : graph.node('SkipSimplifiedLayerNormalization', [...sums, gain(part)],
      [output, '', '', `${output}.sum`], { epsilon }));
  const product = (input, ...parts) => graph.product(`${name}.${parts.join('+')}`, input,
    stacked(parts.map((part) => matrix(`${name}.${part}`))));
  const a = norm(x, 'attn_norm', `${name}.a`);
  const stream = x.length === 1 ? x[0] : `${a}.sum`;
  const packed = product(a, 'attn_q', 'attn_k', 'attn_v');
  const attended = graph.node('GroupQueryAttention', [packed, '', '', `past_k.${layer}`,
    `past_v.${layer}`, 'last', 'total', 'cos', 'sin'],
  [`${name}.attended`, `k.${layer}`, `v.${layer}`],
  { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, rotary_interleaved: 1 });
  const m = norm([stream, product(attended, 'attn_output')], 'ffn_norm', `${name}.m`);
  const gate = product(m, 'ffn_gate');
  const silu = graph.node('Mul', [gate, graph.node('Sigmoid', [gate], `${name}.sigmoid`)],
    `${name}.silu`);
  const inner = graph.node('Mul', [silu, product(m, 'ffn_up')], `${name}.inner`);
  return [`${m}.sum`, product(inner, 'ffn_down')];
}

/** The pieces of the ONNX file for a GGUF file's bytes; `context`: positions that it can hold. */
function translate(bytes, model, matrices, context) {
  const found = new Map(readGguf(bytes).tensors.map((tensor) => [tensor.name, tensor]));
  const parts = {
    model,
    tensor: (name) => {
      const { data, dimensions: [count] } = found.get(`${name}.weight`);
      return new Float32Array(data.slice(0, 4 * count).buffer);
    },
    matrix: (name) => unpackQ8(found.get(`${name}.weight`)),
  };
  const graph = new Graph(matrices);
  const { layers, width, heads, kvHeads, vocabulary } = model;
  addAngles(graph, width / heads, context);
  const embedding = parts.matrix('token_embd');
  let x = [lookUp(graph, embedding)];
  for (let i = 0; i < layers; i++) x = addLayer(graph, i, x, parts);
  graph.constant('output_norm.gain', 'f32', [width], parts.tensor('output_norm'));
  const normed = graph.node('SkipSimplifiedLayerNormalization', [...x, 'output_norm.gain'],
    'normed', { epsilon });
  const end = graph.constant('end', 'i64', [1], BigInt64Array.of(-1n));
  const kept = graph.node('Gather', [normed, end], 'normed.end', { axis: 1 });
  if (matrices === 'nbits') {
    graph.node('MatMulNBits', [kept, 'embedding.q', 'embedding.s'], 'logits',
      { K: width, N: vocabulary, bits: 8, block_size: block, accuracy_level: 4 });
  } else graph.product('logits', kept, embedding);
  const dimensions = (length) => [1, kvHeads, length, width / heads];
  const cache = (name, length) => Array.from({ length: layers }, (_, i) => ['k', 'v'].map((kind) =>
    ({ name: `${name}${kind}.${i}`, type: 'f32', dimensions: dimensions(length) }))).flat();
  return onnxFile({ nodes: graph.nodes, initializers: graph.initializers,
    inputs: [{ name: 'ids', type: 'i64', dimensions: [1, 'n'] },
      { name: 'last', type: 'i32', dimensions: [1] },
      { name: 'total', type: 'i32', dimensions: [1] },
      ...cache('past_', 'past')],
    outputs: [{ name: 'logits', type: 'f32', dimensions: [1, 1, vocabulary] },
      ...cache('', 'length')] });
}

/** Writes the ONNX file of a Llama shape in Q8_0 unless it is there; gives its path. */
export async function writeOnnx(model, matrices, folder = shapeFolder, context = 4096) {
  if (model.architecture !== 'llama' || model.type !== 'q8_0') {
    throw new Error('only Llama shapes in q8_0 are written as ONNX');
  }
  const source = await writeShape({ ...model, expand: model.projection !== 'QKV' }, folder);
  const path = source.replace(/\.gguf$/, `.${matrices}.onnx`);
  if (statSync(path, { throwIfNoEntry: false })?.mtimeMs > statSync(source).mtimeMs) return path;
  mkdirSync(folder, { recursive: true });
  const part = `${path}.${process.pid}.part`;
  const file = await open(part, 'w');
  try {
    const bytes = new Uint8Array(await readFile(source));
    for (const piece of translate(bytes, model, matrices, context)) await file.write(piece);
  } finally {
    await file.close();
  }
  renameSync(part, path);
  return path;
}

if (import.meta.filename === process.argv[1]) {
  const { values, positionals } = parseArgs({ allowPositionals: true,
    options: { ...shapeOptions, matrices: { type: 'string', default: 'nbits' } } });
  console.log(await writeOnnx(modelOf(positionals[0], values), values.matrices));
}
