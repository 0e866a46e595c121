// Makes several files of one, as llama.cpp's gguf-split does: the first one has all keys, and each
// says which part it is.
import { parseHeader } from '../../dist/src/source/gguf-header.js';

const text = (value) => {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
};

/** A key with an unsigned value of 16 bits (type 2) or a signed one of 32 bits (type 5). */
function key(name, type, value) {
  const bytes = Buffer.alloc(type === 2 ? 6 : 8);
  bytes.writeUInt32LE(type);
  if (type === 2) bytes.writeUInt16LE(value, 4);
  else bytes.writeInt32LE(value, 4);
  return Buffer.concat([text(name), bytes]);
}

function preamble(tensors, keys) {
  const bytes = Buffer.alloc(24);
  bytes.write('GGUF');
  bytes.writeUInt32LE(3, 4);
  bytes.writeBigUInt64LE(BigInt(tensors), 8);
  bytes.writeBigUInt64LE(BigInt(keys), 16);
  return bytes;
}

const aligned = (bytes) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 31)]);

/** The bytes of `count` files; `change` may change the numbers { no, count, tensors } of a part. */
export function splitFile(file, count, change = (numbers) => numbers) {
  const { keys, tensors, bytes: dataAt } = parseHeader(file);
  const sorted = [...tensors].sort((a, b) => Number(a.offset - b.offset));
  const share = Math.ceil(sorted.length / count);
  return Array.from({ length: count }, (_, part) => {
    const own = sorted.slice(part * share, (part + 1) * share);
    const start = Number(own[0].offset);
    const end = Number(sorted[(part + 1) * share]?.offset ?? file.length - dataAt);
    const numbers = change({ no: part, count, tensors: sorted.length }, part);
    const ownKeys = [...(part === 0 ? keys.values() : []), key('split.no', 2, numbers.no),
      key('split.count', 2, numbers.count), key('split.tensors.count', 5, numbers.tensors)];
    const infos = own.map(({ bytes, offset }) => {
      const at = Buffer.alloc(8);
      at.writeBigUInt64LE(offset - BigInt(start));
      return Buffer.concat([bytes, at]);
    });
    const header = aligned(Buffer.concat([preamble(own.length, ownKeys.length), ...ownKeys,
      ...infos]));
    return Buffer.concat([header, file.subarray(dataAt + start, dataAt + end)]);
  });
}
