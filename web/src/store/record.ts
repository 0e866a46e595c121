// The record of a stored file: what is kept about it, as JSON. Storage is as hostile as any other
// bytes, so a record is checked before it is used.

export interface FileRecord {
  version: 2;
  key: string;
  /** Where it came from, for people: an address without its query, or a name of a hub. */
  from: string;
  /** The address without a signature. */
  query: string;
  /** The key was chosen by a caller. */
  isOwn: boolean;
  /** Of one download: parts of two versions of a file never meet. */
  generation: string;
  partBytes: number;
  /** Of the whole file; missing while it is not known. */
  totalBytes?: number | undefined;
  /** A strong ETag, or a date: what tells whether the file at the address is still the same. */
  validator?: string | undefined;
  /** 64 hexadecimal digits, once all bytes have been seen and are a model. */
  sha256?: string | undefined;
  /** When it was stored: milliseconds since 1970. */
  storedAt: number;
}

/** Small enough to lose little, large enough to be few. */
export const partBytes = 2 << 20;
const partBytesMost = 64 << 20;

export const recordEnding = '.json';
export const recordName = /^[0-9a-f]{16}\.json$/;
/** Of a Date. */
const timeMost = 8.64e15;

/** FNV-1a of the key, 64 bits: short enough for a file name. The record has the key in full, so
 * two that collide only push each other out. */
export function idOf(key: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(key)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

/** As records of version 1 were: their key was the address with its query. */
function renewed(found: Record<string, unknown>): Record<string, unknown> {
  if (found['version'] !== 1 || typeof found['url'] !== 'string') return found;
  const { url, ...rest } = found;
  const [from, query] = url.split('?') as [string, string?];
  return { ...rest, version: 2, key: url, from, query: query ?? '', isOwn: false };
}

/** The record, if these bytes are one. */
export function parseRecord(bytes: Uint8Array | undefined): FileRecord | undefined {
  if (bytes === undefined) return undefined;
  const isCount = (value: unknown, least: number, most = Number.MAX_SAFE_INTEGER) =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
  try {
    const found = renewed(JSON.parse(new TextDecoder().decode(bytes))) as unknown as FileRecord;
    const texts = [found.key, found.from, found.query, found.generation, found.validator ?? '',
      found.sha256 ?? ''];
    const fits = found.version === 2 && texts.every((text) => typeof text === 'string') &&
      typeof found.isOwn === 'boolean' && /^[0-9a-f]{8}$/.test(found.generation) &&
      isCount(found.partBytes, 1, partBytesMost) && isCount(found.storedAt, 0, timeMost) &&
      (found.totalBytes === undefined || isCount(found.totalBytes, 1)) &&
      (found.sha256 === undefined || /^[0-9a-f]{64}$/.test(found.sha256));
    return fits ? found : undefined;
  } catch {
    return undefined;
  }
}

/** The store's key of a file's record. */
export const recordKey = ({ key }: Pick<FileRecord, 'key'>): string => idOf(key) + recordEnding;

/** The store's key of a part. */
export const partKey = ({ key, generation }: FileRecord, part: number): string =>
  `${idOf(key)}-${generation}-${String(part).padStart(5, '0')}`;

/** Parts that are there without a gap. */
export function countParts(record: FileRecord, keys: readonly string[]): number {
  const there = new Set(keys);
  let parts = 0;
  while (there.has(partKey(record, parts))) parts += 1;
  return parts;
}

/** The bytes that so many parts are. */
export const bytesOf = (record: FileRecord, parts: number): number =>
  Math.min(parts * record.partBytes, record.totalBytes ?? Number.POSITIVE_INFINITY);
