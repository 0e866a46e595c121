// The table of tensors of a GGUF v3 file whose bytes are at hand, for benches that change or
// translate files. The engine has its own, checked parser (core/base/gguf.c): this one reads files
// that the engine has loaded or this folder has written.
import type { OwnBytes } from '../api/bytes.js';
import { OneKVError } from '../api/errors.js';
import { aligned } from './gguf-writer.js';

interface TensorView {
  name: string;
  /** Columns first, as the format has them. */
  dimensions: number[];
  /** The format's number of the element type. */
  type: number;
  /** From the tensor's first byte to the file's end. */
  data: OwnBytes;
  /** Where in the file its type and its offset stand. */
  typeAt: number;
}

interface GgufTable {
  tensors: TensorView[];
  /** Bytes before the first tensor's. */
  headerBytes: number;
}

const STRING = 8;
const ARRAY = 9;
/** Bytes of a scalar by the format's number of its type; 0: strings and arrays. */
const scalarBytes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

class Cursor {
  readonly view: DataView;
  at = 0;

  constructor(readonly bytes: OwnBytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  u64(): number {
    this.at += 8;
    return Number(this.view.getBigUint64(this.at - 8, true));
  }

  string(): string {
    const length = this.u64();
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }

  skipValue(type: number): void {
    if (type === STRING) this.string();
    else if (type === ARRAY) {
      const item = this.u32();
      const count = this.u64();
      if (item === STRING) for (let i = 0; i < count; i++) this.string();
      else this.at += count * (scalarBytes[item] as number);
    } else this.at += scalarBytes[type] as number;
  }
}

/** Error: CORRUPT for anything but version 3 with the format's default alignment. */
export function readGguf(bytes: OwnBytes): GgufTable {
  const cursor = new Cursor(bytes);
  if (cursor.u32() !== 0x46554747 || cursor.u32() !== 3) {
    throw new OneKVError('CORRUPT', 'not a GGUF file of version 3');
  }
  const count = cursor.u64();
  const keys = cursor.u64();
  for (let i = 0; i < keys; i++) {
    if (cursor.string() === 'general.alignment') {
      throw new OneKVError('CORRUPT', 'only files of the default alignment are read here');
    }
    cursor.skipValue(cursor.u32());
  }
  const entries = Array.from({ length: count }, () => {
    const name = cursor.string();
    const dimensions = Array.from({ length: cursor.u32() }, () => cursor.u64());
    const typeAt = cursor.at;
    return { name, dimensions, typeAt, type: cursor.u32(), offset: cursor.u64() };
  });
  const headerBytes = aligned(cursor.at);
  return { headerBytes, tensors: entries.map(({ offset, ...entry }) =>
    ({ ...entry, data: bytes.subarray(headerBytes + offset) })) };
}
