// A GGUF file with its Q8_0 matrices as Q4_0: what smaller weights cost a model in quality.
//
// Q4_0: blocks of 32 numbers share a scale d, the number of largest magnitude divided by -8, and
// are d·(q - 8) with q of 4 bits; number i of the first 16 is the low half of byte i, number i of
// the others the high half.
import type { OwnBytes } from '../api/bytes.js';
import type { OpenedSource } from '../api/source.js';
import { readGguf } from './gguf-reader.js';
import { aligned } from './gguf-writer.js';
import { elementTypes, halfBits, halfValue } from './random-rows.js';

const { q8_0: from, q4_0: to } = elementTypes;

/** One block: 34 bytes to 18. */
function requantiseBlock(source: DataView, at: number, target: DataView, to4: number): void {
  const scale = halfValue(source.getUint16(at, true));
  let most = 0;
  for (let i = 0; i < from.block; i++) {
    const q = source.getInt8(at + 2 + i);
    if (Math.abs(q) > Math.abs(most)) most = q;
  }
  const d = most * scale / -8;
  target.setUint16(to4, halfBits(d), true);
  const nibble = (i: number) => (d === 0 ? 8
    : Math.min(15, Math.floor(source.getInt8(at + 2 + i) * scale / d + 8.5)));
  for (let i = 0; i < 16; i++) target.setUint8(to4 + 2 + i, nibble(i) | (nibble(i + 16) << 4));
}

function requantise(data: OwnBytes, blocks: number): Uint8Array {
  const result = new Uint8Array(aligned(blocks * to.bytes));
  const source = new DataView(data.buffer, data.byteOffset);
  const target = new DataView(result.buffer);
  for (let i = 0; i < blocks; i++) requantiseBlock(source, i * from.bytes, target, i * to.bytes);
  return result;
}

/** The file in Q4_0, as a source for loadModel that can be read once. Error: CORRUPT. */
export function requantised(bytes: OwnBytes, name: string): OpenedSource {
  const { headerBytes, tensors } = readGguf(bytes);
  const header = bytes.slice(0, headerBytes);
  const view = new DataView(header.buffer);
  const ends = tensors.map(({ data }) => bytes.length - data.length);
  let offset = 0;
  const contents = tensors.map(({ dimensions, type, data, typeAt }, i) => {
    const isMatrix = type === from.number && dimensions.length > 1;
    const count = dimensions.reduce((product, n) => product * n, 1);
    const start = ends[i] as number;
    const end = Math.min(bytes.length, ...ends.filter((other) => other > start));
    const content = isMatrix ? () => requantise(data, count / from.block)
      : () => data.subarray(0, end - start);
    if (isMatrix) view.setUint32(typeAt, to.number, true);
    view.setBigUint64(typeAt + 4, BigInt(offset), true);
    offset += isMatrix ? aligned(count / from.block * to.bytes) : end - start;
    return content;
  });
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield header;
    for (const content of contents) yield content();
  }
  return { chunks: chunks(), totalBytes: headerBytes + offset, name };
}
