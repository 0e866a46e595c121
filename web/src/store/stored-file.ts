// A downloaded file in a store: a record that says what it is, and its bytes in parts of one size.
//
// What is there after an interruption is a beginning of the file, from which a download goes on;
// only one that all bytes were seen of, and that core took for a model, is ever used without the
// network. The record is put before the first part: parts that no record names are nobody's, and
// are swept when the next download begins.
import type { ModelStore, StoredModel } from '../api/store.js';
import { joinReaders } from '../util/read-at.js';
import type { ReadAt } from '../util/read-at.js';
import type { FileName } from './names.js';
import { readerOf } from './reader.js';
import { bytesOf, countParts, idOf, parseRecord, partBytes, partKey, recordEnding, recordKey,
  recordName } from './record.js';
import type { FileRecord } from './record.js';

/** A value's bytes; undefined where there is none, or none any more: a Blob of a file system is
 * read late, and another tab may have deleted it meanwhile. Chromium then says NotFoundError,
 * Firefox AbortError in the midst of a file; what can't be read is not there, whatever the name. */
async function read(store: ModelStore, key: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const value = await store.get(key);
  if (!(value instanceof Blob)) return value && new Uint8Array(value);
  return value.arrayBuffer().then((bytes) => new Uint8Array(bytes), () => undefined);
}

async function readRecord(store: ModelStore, key: string): Promise<FileRecord | undefined> {
  return parseRecord(await read(store, key));
}

interface Records {
  records: FileRecord[];
  /** The store's keys of those that cannot be read, or say what they should not. */
  damaged: string[];
}

async function allRecords(store: ModelStore, keys: readonly string[]): Promise<Records> {
  const records: FileRecord[] = [];
  const damaged: string[] = [];
  for (const key of keys.filter((name) => recordName.test(name))) {
    // One entry that cannot be read hides no others.
    const record = await readRecord(store, key).catch(() => undefined);
    if (record !== undefined && recordKey(record) === key) records.push(record);
    else damaged.push(key);
  }
  return { records, damaged };
}

/** A whole file first, then the newest. */
const byUse = (a: FileRecord, b: FileRecord) =>
  Number(b.sha256 !== undefined) - Number(a.sha256 !== undefined) || b.storedAt - a.storedAt;

/** The record of a file: by its key; else of the same bytes, if their digest is known; else of the
 * same address, unless the caller has a key of their own. With a digest, only a beginning is taken
 * from there: a whole file is known to be another one. */
async function findRecord(store: ModelStore, { key, from, isOwn }: FileName,
  sha256: string | undefined, keys: readonly string[]): Promise<FileRecord | undefined> {
  const exact = await readRecord(store, idOf(key) + recordEnding).catch(() => undefined);
  if (exact?.key === key) return exact;
  const others = (await allRecords(store, keys)).records.sort(byUse);
  const isHere = (other: FileRecord) => !isOwn && !other.isOwn && other.from === from;
  if (sha256 === undefined) return others.find(isHere);
  return others.find((other) => other.sha256 === sha256) ??
    others.find((other) => isHere(other) && other.sha256 === undefined);
}

/** The record was deleted, or is that of another download by now. */
export class Overtaken extends Error {
  constructor() {
    super('it was removed, or downloaded by somebody else, meanwhile');
  }
}

export class StoredFile {
  readonly record: FileRecord;
  readonly #store: ModelStore;
  #parts: number;
  /** The record is in the store. */
  #isPut: boolean;
  #instead: StoredFile | undefined;

  private constructor(store: ModelStore, record: FileRecord, parts: number, isPut: boolean) {
    this.#store = store;
    this.record = record;
    this.#parts = parts;
    this.#isPut = isPut;
  }

  /** What the store has of a file; undefined when it has nothing that can be used. */
  static async find(store: ModelStore, name: FileName,
    sha256: string | undefined): Promise<StoredFile | undefined> {
    const keys = await store.keys();
    const record = await findRecord(store, name, sha256, keys);
    return record && new StoredFile(store, record, countParts(record, keys), true);
  }

  /** A new download. Nothing is touched before its first part is put: what comes may not be a
   * model, and the older copy (`instead`) may still be of use. */
  static begin(store: ModelStore, { key, from, query, isOwn }: FileName,
    file: Pick<FileRecord, 'totalBytes' | 'validator'>, instead?: StoredFile): StoredFile {
    const [random] = crypto.getRandomValues(new Uint32Array(1));
    const generation = (random as number).toString(16).padStart(8, '0');
    const { totalBytes, validator } = file;
    const begun = new StoredFile(store, { version: 2, key, from, query, isOwn, generation,
      partBytes, totalBytes, validator, storedAt: Date.now() }, 0, false);
    begun.#instead = instead;
    return begun;
  }

