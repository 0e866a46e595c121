// Rows of random weights in the element types of a GGUF file.
//
// A row depends on its key alone (seed, tensor, row), so that a copy of a shared projection, even
// one of some of its heads, is made by the same keys. All values are of one standard deviation,
// 1/√columns times a gain: products keep the size of what goes in.
import type { ShapeType } from './shapes.js';

/** GGUF's number of an element type, elements and bytes of a block. */
export const elementTypes: Record<ShapeType, { number: number; block: number; bytes: number }> = {
  f32: { number: 0, block: 1, bytes: 4 },
  f16: { number: 1, block: 1, bytes: 2 },
  q4_0: { number: 2, block: 32, bytes: 18 },
  q8_0: { number: 8, block: 32, bytes: 34 },
};

export function rowBytes(type: ShapeType, columns: number): number {
  const { block, bytes } = elementTypes[type];
  return columns / block * bytes;
}

/** FNV-1a of a name, begun with a seed. */
export function hashName(name: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash | 0;
}

const scratch = new DataView(new ArrayBuffer(4));

/** The nearest binary16 bits of a number below 65504. */
export function halfBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  if (Math.abs(value) < 2 ** -14) return sign | Math.round(Math.abs(value) * 2 ** 24);
  const rounded = (bits & 0x7fffffff) + 0xfff + ((bits >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** The number of finite binary16 bits. */
export function halfValue(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return bits >>> 15 === 1 ? -size : size;
}

/** Fills with mulberry32's numbers. */
function fillRandom(words: Int32Array, key: number): void {
  let state = key;
  for (let i = 0; i < words.length; i++) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    words[i] = mixed ^ (mixed >>> 14);
  }
}

/** A block's scale between 3/4 and 5/4 of the mean one, chosen by random bits. */
const varied = (mean: number, bits: number) => mean * (0.75 + (bits & 0xff) / 512);

/** Standard deviations of the quantised integers: odd ones of ±127, and -8 to 7. */
const deviations = { q8_0: 73.9, q4_0: 4.64 };

export class RowMaker {
  readonly bytes: number;
  readonly #type: ShapeType;
  readonly #mean: number;
  readonly #deviation: number;
  readonly #words: Int32Array;
  readonly #row: Uint8Array;
  readonly #view: DataView;
  /** f16: random numbers to choose from. */
  readonly #halves = new Uint16Array(4096);

  /** `mean` is for f32 alone. */
  constructor(type: ShapeType, columns: number, gain: number, mean = 0) {
    this.#type = type;
    this.#mean = mean;
    this.#deviation = gain / Math.sqrt(columns);
    this.bytes = rowBytes(type, columns);
    this.#words = new Int32Array(Math.ceil(this.bytes / 4));
    this.#row = new Uint8Array(this.#words.buffer, 0, this.bytes);
    this.#view = new DataView(this.#words.buffer);
    if (type === 'f16') {
      // Halves of both signs, evenly spread, none of them zero.
      this.#halves.forEach((_, i) => {
        this.#halves[i] = halfBits((i - 2047.5) / 2048 * Math.sqrt(3) * this.#deviation);
      });
    }
  }

  /** The row of that key; the bytes are good until the next call. */
  make(key: number): Uint8Array {
    fillRandom(this.#words, key);
    if (this.#type === 'f32') this.#finishF32();
    else if (this.#type === 'f16') this.#finishF16();
    else this.#finishBlocks(this.#type);
    return this.#row;
  }

  #finishF32(): void {
    const scale = Math.sqrt(3) * this.#deviation / 2 ** 31;
    const floats = new Float32Array(this.#words.buffer);
    for (let i = 0; i < floats.length; i++) {
      floats[i] = this.#mean + (this.#words[i] as number) * scale;
    }
  }

  #finishF16(): void {
    const halves = new Uint16Array(this.#words.buffer);
    for (let i = 0; i < halves.length; i++) {
      halves[i] = this.#halves[(halves[i] as number) & 4095] as number;
    }
  }

  /** Turns the first two bytes of each block into its scale. */
  #finishBlocks(type: 'q8_0' | 'q4_0'): void {
    const mean = this.#deviation / deviations[type];
    const { bytes } = elementTypes[type];
    if (type === 'q8_0') {
      // Odd integers only: -128 is none of the format's.
      this.#words.forEach((word, i) => {
        this.#words[i] = word | 0x01010101;
      });
    }
    for (let at = 0; at < this.bytes; at += bytes) {
      const bits = this.#view.getUint16(at, true);
      // -8 to 7 lean to one side: scales of both signs even that out.
      const sign = type === 'q4_0' && (bits & 0x8000) !== 0 ? -1 : 1;
      this.#view.setUint16(at, halfBits(sign * varied(mean, bits >>> 1)), true);
    }
  }
}
