// A model in several files, -00001-of-00003.gguf and so on, as one source: each file has a header
// of its own, of which one for all is made, and the data of all of them follows it in order. Core
// reads that as any file.
//
// All headers are read first, which takes a short request for each file: the tensors of the last
// one stand in the header of the whole. What a file gives afterwards is compared with that.
import { OneKVError, invalidArgument } from '../api/errors.js';
import { joinReaders, noBytes } from '../util/read-at.js';
import type { ReadAt } from '../util/read-at.js';
import { Arrived } from './arrived.js';
import { NotReadable, Replaced } from './download.js';
import type { PartHeader } from './gguf-header.js';
import { headerBytesMost, integerOf, joinHeaders, parseHeader } from './gguf-header.js';
import type { Reading, Source } from './source.js';

const partsMost = 1000;
const pattern = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** The names of all parts, if this is the name of one; undefined for the names of other files. */
export function partNames(name: string): string[] | undefined {
  const match = pattern.exec(name);
  const count = Number(match?.[2]);
  if (match === null || !(count > 1 && count <= partsMost)) return undefined;
  const digits = (part: number) => String(part).padStart(5, '0');
  return Array.from({ length: count }, (_, i) =>
    `${name.slice(0, match.index)}-${digits(i + 1)}-of-${match[2]}${name.slice(-5)}`);
}

interface Part {
  source: Source;
  header: PartHeader;
  /** The header as it stands in the file, to compare with. */
  head: Uint8Array;
  totalBytes: number;
}

/** How often parts that are replaced again and again are read. */
const readingsMost = 3;

/** The error, with the part in front. */
function ofPart(error: unknown, { name }: Source): unknown {
  if (!(error instanceof OneKVError)) return error;
  return new OneKVError(error.code, `of its parts, ${name}: ${error.message}`, { cause: error });
}

/** The header of one part, read as often as that may help. Errors as Source, those of the
 * format. */
async function readPart(source: Source): Promise<Part> {
  for (;;) {
    const reading = await source.openHeader();
    try {
      const part = await readHead(source, reading);
      await reading.leave(undefined);
      return part;
    } catch (error) {
      if (!await reading.leave(error)) throw error;
    }
  }
}

/** As parseHeader, in words of what has arrived. */
function parsed(bytes: Uint8Array, arrived: Arrived): PartHeader | undefined {
  try {
    return parseHeader(bytes);
  } catch (error) {
    throw arrived.explain(error);
  }
}

async function readHead(source: Source, reading: Reading): Promise<Part> {
  let bytes = new Uint8Array(0);
  let filled = 0;
  let tryAt = 0;
  const arrived = new Arrived();
  for await (const chunk of reading.chunks) {
    arrived.see(chunk);
    if (filled + chunk.length > bytes.length) {
      const grown = new Uint8Array(Math.max(2 * bytes.length, filled + chunk.length));
      grown.set(bytes.subarray(0, filled));
      bytes = grown;
    }
    bytes.set(chunk, filled);
    filled += chunk.length;
    // Not at each chunk: a long header would be read again and again.
    if (filled < tryAt) continue;
    const header = parsed(bytes.subarray(0, filled), arrived);
    if (header !== undefined) return partOf(source, reading, header, bytes);
    if (filled > headerBytesMost) break;
    tryAt = filled * 1.25;
  }
  const header = parsed(bytes.subarray(0, filled), arrived);
  if (header !== undefined) return partOf(source, reading, header, bytes);
  throw new OneKVError('TRUNCATED', `the file ends inside its header, after ${filled} bytes`);
}

function partOf(source: Source, { totalBytes }: Reading, header: PartHeader,
  bytes: Uint8Array): Part {
  if (totalBytes === undefined) {
    throw new OneKVError('SOURCE_FAILED', 'its length is not known, as that of a part must be: ' +
      'the server has to send Content-Length, uncompressed');
  }
  const { fileBytes } = header;
  if (totalBytes < fileBytes) {
    throw new OneKVError('TRUNCATED', `the file ends after ${totalBytes} of ${fileBytes} bytes`);
  }
  return { source, header, head: bytes.slice(0, header.bytes), totalBytes };
}

/** The parts in their order. Error: SOURCE_FAILED, CORRUPT: one is missing, or of another model. */
function inOrder(parts: readonly Part[]): Part[] {
  const found = new Map<number, Part>();
  for (const part of parts) {
    const { source: { name }, header: { keys } } = part;
    const number = integerOf(keys.get('split.no'));
    const count = integerOf(keys.get('split.count'));
    if (number === undefined || count === undefined) {
      throw new OneKVError('CORRUPT', `${name} is a whole file, expected a part of a split one`);
    }
    if (count !== parts.length || number >= count) {
      throw new OneKVError('CORRUPT', `${name} is part ${number + 1} of ${count}, expected one ` +
        `of ${parts.length}`);
    }
    const other = found.get(number);
    if (other !== undefined) {
      throw new OneKVError('CORRUPT', `${other.source.name} and ${name} are both part ` +
        `${number + 1} of ${count}`);
    }
    found.set(number, part);
  }
  const ordered = parts.map((_, i) => found.get(i) as Part);
  const [first] = ordered as [Part, ...Part[]];
  const expected = integerOf(first.header.keys.get('split.tensors.count'));
  const count = ordered.reduce((sum, { header }) => sum + header.tensors.length, 0);
  if (expected !== undefined && expected !== count) {
    throw new OneKVError('CORRUPT', `the parts have ${count} tensors, expected ${expected}: one ` +
      'of them is of another model');
  }
  return ordered;
}

