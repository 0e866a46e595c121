// The bytes of a URL: from a store, from the network, or the beginning from the one and the rest
// from the other. On their way from the network they go into the store.
//
// What is stored is used as whole only once core has taken it (Reading.accept). When reading fails
// it is decided here whether another reading may do better: a copy that is damaged, or that core
// refuses, is deleted and fetched anew, once; a file that was replaced meanwhile is read again.
import type { ErrorCode } from '../api/errors.js';
import { OneKVError } from '../api/errors.js';
import type { ModelStore, SharedFiles, StoreChoice } from '../api/store.js';
import { chooseStore } from '../store/choose.js';
import { Digest, verified } from '../store/integrity.js';
import { lockFile } from '../store/lock.js';
import type { FileName } from '../store/names.js';
import { bareAddress, nameOf } from '../store/names.js';
import { mayRead } from '../store/reader.js';
import { Recorder, notKept, notStored } from '../store/recorder.js';
import { Overtaken, StoredFile } from '../store/stored-file.js';
import { noBytes } from '../util/read-at.js';
import { readStream } from '../util/streams.js';
import { NotReadable, Replaced, openBeginning, openDownload } from './download.js';
import type { Download } from './download.js';
import type { Access } from './request.js';
import type { Reading, Source } from './source.js';

export interface UrlOptions {
  access: Access;
  /** 64 hexadecimal digits, or undefined. */
  sha256: string | undefined;
  store: StoreChoice;
  /** An error when it is not stored. */
  mustKeep?: boolean | undefined;
  onNote: (note: string) => void;
  /** The caller's own key in the store. */
  key: string | undefined;
  /** The file's name, if it has a better one than its address. */
  from?: string;
  /** What all sites share; undefined: nothing. */
  shared: SharedFiles | undefined;
  /** No key is needed for it: others may have it too. */
  isPublic: boolean;
}

/** The stored copy is not what its record says. */
class DamagedCopy extends OneKVError {
  constructor() {
    super('SOURCE_FAILED', 'the stored copy was damaged');
  }
}

/** What core says of bytes that are not a model it can run. */
const refusals: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_GGUF', 'UNSUPPORTED_VERSION',
  'TRUNCATED', 'CORRUPT', 'UNSUPPORTED_TYPE', 'UNSUPPORTED_MODEL', 'MISSING_KEY', 'BAD_KEY',
  'MISSING_TENSOR', 'BAD_TENSOR', 'UNKNOWN_TENSOR', 'INTEGRITY_FAILED']);

/** How often a file that is replaced again and again is read. */
const readingsMost = 3;

/** One reading of the file: where its bytes come from, and what is to be done in the end. */
interface Plan {
  totalBytes: number | undefined;
  chunks: AsyncIterable<Uint8Array>;
  readAt?: Reading['readAt'];
  /** Where readAt is of a copy that is being stored: makes it ready; false if it cannot. */
  settle?: () => Promise<boolean>;
  recorder: Recorder;
  /** The stored copy that bytes are read from; undefined when all come from the network. */
  used: StoredFile | undefined;
  /** It comes from the network; from what sites share. */
  isNew?: boolean;
  isShared?: boolean;
}

export class UrlSource implements Source {
  readonly name: string;
  readonly #options: UrlOptions;
  readonly #fileName: FileName;
  /** Of all of it, and of its header. */
  readonly #readings = { whole: 0, header: 0 };
  /** A stored copy was of no use, and has been fetched anew. */
  #isAnew = false;
  /** What was to be read from the stored copy could not be: it has to be held in memory. */
  #isHeld = false;
  /** What other sites have put there was something else. */
  #isSharedWrong = false;

  constructor(options: UrlOptions) {
    const { access: { address: { url } }, sha256, key, from } = options;
    this.#options = options;
    this.name = from ?? bareAddress(url);
    this.#fileName = nameOf(url, sha256, key, from);
  }

  mayRead(): boolean {
    const { store, access } = this.#options;
    return !this.#isHeld && /^https?:$/.test(access.address.url.protocol) &&
      mayRead(chooseStore(store));
  }

