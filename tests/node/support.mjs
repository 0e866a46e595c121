// What the tests of the package share: golden models, engines at every SIMD level this Node has,
// and GGUF files made by hand.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Engine, hasRelaxedSimd } from '../../dist/src/engine-entry-node.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const goldenFolder = fileURLToPath(new URL('../golden/', import.meta.url));

/** Levels that this Node runs: relaxed SIMD from Node 22 on, or with its flag. */
export const levels = hasRelaxedSimd() ? ['simd128', 'relaxed'] : ['simd128'];

export const goldenPath = (name) => `${goldenFolder}${name}.gguf`;

export const goldenNames = readdirSync(goldenFolder).filter((file) => file.endsWith('.bin'))
  .map((file) => file.slice(0, -'.bin'.length));

const goldenIndex = JSON.parse(readFileSync(`${goldenFolder}index.json`, 'utf8'));

/**
 * Largest distance, relative to the largest logit. Exact weights: as in tests/native/test_golden.c.
 * Quantised ones: what rounding activations to 7 bits moves (tests/golden/README.md).
 */
export function tolerance(name) {
  const type = goldenIndex[name]?.tolerance ?? 'f32';
  return ['f32', 'f16', 'bf16'].includes(type) ? 1e-4 : 0.066;
}

/** NAME.bin as { tokens | features, nRows, nOutRows, nOutputs, logits }. */
export function readGolden(name) {
  const bytes = readFileSync(`${goldenFolder}${name}.bin`);
  const field = (i) => bytes.readUInt32LE(4 * i);
  const [kind, nRows, nFeatures, nOutRows, nOutputs] = [2, 3, 4, 5, 6].map(field);
  const part = (Type, at, count) => new Type(bytes.buffer.slice(bytes.byteOffset + at,
    bytes.byteOffset + at + 4 * count));
  const count = kind === 0 ? nRows : nRows * nFeatures;
  const input = kind === 0 ? { tokens: part(Int32Array, 32, count) }
    : { features: part(Float32Array, 32, count) };
  const logits = part(Float32Array, 32 + 4 * count, nOutRows * nOutputs);
  return { ...input, nRows, nOutRows, nOutputs, logits };
}

/** The largest difference, relative to the largest expected number. */
export function distance(found, expected) {
  let most = 0;
  let largest = 0;
  expected.forEach((value, i) => {
    const off = Math.abs(found[i] - value);
    most = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(most, off);
    largest = Math.max(largest, Math.abs(value));
  });
  return most / largest;
}

/** A model of a file that is read at once, in pieces of that many bytes. */
export function loadSync(engine, path, options = {}, pieceBytes = 1 << 20) {
  const bytes = typeof path === 'string' ? readFileSync(path) : path;
  const loader = engine.openLoader(options);
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      loader.feed(bytes.subarray(at, at + pieceBytes));
    }
    return loader.finish();
  } finally {
    loader.destroy();
  }
}

/** Calls `use` with an engine, which is destroyed in the end. */
export async function withEngine(options, use) {
  const engine = await Engine.open({ threads: 1, ...options });
  try {
    return await use(engine);
  } finally {
    engine.destroy();
  }
}

// -- GGUF files made by hand --

const typeIds = { u8: 0, i8: 1, u16: 2, i16: 3, u32: 4, i32: 5, f32: 6, bool: 7, string: 8,
  array: 9, u64: 10, i64: 11, f64: 12 };

function number(bytes, write) {
  const buffer = Buffer.alloc(bytes);
  write(buffer);
  return buffer;
}

const u32 = (value) => number(4, (b) => b.writeUInt32LE(value));
const u64 = (value) => number(8, (b) => b.writeBigUInt64LE(BigInt(value)));

function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

const encoders = {
  u8: (v) => number(1, (b) => b.writeUInt8(v)), i8: (v) => number(1, (b) => b.writeInt8(v)),
  u16: (v) => number(2, (b) => b.writeUInt16LE(v)), i16: (v) => number(2, (b) => b.writeInt16LE(v)),
  u32, i32: (v) => number(4, (b) => b.writeInt32LE(v)),
  f32: (v) => number(4, (b) => b.writeFloatLE(v)), bool: (v) => Buffer.of(v ? 1 : 0),
  string: text, u64, i64: (v) => number(8, (b) => b.writeBigInt64LE(BigInt(v))),
  f64: (v) => number(8, (b) => b.writeDoubleLE(v)),
};

/** [key, type, value]; an array's type is written as 'u32[]'. */
function key([name, type, value]) {
  if (!type.endsWith('[]')) {
    return Buffer.concat([text(name), u32(typeIds[type]), encoders[type](value)]);
  }
  const item = type.slice(0, -2);
  return Buffer.concat([text(name), u32(typeIds.array), u32(typeIds[item]), u64(value.length),
    ...value.map(encoders[item])]);
}

/** The header of a file with these keys and F32 tensors { name, dims }, and its data's bytes. */
export function ggufHeader(keys, tensors = []) {
  let offset = 0;
  const infos = tensors.map(({ name, dims }) => {
    const info = Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(0),
      u64(offset)]);
    const bytes = 4 * dims.reduce((product, dim) => product * dim, 1);
    offset += Math.ceil(bytes / 32) * 32;
    return info;
  });
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys.length),
    ...keys.map(key), ...infos]);
  return { header: Buffer.concat([head, Buffer.alloc(-head.length & 31)]), dataBytes: offset };
}

