// Where downloaded models are kept: the interface that every store has, ours (store/) and those
// that a page brings along.
//
// A file comes in order and may be interrupted: a store keeps what it has got with a record of how
// it got it, so that a later download can go on. What is not `complete` is never used as a model.

/** A file, or the beginning of one, in a store. */
export interface StoredModel {
  /** The URL that it came from, without fragment. */
  key: string;
  /** Bytes that are there. */
  bytes: number;
  /** Of the whole file; undefined if the server did not say. */
  totalBytes: number | undefined;
  /** Whole and, where an integrity was asked for, checked. */
  complete: boolean;
  /** Validators of the response, for going on with If-Range. */
  etag: string | undefined;
  lastModified: string | undefined;
  /** SHA-256 of the whole file, hexadecimal; once complete. */
  sha256: string | undefined;
  /** Milliseconds since 1970. */
  storedAt: number;
}

/** Takes the bytes of one file in order. */
export interface StoreWriter {
  /** Errors (no room left) end the storing, not the loading. */
  write(chunk: Uint8Array): Promise<void>;
  /** Makes what was written durable, with this record. */
  close(record: StoredModel): Promise<void>;
}

/** A page may bring its own; its methods are called in the page, not in the worker. */
export interface ModelStore {
  list(): Promise<StoredModel[]>;
  get(key: string): Promise<StoredModel | undefined>;
  /** The bytes from `offset` on. */
  read(key: string, offset: number): Promise<ReadableStream<Uint8Array>>;
  /** Keeps the first record.bytes bytes, drops the rest, and appends. */
  write(record: StoredModel): Promise<StoreWriter>;
  /** false when there was none. */
  delete(key: string): Promise<boolean>;
}