  /** Bytes from the beginning of the file that are there. */
  get bytes(): number {
    return bytesOf(this.record, this.#parts);
  }

  /** All parts are there; whether they are a model was not yet seen if sha256 is missing. */
  get isWhole(): boolean {
    return this.bytes === this.record.totalBytes;
  }

  /** The bytes that are there, a part at a time; ends early where one is missing, torn, or not to
   * be had. */
  async* chunks(): AsyncGenerator<Uint8Array> {
    const { partBytes: most, totalBytes = Number.POSITIVE_INFINITY } = this.record;
    for (let part = 0; part < this.#parts; part++) {
      const bytes = await read(this.#store, partKey(this.record, part))
        .catch(() => undefined);
      if (bytes?.length !== Math.min(most, totalBytes - part * most)) return;
      yield bytes;
    }
  }

  /** Reads bytes at any place, where the store can (reader.ts). */
  async reader(): Promise<ReadAt | undefined> {
    const pieces: { readAt: ReadAt; bytes: number }[] = [];
    while (pieces.length < this.#parts) {
      const readAt = await readerOf(this.#store, partKey(this.record, pieces.length));
      if (readAt === undefined) return undefined;
      pieces.push({ readAt, bytes: this.record.partBytes });
    }
    return joinReaders(pieces);
  }

  /** Puts the next part; all but the last are of record.partBytes. */
  async putPart(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.#isPut) {
      await this.#instead?.delete();
      await deleteFile(this.#store, this.record.key);
      await sweep(this.#store).catch(() => {});
      await this.#putRecord();
    }
    await this.#store.put(partKey(this.record, this.#parts), bytes);
    this.#parts += 1;
  }

  /** After the last part, when core has taken the file. Error: Overtaken. */
  async complete(totalBytes: number, sha256: string): Promise<void> {
    const { generation } = this.record;
    if ((await readRecord(this.#store, recordKey(this.record)))?.generation !== generation) {
      await this.delete();
      throw new Overtaken();
    }
    Object.assign(this.record, { totalBytes, sha256 });
    await this.#putRecord();
  }

  /** Deletes this download, and nothing of a newer one of the same key. */
  async delete(): Promise<void> {
    if (!this.#isPut) return;
    const own = recordKey(this.record);
    const record = await readRecord(this.#store, own).catch(() => undefined);
    const isThere = record?.generation === this.record.generation;
    if (isThere) await this.#store.delete(own);
    for (const key of await this.#store.keys()) {
      if (key.startsWith(partKey(this.record, 0).slice(0, -5))) await this.#store.delete(key);
    }
  }

  async #putRecord(): Promise<void> {
    const text = JSON.stringify(this.record);
    await this.#store.put(recordKey(this.record), new TextEncoder().encode(text));
    this.#isPut = true;
  }
}

/** Deletes parts that no record names. Of a download on its way the record is there: it was put
 * before the part, and is read after the list of keys. */
async function sweep(store: ModelStore): Promise<void> {
  const keys = await store.keys();
  const ownerOf = new Map<string, string | undefined>();
  for (const key of keys) {
    const [id, generation] = key.split('-') as [string, string?];
    if (generation === undefined) continue;
    if (!ownerOf.has(id)) {
      // What a record says that cannot be read just now is not known: its parts stay.
      ownerOf.set(id, await readRecord(store, id + recordEnding)
        .then((record) => record?.generation, () => 'any'));
    }
    if (![generation, 'any'].includes(ownerOf.get(id) ?? '')) await store.delete(key);
  }
}

/** Deletes what a store has under a key, or of a record by its own name; false when it
 * had nothing. */
async function deleteFile(store: ModelStore, name: string): Promise<boolean> {
  const id = recordName.test(name) ? name.slice(0, -recordEnding.length) : idOf(name);
  const keys = (await store.keys()).filter((key) => key.startsWith(id));
  // The record first: parts without one are not a model.
  keys.sort((a, b) => Number(b.endsWith(recordEnding)) - Number(a.endsWith(recordEnding)));
  for (const key of keys) await store.delete(key);
  return keys.length > 0;
}

/** Deletes what a store has under a key, or else all that came from there (`from`); false when it
 * had nothing. */
export async function deleteFiles(store: ModelStore, name: string): Promise<boolean> {
  if (await deleteFile(store, name)) return true;
  const { records } = await allRecords(store, await store.keys());
  const found = records.filter(({ from }) => from === name);
  for (const { key } of found) await deleteFile(store, key);
  return found.length > 0;
}

/** What a store has, by key. */
export async function listFiles(store: ModelStore): Promise<StoredModel[]> {
  const keys = await store.keys();
  const { records, damaged } = await allRecords(store, keys);
  // Another process may have deleted them since.
  const there = damaged.length === 0 ? [] : await store.keys();
  const unread = damaged.filter((key) => there.includes(key)).map((key): StoredModel => ({ key,
    from: key, bytes: 0, totalBytes: undefined, complete: false, sha256: undefined, storedAt: 0,
    superseded: false, damaged: true }));
  const read = records.map((record): StoredModel => {
    const { key, from, totalBytes, sha256, storedAt, isOwn } = record;
    const bytes = bytesOf(record, countParts(record, keys));
    // A load of the address finds the newer one.
    const superseded = !isOwn && records.some((other) => other !== record && !other.isOwn &&
      other.from === from && byUse(other, record) < 0);
    const complete = bytes === totalBytes && sha256 !== undefined;
    return { key, from, bytes, totalBytes, complete, sha256, storedAt, superseded };
  });
  return [...read, ...unread].sort((a, b) => (a.key < b.key ? -1 : 1));
}
