// The header of a GGUF v3 file: keys and the table of tensors, little-endian.

/** Value types of the format that are written here, with their numbers in it. */
export type KeyValue =
  | { kind: 'u32' | 'f32' | 'bool'; value: number }
  | { kind: 'string'; value: string }
  | { kind: 'strings'; value: readonly string[] }
  | { kind: 'f32s'; value: Float32Array }
  | { kind: 'i32s'; value: Int32Array };

const kindNumbers = { u32: 4, f32: 6, bool: 7, string: 8, strings: 8, f32s: 6, i32s: 5 } as const;
const ARRAY = 9;

interface TensorEntry {
  name: string;
  /** As the format has them: columns first. */
  dimensions: readonly number[];
  /** The format's number of the element type. */
  type: number;
  bytes: number;
}

/** The tensors' data begin at multiples of this, the format's default. */
const alignment = 32;

export const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

/** Bytes in a row, in memory that doubles. */
class Bytes {
  #view = new DataView(new ArrayBuffer(1 << 16));
  #length = 0;
  readonly #encoder = new TextEncoder();

  #grow(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#view.byteLength) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(new Uint8Array(this.#view.buffer));
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  f32(value: number): void {
    const at = this.#grow(4);
    this.#view.setFloat32(at, value, true);
  }

  u64(value: number): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
  }

  string(text: string): void {
    const encoded = this.#encoder.encode(text);
    this.u64(encoded.length);
    const at = this.#grow(encoded.length);
    new Uint8Array(this.#view.buffer).set(encoded, at);
  }

  key(name: string, entry: KeyValue): void {
    this.string(name);
    const { kind, value } = entry;
    if (typeof value === 'object') {
      this.u32(ARRAY);
      this.u32(kindNumbers[kind]);
      this.u64(value.length);
      for (const item of value) this.#scalar(kind, item);
    } else {
      this.u32(kindNumbers[kind]);
      this.#scalar(kind, value);
    }
  }

  #scalar(kind: KeyValue['kind'], value: number | string): void {
    if (typeof value === 'string') this.string(value);
    else if (kind === 'f32' || kind === 'f32s') this.f32(value);
    else if (kind === 'bool') this.u8(value);
    else this.u32(value); // A negative i32 has the same bits.
  }

  taken(): Uint8Array {
    const bytes = new Uint8Array(aligned(this.#length));
    bytes.set(new Uint8Array(this.#view.buffer, 0, this.#length));
    return bytes;
  }
}

/** The header with its padding; each tensor's data follow in order, each padded to `alignment`. */
export function ggufHeader(keys: Readonly<Record<string, KeyValue>>,
  tensors: readonly TensorEntry[]): Uint8Array {
  const bytes = new Bytes();
  bytes.u32(0x46554747); // GGUF
  bytes.u32(3);
  bytes.u64(tensors.length);
  bytes.u64(Object.keys(keys).length);
  for (const [name, entry] of Object.entries(keys)) bytes.key(name, entry);
  let offset = 0;
  for (const tensor of tensors) {
    bytes.string(tensor.name);
    bytes.u32(tensor.dimensions.length);
    for (const count of tensor.dimensions) bytes.u64(count);
    bytes.u32(tensor.type);
    bytes.u64(offset);
    offset += aligned(tensor.bytes);
  }
  return bytes.taken();
}