/** A part's bytes after its header. Error: Replaced when the header is another one by now. */
async function* dataOf({ head, totalBytes }: Part, reading: Reading): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const chunk of reading.chunks) {
    const own = chunk.subarray(0, Math.max(0, head.length - at));
    if (own.some((byte, i) => byte !== head[at + i])) throw new Replaced();
    at += chunk.length;
    if (at > totalBytes) {
      throw new OneKVError('CORRUPT', `found more than ${totalBytes} bytes, as were announced`);
    }
    if (own.length < chunk.length) yield chunk.subarray(own.length);
  }
  if (at !== totalBytes) {
    throw new OneKVError('TRUNCATED', `found ${at} bytes, expected ${totalBytes}`);
  }
}

export class SplitSource implements Source {
  readonly name: string;
  readonly #sources: readonly Source[];
  /** Rows that were to be read from the files could not be. */
  #isHeld = false;
  #readings = 0;

  /** Error: INVALID_ARGUMENT. */
  constructor(sources: readonly Source[], name?: string) {
    if (sources.length === 0 || sources.length > partsMost) {
      throw invalidArgument('source', sources, `an array of 1 to ${partsMost} parts`);
    }
    this.#sources = sources;
    this.name = name ?? (sources[0] as Source).name;
  }

  mayRead(): boolean {
    return !this.#isHeld && this.#sources.every((source) => source.mayRead());
  }

  async #parts(): Promise<Part[]> {
    const parts: Part[] = [];
    for (const source of this.#sources) {
      try {
        parts.push(await readPart(source));
      } catch (error) {
        throw ofPart(error, source);
      }
    }
    return inOrder(parts);
  }

  async #join(): Promise<{ parts: Part[]; header: Uint8Array; gaps: number[];
    totalBytes: number }> {
    const parts = await this.#parts();
    const { alignment } = (parts[0] as Part).header;
    const dataAt: number[] = [];
    /** Zeros after each part, so that the next one's data is aligned. */
    const gaps: number[] = [];
    let end = 0;
    for (const { header: { bytes }, totalBytes } of parts) {
      dataAt.push(end);
      end += Math.max(0, totalBytes - bytes);
      gaps.push((alignment - end % alignment) % alignment);
      end += gaps.at(-1) as number;
    }
    const header = joinHeaders(parts.map((part) => part.header), dataAt);
    const last = gaps.pop() as number;
    return { parts, header, gaps, totalBytes: header.length + end - last };
  }

  async open(): Promise<Reading> {
    const { parts, header, gaps, totalBytes } = await this.#join();
    this.#readings += 1;
    const isLast = this.#readings >= readingsMost;
    const readings: Reading[] = [];
    /** The last one's, which has no words about parts yet; other parts are not to blame. */
    let fault: { error: unknown } | undefined;
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield header;
      for (const [i, part] of parts.entries()) {
        try {
          const reading = await part.source.open();
          readings.push(reading);
          yield* dataOf(part, reading);
        } catch (error) {
          fault = { error };
          throw ofPart(error, part.source);
        }
        if ((gaps[i] ?? 0) > 0) yield new Uint8Array(gaps[i] as number);
      }
    }
    const each = async (use: (reading: Reading) => Promise<unknown>) => {
      for (const reading of readings) await use(reading);
    };
    const isLeft = this.mayRead();
    let joined: ReadAt | undefined; // When all parts have been opened.
    const join = () => joinReaders([
      { readAt: (at, count) => header.slice(at, at + count), bytes: header.length },
      ...parts.flatMap(({ header: { bytes }, totalBytes: all }, i) => [
        { readAt: readings[i]?.readAt ?? noBytes, from: bytes, bytes: Math.max(0, all - bytes) },
        { readAt: (_: number, count: number) => new Uint8Array(count), bytes: gaps[i] ?? 0 }])]);
    return {
      name: this.name,
      totalBytes,
      chunks: chunks(),
      readAt: isLeft ? (offset, count) => (joined ??= join())(offset, count) : undefined,
      accept: async (hasRows = false) => {
        const isAsked = isLeft && hasRows;
        await each((reading) => reading.accept(isAsked));
        if (!isAsked || readings.every(({ readAt }) => readAt !== undefined)) return;
        fault = { error: new NotReadable() };
        throw fault.error;
      },
      leave: async (error) => {
        let again = false;
        await each(async (reading) => {
          const isBlamed = fault === undefined || reading === readings.at(-1);
          again = await reading.leave(isBlamed ? fault?.error ?? error : undefined) || again;
        });
        if (error instanceof NotReadable) this.#isHeld = true;
        return !isLast &&
          (again || fault?.error instanceof Replaced || error instanceof NotReadable);
      },
    };
  }

  async openHeader(): Promise<Reading> {
    const { header, totalBytes } = await this.#join();
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield header;
    }
    return { name: this.name, totalBytes, chunks: chunks(), accept: async () => {},
      readAt: this.mayRead() ? noBytes : undefined, // So that it counts as the whole will.
      leave: async () => false };
  }
}