/** The bytes of a GGUF file with more keys, at the end of those it has; small files only. */
export function withKeys(path, keys) {
  const bytes = readFileSync(path);
  const tensors = Number(bytes.readBigUInt64LE(8));
  const count = Number(bytes.readBigUInt64LE(16));
  let at = 24;
  const skipText = () => { at += 8 + Number(bytes.readBigUInt64LE(at)); };
  const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  const skipValue = (type) => {
    if (type === typeIds.string) skipText();
    else at += sizes[type];
  };
  for (let i = 0; i < count; i++) {
    skipText();
    const type = bytes.readUInt32LE(at);
    at += 4;
    if (type !== typeIds.array) {
      skipValue(type);
      continue;
    }
    const item = bytes.readUInt32LE(at);
    const items = Number(bytes.readBigUInt64LE(at + 4));
    at += 12;
    for (let n = 0; n < items; n++) skipValue(item);
  }
  const keysEnd = at;
  for (let i = 0; i < tensors; i++) {
    skipText();
    at += 4 + 8 * bytes.readUInt32LE(at) + 4 + 8;
  }
  const data = Math.ceil(at / 32) * 32;
  const head = Buffer.concat([bytes.subarray(0, 16), u64(count + keys.length),
    bytes.subarray(24, keysEnd), ...keys.map(key), bytes.subarray(keysEnd, at)]);
  return Buffer.concat([head, Buffer.alloc(-head.length & 31), bytes.subarray(data)]);
}

/** Keys and tensors of a one-layer Q-K=V MQA llama of that size. */
export function tinyLlama({ vocabulary, width = 32 }) {
  const keys = [
    ['general.architecture', 'string', 'llama'], ['llama.block_count', 'u32', 1],
    ['llama.context_length', 'u32', 64], ['llama.embedding_length', 'u32', width],
    ['llama.feed_forward_length', 'u32', 32], ['llama.attention.head_count', 'u32', 4],
    ['llama.attention.head_count_kv', 'u32', 1],
    ['llama.attention.layer_norm_rms_epsilon', 'f32', 1e-5],
    ['onekv.attention.projection', 'string', 'Q-K=V'],
  ];
  const layer = { 'attn_norm.weight': [width], 'attn_q.weight': [width, width],
    'attn_k.weight': [width, width / 4], 'attn_output.weight': [width, width],
    'ffn_norm.weight': [width], 'ffn_gate.weight': [width, 32], 'ffn_up.weight': [width, 32],
    'ffn_down.weight': [32, width] };
  const tensors = [
    { name: 'token_embd.weight', dims: [width, vocabulary] },
    { name: 'output_norm.weight', dims: [width] },
    ...Object.entries(layer).map(([name, dims]) => ({ name: `blk.0.${name}`, dims })),
  ];
  return { keys, tensors };
}

/**
 * The same bytes, of a llama, with a window of that many tokens. With one so long that filling it
 * takes minutes, inputs and answers end when they are aborted, however quick or busy the machine.
 */
export function withWindow(bytes, tokens = 1 << 17) {
  const file = Buffer.from(bytes);
  const name = 'llama.context_length';
  const at = file.indexOf(name) + name.length;
  assert.equal(file.readUInt32LE(at), typeIds.u32);
  file.writeUInt32LE(tokens, at + 4);
  return Uint8Array.from(file).buffer;
}

/** The bytes of the golden encoder with a tokenizer: letters at the start of a word (5 to 30), and
 * within it (31 to 56). */
export function bertFile() {
  const letters = [...'abcdefghijklmnopqrstuvwxyz'];
  const tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]',
    ...letters.map((letter) => `\u2581${letter}`), ...letters,
    ...Array.from({ length: 7 }, (_, i) => `[unused${i}]`)];
  const bytes = withKeys(goldenPath('bert-mean'), [
    ['tokenizer.ggml.model', 'string', 'bert'],
    ['tokenizer.ggml.tokens', 'string[]', tokens],
    ['tokenizer.ggml.token_type', 'i32[]', tokens.map((token) => (token[0] === '[' ? 3 : 1))],
    ['tokenizer.ggml.unknown_token_id', 'u32', 1],
    ['tokenizer.ggml.cls_token_id', 'u32', 2],
    ['tokenizer.ggml.seperator_token_id', 'u32', 3],
  ]);
  return Uint8Array.from(bytes);
}

/** Sessions of the story models that never end a text by themselves. */
export const endless = { logitBias: { 0: -Infinity } };

/**
 * The bytes of the story model with a chat template, as an ArrayBuffer. The key goes in front of
 * the others; a comment in the template makes it as long as keeps the tensors aligned.
 */
export function chatFile(name = 'stories-q-mqa.q8_0.gguf') {
  const file = readFileSync(`${root}models/${name}`);
  const template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
  const write = (padding) => key(['tokenizer.chat_template', 'string',
    `${template}{# ${' '.repeat(padding)}#}`]);
  const added = write(-write(0).length & 31);
  const counts = Buffer.from(file.subarray(0, 24));
  counts.writeBigUInt64LE(counts.readBigUInt64LE(16) + 1n, 16);
  return Uint8Array.from(Buffer.concat([counts, added, file.subarray(24)])).buffer;
}

/** A store of models in memory. */
export class MapStore {
  values = new Map();
  get = async (key) => this.values.get(key);
  put = async (key, value) => { this.values.set(key, value.slice()); };
  delete = async (key) => { this.values.delete(key); };
  keys = async () => [...this.values.keys()];
}

/** The built program with these arguments, and more in its environment, while this process serves
 * it: { status, stdout, stderr }. */
export function runOneKV(args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [`${root}dist/cli/onekv.js`, ...args],
      { env: { ...process.env, ...env } });
    const out = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', (text) => { out[stream] += text; });
    }
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...out }));
  });
}
