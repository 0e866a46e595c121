// A downloaded file in a store: a record that says what it is, and its bytes in parts of one size.
//
// Parts are put before the record calls them complete, and belong to one download ("generation"):
// parts of two versions of a file never meet. What is there after an interruption is a beginning
// of the file, from which a download goes on; only a whole one is ever used without the network.
import type { ModelStore, StoredModel } from '../api/store.js';

/** What is kept about a file, as JSON. */
export interface ModelRecord {
  version: 1;
  url: string;
  generation: string;
  partBytes: number;
  /** Of the whole file; missing while it is not known. */
  totalBytes?: number | undefined;
  /** A strong ETag, or a date: what tells whether the file at the address is still the same. */
  validator?: string | undefined;
  /** 64 hexadecimal digits, once all bytes have been seen. */
  sha256?: string;
  /** When it was stored: milliseconds since 1970. */
  storedAt: number;
}

/** Small enough to lose little, large enough to be few. */
const partBytes = 2 << 20;

const recordEnding = '.json';

/** FNV-1a of the address, 64 bits: short enough for a file name. The record has the address in
 * full, so two that collide only push each other out. */
function idOf(url: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(url)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

/** A value's bytes; undefined where there is none, or none any more: a Blob of a file system is
 * read late, and another tab may have deleted it meanwhile. Chromium then says NotFoundError,
 * Firefox AbortError in the midst of a file; what can't be read is not there, whatever the name. */
async function read(store: ModelStore, key: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const value = await store.get(key);
  if (!(value instanceof Blob)) return value && new Uint8Array(value);
  return value.arrayBuffer().then((bytes) => new Uint8Array(bytes), () => undefined);
}

/** The record, if these bytes are one. Storage is as hostile as any other bytes. */
function parseRecord(bytes: Uint8Array | undefined): ModelRecord | undefined {
  if (bytes === undefined) return undefined;
  const isCount = (value: unknown, least: number) => Number.isSafeInteger(value) &&
    (value as number) >= least;
  try {
    const found = JSON.parse(new TextDecoder().decode(bytes)) as ModelRecord;
    const fits = found.version === 1 && typeof found.url === 'string' &&
      /^[0-9a-f]{8}$/.test(found.generation) && isCount(found.partBytes, 1) &&
      isCount(found.storedAt, 0) &&
      (found.totalBytes === undefined || isCount(found.totalBytes, 1)) &&
      (found.validator === undefined || typeof found.validator === 'string') &&
      (found.sha256 === undefined || /^[0-9a-f]{64}$/.test(found.sha256));
    return fits ? found : undefined;
  } catch {
    return undefined;
  }
}

export class SavedModel {
  readonly record: ModelRecord;
  readonly #store: ModelStore;
  #parts: number;

  private constructor(store: ModelStore, record: ModelRecord, parts: number) {
    this.#store = store;
    this.record = record;
    this.#parts = parts;
  }

  /** What the store has of an address; undefined when it has nothing that can be used. */
  static async find(store: ModelStore, url: string): Promise<SavedModel | undefined> {
    const record = parseRecord(await read(store, idOf(url) + recordEnding));
    if (record?.url !== url) return undefined;
    return new SavedModel(store, record, countParts(record, await store.keys()));
  }

  /** A new download. Anything older of that address is deleted. */
  static async begin(store: ModelStore, url: string,
    file: Pick<ModelRecord, 'totalBytes' | 'validator'>): Promise<SavedModel> {
    await deleteSaved(store, url);
    const [random] = crypto.getRandomValues(new Uint32Array(1));
    const generation = (random as number).toString(16).padStart(8, '0');
    const { totalBytes, validator } = file;
    const saved = new SavedModel(store,
      { version: 1, url, generation, partBytes, totalBytes, validator, storedAt: Date.now() }, 0);
    await saved.#putRecord();
    return saved;
  }

  /** Bytes from the beginning of the file that are there. */
  get bytes(): number {
    const { partBytes, totalBytes } = this.record;
    return Math.min(this.#parts * partBytes, totalBytes ?? Number.POSITIVE_INFINITY);
  }

  get isComplete(): boolean {
    return this.bytes === this.record.totalBytes;
  }

  /** The bytes that are there, a part at a time; ends early where one is missing, torn, or not to
   * be had. */
  async* chunks(): AsyncGenerator<Uint8Array> {
    const { partBytes, totalBytes = Number.POSITIVE_INFINITY } = this.record;
    for (let part = 0; part < this.#parts; part++) {
      const bytes = await read(this.#store, partKey(this.record, part))
        .catch(() => undefined);
      if (bytes?.length !== Math.min(partBytes, totalBytes - part * partBytes)) return;
      yield bytes;
    }
  }

  /** Puts the next part; all but the last are of record.partBytes. */
  async putPart(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#store.put(partKey(this.record, this.#parts), bytes);
    this.#parts += 1;
  }

  /** After the last part. */
  async complete(totalBytes: number, hash: string): Promise<void> {
    Object.assign(this.record, { totalBytes, sha256: hash });
    await this.#putRecord();
  }

  async delete(): Promise<void> {
    await deleteSaved(this.#store, this.record.url);
  }

  async #putRecord(): Promise<void> {
    const text = JSON.stringify(this.record);
    await this.#store.put(idOf(this.record.url) + recordEnding, new TextEncoder().encode(text));
  }
}

const partKey = ({ url, generation }: ModelRecord, part: number) =>
  `${idOf(url)}-${generation}-${String(part).padStart(5, '0')}`;

/** Parts that are there without a gap. */
function countParts(record: ModelRecord, keys: readonly string[]): number {
  const there = new Set(keys);
  let parts = 0;
  while (there.has(partKey(record, parts))) parts += 1;
  return parts;
}

/** Deletes what a store has of an address; false when it had nothing. */
export async function deleteSaved(store: ModelStore, url: string): Promise<boolean> {
  const id = idOf(url);
  const keys = (await store.keys()).filter((key) => key.startsWith(id));
  // The record first: parts without one are no model.
  keys.sort((a, b) => Number(b.endsWith(recordEnding)) - Number(a.endsWith(recordEnding)));
  for (const key of keys) await store.delete(key);
  return keys.length > 0;
}

/** What a store has, by address. */
export async function listSaved(store: ModelStore): Promise<StoredModel[]> {
  const keys = await store.keys();
  const found: StoredModel[] = [];
  for (const key of keys.filter((name) => name.endsWith(recordEnding))) {
    const record = parseRecord(await read(store, key));
    if (record === undefined) continue;
    const { partBytes, totalBytes, url, sha256: hash, storedAt } = record;
    const bytes = Math.min(countParts(record, keys) * partBytes,
      totalBytes ?? Number.POSITIVE_INFINITY);
    found.push({ key: url, bytes, totalBytes, complete: bytes === totalBytes, sha256: hash,
      storedAt });
  }
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}
