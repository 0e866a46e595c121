// The header of one file of a split model, as far as joining needs it: where its keys and tensors
// stand, so that one header of all of them can be written. Core reads that one and checks it as
// any other: what is checked here is only that nothing lies outside of the bytes that are there.
import { OneKVError } from '../api/errors.js';

/** Limits of core/base/gguf.h. */
const entriesMost = 1 << 16;
export const headerBytesMost = 1 << 28;

interface TensorInfo {
  /** Name, dimensions and type, as they stand in the file: all but the offset. */
  bytes: Uint8Array;
  /** From the beginning of the data. */
  offset: bigint;
}

export interface PartHeader {
  version: number;
  /** By name, as they stand in the file: name, type and value. */
  keys: Map<string, Uint8Array>;
  tensors: TensorInfo[];
  alignment: number;
  /** Where the data begins. */
  bytes: number;
  /** The end of the last tensor. */
  fileBytes: number;
}

/** More bytes are needed. */
class Short extends Error {}

const corrupt = (what: string) => new OneKVError('CORRUPT', what);

/** Bytes of one value of each type of number; 0: strings and arrays, which have lengths. */
const valueBytes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const stringType = 8;
const arrayType = 9;

/** [elements, bytes] of a block of each type of tensor, as in core/base/tensor.h. */
const blocks: Readonly<Record<number, readonly [elements: number, bytes: number]>> = {
  0: [1, 4], 1: [1, 2], 2: [32, 18], 3: [32, 20], 6: [32, 22], 7: [32, 24], 8: [32, 34],
  10: [256, 84], 11: [256, 110], 12: [256, 144], 13: [256, 176], 14: [256, 210], 20: [32, 18],
  23: [256, 136], 30: [1, 2], 34: [256, 54], 35: [256, 66], 39: [32, 17], 41: [128, 18],
};

class Cursor {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Goes on by so many bytes and gives where they began. */
  skip(count: number): number {
    if (!(count >= 0 && count <= headerBytesMost)) throw corrupt('a length is out of range');
    const { at } = this;
    this.at += count;
    if (this.at > headerBytesMost) throw corrupt('the header is too long');
    if (this.at > this.#bytes.length) throw new Short();
    return at;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.skip(8), true);
  }

  count(): number {
    const count = Number(this.u64());
    if (count <= entriesMost) return count;
    throw corrupt(`found ${count} entries, expected at most ${entriesMost}`);
  }

  text(): string {
    const length = Number(this.u64());
    const at = this.skip(length);
    return new TextDecoder().decode(this.since(at));
  }

  since(at: number): Uint8Array {
    return this.#bytes.subarray(at, this.at);
  }

  #skipItems(type: number, count: number): void {
    const size = valueBytes[type];
    if (size === undefined || type === arrayType) throw corrupt(`found a value of type ${type}`);
    if (type !== stringType) this.skip(size * count);
    else for (let i = 0; i < count; i++) this.skip(Number(this.u64()));
  }

  skipValue(): void {
    const type = this.u32();
    if (type !== arrayType) return this.#skipItems(type, 1);
    const itemType = this.u32();
    const count = Number(this.u64());
    if (count > headerBytesMost) throw corrupt('an array is too long');
    return this.#skipItems(itemType, count);
  }
}

/** The number of a key's bytes, of any type of integer that is not signed; undefined when it is
 * not one. */
export function integerOf(key: Uint8Array | undefined): number | undefined {
  if (key === undefined) return undefined;
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const at = 8 + Number(view.getBigUint64(0, true));
  const type = view.getUint32(at, true);
  if (type === 0) return view.getUint8(at + 4);
  if (type === 2) return view.getUint16(at + 4, true);
  if (type === 4 || type === 5) return view.getUint32(at + 4, true);
  return undefined;
}

function parse(bytes: Uint8Array): PartHeader {
  const cursor = new Cursor(bytes);
  if (cursor.u32() !== 0x46554747) {
    throw new OneKVError('NOT_GGUF', 'the first bytes are not "GGUF"');
  }
  const version = cursor.u32();
  if (version !== 2 && version !== 3) {
    throw new OneKVError('UNSUPPORTED_VERSION', `version is ${version}, expected 2 or 3`);
  }
  const [tensorCount, keyCount] = [cursor.count(), cursor.count()];
  const keys = new Map<string, Uint8Array>();
  for (let i = 0; i < keyCount; i++) {
    const { at } = cursor;
    const name = cursor.text();
    cursor.skipValue();
    keys.set(name, cursor.since(at));
  }
  const tensors: TensorInfo[] = [];
  let dataBytes = 0n;
  for (let i = 0; i < tensorCount; i++) {
    const { at } = cursor;
    cursor.text();
    const dimensions = cursor.u32();
    if (dimensions > 4) throw corrupt(`found a tensor of ${dimensions} dimensions`);
    let elements = 1n;
    for (let d = 0; d < dimensions; d++) elements *= cursor.u64();
    const [each, blockBytes] = blocks[cursor.u32()] ?? [1, 0]; // Core refuses other types.
    const tensor = { bytes: cursor.since(at), offset: cursor.u64() };
    tensors.push(tensor);
    const end = tensor.offset + elements / BigInt(each) * BigInt(blockBytes);
    if (end > dataBytes) dataBytes = end;
  }
  const alignment = integerOf(keys.get('general.alignment')) ?? 32;
  if (!(alignment >= 1 && alignment <= 4096)) throw corrupt(`found an alignment of ${alignment}`);
  const end = Math.ceil(cursor.at / alignment) * alignment;
  cursor.skip(end - cursor.at);
  return { version, keys, tensors, alignment, bytes: end, fileBytes: end + Number(dataBytes) };
}

/** The header, if it is all there; undefined when it takes more bytes. Errors: NOT_GGUF,
 * UNSUPPORTED_VERSION, CORRUPT. */
export function parseHeader(bytes: Uint8Array): PartHeader | undefined {
  try {
    return parse(bytes);
  } catch (error) {
    if (error instanceof Short) return undefined;
    throw error;
  }
}

const encoder = new TextEncoder();

/** One header for all parts: the first one's keys but those of the split, and everybody's tensors.
 * `dataAt`: where each part's data begins in all of it, from the beginning of the data. */
export function joinHeaders(parts: readonly PartHeader[], dataAt: readonly number[]): Uint8Array {
  const [{ version, keys, alignment }] = parts as [PartHeader, ...PartHeader[]];
  const pieces: Uint8Array[] = [encoder.encode('GGUF')];
  const words = (...values: [value: number | bigint, bytes: 4 | 8][]) => {
    for (const [value, bytes] of values) {
      const view = new DataView(new ArrayBuffer(bytes));
      if (bytes === 4) view.setUint32(0, Number(value), true);
      else view.setBigUint64(0, BigInt(value), true);
      pieces.push(new Uint8Array(view.buffer));
    }
  };
  const kept = [...keys].filter(([name]) => !name.startsWith('split.'));
  const count = parts.reduce((sum, { tensors }) => sum + tensors.length, 0);
  words([version, 4], [count, 8], [kept.length, 8]);
  for (const [, bytes] of kept) pieces.push(bytes);
  parts.forEach(({ tensors }, part) => {
    for (const { bytes, offset } of tensors) {
      pieces.push(bytes);
      words([offset + BigInt(dataAt[part] as number), 8]);
    }
  });
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const joined = new Uint8Array(Math.ceil(length / alignment) * alignment);
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}