  get #mustKeep(): boolean {
    return this.#options.mustKeep === true;
  }

  /** Counts a reading; gives whether it is the last one that may be tried. */
  #isLast(kind: 'whole' | 'header'): boolean {
    this.#readings[kind] += 1;
    return this.#readings[kind] >= readingsMost;
  }

  /** The store, unless nothing should be kept. */
  #choose(isLast: boolean): ModelStore | undefined {
    const { store: choice, onNote, access } = this.#options;
    // Nobody can ask again for what a page has in its own memory.
    if (!/^https?:$/.test(access.address.url.protocol)) return undefined;
    // Loading goes on without a store that neither reads its copy nor deletes it.
    if (isLast && !this.#mustKeep) return undefined;
    const { kind, store, reason } = chooseStore(choice);
    // Outside of a page nobody expects one unasked.
    if (reason !== undefined && (choice !== 'auto' || globalThis.location !== undefined)) {
      onNote(`store: ${reason}; ${kind === 'none' ? 'nothing is kept' : `${kind} is used`}`);
    }
    if (store === undefined && this.#mustKeep) throw notKept(new Error('there is no store'));
    return store;
  }

  /** What the store has. If it fails, loading goes on without it and a note is recorded.
   * Error: SOURCE_FAILED when the copy must be kept. */
  async #look(store: ModelStore | undefined, onNote: (note: string) => void):
  Promise<{ store?: ModelStore; file?: StoredFile | undefined }> {
    if (store === undefined) return {};
    try {
      const { sha256 } = this.#options;
      return { store, file: await StoredFile.find(store, this.#fileName, sha256) };
    } catch (error) {
      if (this.#mustKeep) throw notKept(error);
      onNote(notStored(error));
      return {};
    }
  }

  async open(): Promise<Reading> {
    const isLast = this.#isLast('whole');
    const store = this.#choose(isLast);
    const { access: { signal }, onNote } = this.#options;
    const release = store === undefined ? () => {}
      : await lockFile(this.#fileName, signal);
    try {
      const found = await this.#look(store, onNote);
      const plan = await this.#plan(found.store, found.file);
      return this.#reading(plan, release, isLast);
    } catch (error) {
      release();
      throw error;
    }
  }

  async #plan(store: ModelStore | undefined, file: StoredFile | undefined): Promise<Plan> {
    const { access, sha256 } = this.#options;
    // The browser need not keep a second copy.
    if (store !== undefined) access.cache = 'no-store';
    const record = file?.record;
    const isOther = sha256 !== undefined && record?.sha256 !== undefined &&
      record.sha256 !== sha256;
    const isSame = record?.sha256 === sha256 || record?.query === this.#fileName.query ||
      this.#fileName.isOwn;
    if (file !== undefined && file.isWhole && !isOther && isSame) return this.#opened(file);
    const shared = await this.#findShared();
    if (shared !== undefined) return shared;
    // Without a validator only a digest can tell that two ranges are of one file.
    const validator = record?.validator ?? (sha256 === undefined ? undefined : 'any' as const);
    const isOfUse = file !== undefined && file.bytes > 0 && !isOther && validator !== undefined;
    if (!isOfUse) return this.#downloaded(await openDownload(access), store, undefined, file);
    if (!file.isWhole) {
      const from = { offset: file.bytes, totalBytes: record?.totalBytes, validator };
      const rest = await openDownload(access, from);
      return this.#downloaded(rest, store, rest.start > 0 ? file : undefined, file);
    }
    // The query is another one: only the server knows whether it still means the same file.
    const again = await openDownload(access);
    if (again.validator !== validator || again.totalBytes !== record?.totalBytes) {
      return this.#downloaded(again, store, undefined, file);
    }
    await again.cancel();
    return this.#opened(file);
  }

  /** All bytes of a file that sites share; DamagedCopy if they are not those of the digest. */
  async #findShared(): Promise<Plan | undefined> {
    const { sha256, shared, store } = this.#options;
    if (sha256 === undefined || store === 'none' || this.#isSharedWrong || this.#mustKeep) {
      return undefined;
    }
    const found = await shared?.find(sha256);
    if (found === undefined) return undefined;
    const chunks = async function* chunks(this: UrlSource): AsyncGenerator<Uint8Array> {
      try {
        yield* verified(readStream(found.stream()), sha256);
      } catch {
        this.#isSharedWrong = true;
        throw new DamagedCopy();
      }
    };
    const recorder = new Recorder(undefined, false, () => {});
    return { totalBytes: found.size, chunks: chunks.call(this), recorder, used: undefined,
      isShared: true };
  }

  /** Gives the sites' shared files a copy of what was stored; nobody waits for it. */
  #share(): void {
    const { sha256, shared, isPublic } = this.#options;
    if (shared === undefined || sha256 === undefined || !isPublic) return;
    const copy = async () => {
      const store = this.#choose(false);
      const file = store && await StoredFile.find(store, this.#fileName, sha256);
      if (file?.record.sha256 === sha256) await shared.keep(sha256, file.chunks());
    };
    copy().catch(() => {});
  }

  /** A stored file, which is there to be read as long as the model is used. */
  async #opened(file: StoredFile): Promise<Plan> {
    return { ...this.#stored(file), readAt: await file.reader() };
  }

  /** All bytes of a stored file; DamagedCopy if it is none any more. */
  #stored(file: StoredFile): Plan {
    const { sha256, onNote } = this.#options;
    const { record } = file;
    // One that core has not taken yet: its digest is not known.
    const isNew = record.sha256 === undefined;
    const recorder = new Recorder(isNew ? file : undefined, isNew, onNote, this.#mustKeep);
    async function* chunks(): AsyncGenerator<Uint8Array> {
      const hash = sha256 === undefined ? undefined : new Digest();
      let bytes = 0;
      for await (const chunk of file.chunks()) {
        hash?.update(chunk);
        recorder.skip(chunk);
        bytes += chunk.length;
        yield chunk;
      }
      if (bytes !== record.totalBytes) throw new DamagedCopy();
      if (hash !== undefined && hash.hex() !== sha256) throw new DamagedCopy();
      await recorder.end(sha256);
    }
    return { totalBytes: record.totalBytes, chunks: chunks(), recorder, used: file };
  }

  /** Bytes of a beginning that is stored, then what comes from the network, which is stored too,
   * instead of an older copy. */
  #downloaded(download: Download, store: ModelStore | undefined, file: StoredFile | undefined,
    instead: StoredFile | undefined): Plan {
    const { sha256, onNote } = this.#options;
    const kept = file ?? (store && StoredFile.begin(store, this.#fileName, download, instead));
    const recorder = new Recorder(kept, sha256 !== undefined, onNote, this.#mustKeep);
    async function* chunks(): AsyncGenerator<Uint8Array> {
      let bytes = 0;
      if (file !== undefined) {
        for await (const chunk of file.chunks()) {
          recorder.skip(chunk);
          bytes += chunk.length;
          yield chunk;
        }
      }
      if (bytes !== download.start) {
        await download.cancel();
        throw new DamagedCopy();
      }
      for await (const chunk of download.chunks) {
        await recorder.take(chunk);
        yield chunk;
      }
      await recorder.end(sha256);
    }
    let late: Reading['readAt'];
    const isLeft = kept !== undefined && this.mayRead();
    return {
      get totalBytes() { return download.totalBytes; },
      chunks: chunks(), recorder, used: file, isNew: true,
      // What passes is not held, so it must be in the copy when the model is ready.
      readAt: isLeft ? (offset, count) => (late ?? noBytes)(offset, count) : undefined,
      settle: async () => {
        late = recorder.isKept ? await kept?.reader() : undefined;
        return late !== undefined;
      },
    };
  }

  #reading(plan: Plan, release: () => void, isLast: boolean): Reading {
    const { recorder } = plan;
    let isOver = false;
    const leave = async (error: unknown): Promise<boolean> => {
      if (isOver) return false;
      isOver = true;
      try {
        await recorder.leave();
        return await this.#decide(plan, error) && !isLast;
      } finally {
        release();
      }
    };
    return {
      name: this.name,
      get totalBytes() { return plan.totalBytes; },
      chunks: plan.chunks,
      readAt: plan.readAt,
      accept: async (hasRows = false) => {
        await recorder.accept();
        const isReady = !hasRows || plan.readAt === undefined || await plan.settle?.() !== false;
        if (!isReady) throw new NotReadable();
        await leave(undefined);
        if (plan.isNew === true) this.#share();
      },
      leave,
    };
  }

  /** After an error: whether another reading may do better. */
  async #decide({ recorder, used, isShared }: Plan, error: unknown): Promise<boolean> {
    if (error instanceof Replaced || error instanceof Overtaken) return true;
    if (error instanceof NotReadable) {
      this.#isHeld = true;
      return true;
    }
    if (error instanceof DamagedCopy) {
      await used?.delete().catch(() => {});
      return true;
    }
    if (!(error instanceof OneKVError) || !refusals.has(error.code)) return false;
    await recorder.refuse();
    if (isShared === true) this.#isSharedWrong = true;
    if (used === undefined) return isShared === true;
    await used.delete().catch(() => {});
    const again = !this.#isAnew;
    this.#isAnew = true;
    return again;
  }

  async openHeader(): Promise<Reading> {
    const isLast = this.#isLast('header');
    const { file } = await this.#look(this.#choose(isLast), () => {});
    const { sha256 } = this.#options;
    const isOther = sha256 !== undefined && file?.record.sha256 !== sha256;
    const isUsed = file?.isWhole === true && file.record.sha256 !== undefined && !isOther &&
      (file.record.query === this.#fileName.query || this.#fileName.isOwn);
    if (file !== undefined && isUsed) {
      return this.#reading(await this.#opened(file), () => {}, isLast);
    }
    const { totalBytes, chunks } = await openBeginning(this.#options.access);
    const recorder = new Recorder(undefined, false, () => {});
    // A header that is not stored yet counts as the whole will.
    const readAt = this.mayRead() ? noBytes : undefined;
    return this.#reading({ totalBytes, chunks, readAt, recorder, used: undefined }, () => {},
      isLast);
  }
}
