// Bytes of an ONNX model (onnx.proto, IR version 10): protocol buffers written by hand, as far as
// onnx-model.mjs needs them.

/** Numbers of the format for element types. */
export const types = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7 };

const encoder = new TextEncoder();

function varint(value) {
  const bytes = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return Uint8Array.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}

/** A message under way: pieces that are joined once, at the end. */
class Message {
  pieces = [];
  length = 0;

  #push(piece) {
    this.pieces.push(piece);
    this.length += piece.length;
  }

  integer(field, value) {
    this.#push(varint(field << 3));
    this.#push(varint(value));
    return this;
  }

  float(field, value) {
    this.#push(varint((field << 3) | 5));
    this.#push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  bytes(field, value) {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(value.length));
    this.#push(value);
    return this;
  }

  text(field, value) {
    return this.bytes(field, encoder.encode(value));
  }

  message(field, { pieces, length }) {
    this.#push(varint((field << 3) | 2));
    this.#push(varint(length));
    for (const piece of pieces) this.#push(piece);
    return this;
  }
}

const rawBytes = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** An initializer: `data` is a typed array. */
function tensorMessage({ name, type, dimensions, data }) {
  const message = new Message();
  for (const size of dimensions) message.integer(1, size);
  return message.integer(2, types[type]).text(8, name).bytes(9, rawBytes(data));
}

/** Integers and floats by what they are; { float: 1 } where a float looks like an integer. */
function attributeMessage(name, value) {
  const message = new Message().text(1, name);
  return typeof value === 'object' ? message.float(2, value.float).integer(20, 1)
    : message.integer(3, value).integer(20, 2);
}

/** Operators that are not in the standard's own domain. */
const microsoft = ['MatMulNBits', 'DynamicQuantizeMatMul', 'GroupQueryAttention',
  'SkipSimplifiedLayerNormalization'];

function nodeMessage({ operator, inputs, outputs, attributes = {} }) {
  const message = new Message();
  for (const name of inputs) message.text(1, name);
  for (const name of outputs) message.text(2, name);
  message.text(3, outputs[0]).text(4, operator);
  for (const [name, value] of Object.entries(attributes)) {
    message.message(5, attributeMessage(name, value));
  }
  return microsoft.includes(operator) ? message.text(7, 'com.microsoft') : message;
}

/** An input or output; a size that is a word is free. */
function valueMessage({ name, type, dimensions }) {
  const shape = new Message();
  for (const size of dimensions) {
    const one = new Message();
    shape.message(1, typeof size === 'string' ? one.text(2, size) : one.integer(1, size));
  }
  const tensor = new Message().integer(1, types[type]).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

/** The pieces of a file: { nodes, initializers, inputs, outputs }. */
export function onnxFile({ nodes, initializers, inputs, outputs }) {
  const graph = new Message();
  for (const node of nodes) graph.message(1, nodeMessage(node));
  graph.text(2, 'model');
  for (const tensor of initializers) graph.message(5, tensorMessage(tensor));
  for (const value of inputs) graph.message(11, valueMessage(value));
  for (const value of outputs) graph.message(12, valueMessage(value));
  const model = new Message().integer(1, 10).text(2, 'onekv').message(7, graph);
  for (const [domain, version] of [['', 21], ['com.microsoft', 1]]) {
    model.message(8, new Message().text(1, domain).integer(2, version));
  }
  return model.pieces;
}
