// Typed reading of a file's GGUF metadata through the loader, which has checked every length.
//
// Strings are UTF-8; damaged parts become U+FFFD. Integers of 64 bits come as numbers where these
// are exact, else as bigint.
import type { OwnBytes } from '../api/bytes.js';
import { OneKVError } from '../api/errors.js';
import type { Bindings } from './bindings.js';

export type MetadataScalar = number | bigint | boolean | string;
export type MetadataValue = MetadataScalar | MetadataScalar[];

/** GGUF value types in the order of their ids (core/base/gguf.h). */
const types = ['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'f32', 'bool', 'string', 'array', 'u64',
  'i64', 'f64'] as const;
type Type = typeof types[number];

interface Found {
  type: Type;
  itemType: Type;
  items: number;
  /** A copy: views of the memory go stale, and decoders refuse shared memory in some engines. */
  bytes: OwnBytes;
}

/** Reads one value after the other from the file's encoding. */
class Reader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  // A byte order mark is a character of a vocabulary as others are.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #at = 0;

  constructor(bytes: OwnBytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #step(bytes: number): number {
    const at = this.#at;
    if (bytes > this.#bytes.length - at) {
      throw new OneKVError('CORRUPT', `a metadata value ends after ${this.#bytes.length} bytes`);
    }
    this.#at = at + bytes;
    return at;
  }

  #exact(value: bigint): number | bigint {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  #string(): string {
    const length = Number(this.#view.getBigUint64(this.#step(8), true));
    const at = this.#step(length);
    return this.#decoder.decode(this.#bytes.subarray(at, at + length));
  }

  /** Strings one after the other. A vocabulary is tens of thousands of short ones: they are decoded
   * as one, with zeros between them, unless there are zeros in them. */
  strings(items: number): string[] {
    const start = this.#at;
    const joined = new Uint8Array(this.#bytes.length);
    let end = 0;
    let zeros = 0;
    for (let i = 0; i < items; i++) {
      const low = this.#view.getUint32(this.#step(8), true);
      const length = low + 2 ** 32 * this.#view.getUint32(this.#at - 4, true);
      const at = this.#step(length);
      for (let k = 0; k <= length; k++) {
        const byte = k < length ? this.#bytes[at + k] as number : 0;
        joined[end++] = byte;
        if (byte === 0) zeros += 1;
      }
    }
    if (items > 0 && zeros === items) {
      return this.#decoder.decode(joined.subarray(0, end - 1)).split('\0');
    }
    this.#at = start;
    return Array.from({ length: items }, () => this.#string());
  }

  read(type: Type): MetadataScalar {
    switch (type) {
      case 'u8': return this.#view.getUint8(this.#step(1));
      case 'i8': return this.#view.getInt8(this.#step(1));
      case 'u16': return this.#view.getUint16(this.#step(2), true);
      case 'i16': return this.#view.getInt16(this.#step(2), true);
      case 'u32': return this.#view.getUint32(this.#step(4), true);
      case 'i32': return this.#view.getInt32(this.#step(4), true);
      case 'f32': return this.#view.getFloat32(this.#step(4), true);
      case 'bool': return this.#view.getUint8(this.#step(1)) !== 0;
      case 'string': return this.#string();
      case 'u64': return this.#exact(this.#view.getBigUint64(this.#step(8), true));
      case 'i64': return this.#exact(this.#view.getBigInt64(this.#step(8), true));
      case 'f64': return this.#view.getFloat64(this.#step(8), true);
      case 'array': throw new OneKVError('CORRUPT', 'a metadata array holds arrays');
    }
  }
}

/** Values by key. A missing key is undefined; one of another type is the error BAD_KEY. */
export class Metadata {
  readonly #find: (key: string) => Found | undefined;

  constructor(find: (key: string) => Found | undefined) {
    this.#find = find;
  }

  get(key: string): MetadataValue | undefined {
    const found = this.#find(key);
    if (found === undefined) return undefined;
    const reader = new Reader(found.bytes);
    if (found.type !== 'array') return reader.read(found.type);
    if (found.itemType === 'string') return reader.strings(found.items);
    return Array.from({ length: found.items }, () => reader.read(found.itemType));
  }

  string(key: string): string | undefined {
    return this.#typed(key, 'a string', (value) => typeof value === 'string');
  }

  number(key: string): number | undefined {
    return this.#typed(key, 'a number', (value) => typeof value === 'number');
  }

  boolean(key: string): boolean | undefined {
    return this.#typed(key, 'a bool', (value) => typeof value === 'boolean');
  }

  strings(key: string): string[] | undefined {
    return this.#typed(key, 'an array of strings', (value) => Array.isArray(value) &&
      value.every((item) => typeof item === 'string'));
  }

  numbers(key: string): number[] | undefined {
    return this.#typed(key, 'an array of numbers', (value) => Array.isArray(value) &&
      value.every((item) => typeof item === 'number'));
  }

  #typed<T extends MetadataValue>(key: string, expected: string,
    fits: (value: MetadataValue) => boolean): T | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (fits(value)) return value as T;
    const found = Array.isArray(value) ? `an array of ${typeof value[0]}` : `a ${typeof value}`;
    throw new OneKVError('BAD_KEY', `${key}: found ${found}, expected ${expected}`);
  }
}

/** The metadata of a loader whose header is complete; `loader` gives its address. */
export function loaderMetadata(bindings: Bindings, loader: () => number): Metadata {
  return new Metadata((key) => {
    const handle = loader();
    if (bindings.exports._js_loader_find(handle, bindings.stageText(key)) === 0) return undefined;
    const [type, itemType, items, at, count] = bindings.numbers(5) as unknown as
      [number, number, number, number, number];
    return {
      type: types[type] as Type,
      itemType: types[itemType] as Type,
      items,
      bytes: new Uint8Array(bindings.bytes.subarray(at, at + count)),
    };
  });
}
