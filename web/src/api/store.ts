// Where downloaded models are kept: the interface that every store has, ours (store/) and those
// that a page brings along.
//
// A store knows byte strings by key and nothing of models. What they mean (records, parts of
// files, which file is whole) is the business of store/stored-file.ts, so that any key-value
// storage will do.
import type { OwnBytes } from './bytes.js';

/**
 * Keeps byte strings by key. Keys are of a-z, 0-9, '-' and '.', and short enough for file names.
 * A page may bring its own; its methods are called in the page, not in the worker.
 *
 * `put` must be atomic: after an interruption the old value or the new one is there, and no mix.
 * It may reject, when there is no room for instance: then the model is not stored, and runs.
 */
export interface ModelStore {
  /** The value, or undefined when there is none. */
  get(key: string): Promise<Uint8Array | Blob | undefined>;
  put(key: string, value: OwnBytes): Promise<void>;
  /** Without complaint when there is none. */
  delete(key: string): Promise<void>;
  keys(): Promise<readonly string[]>;
  /** May be left out. In Node, the path of the file that holds the value and nothing else: tables
   * of which a token needs one row are then read from there instead of being held in memory. */
  pathOf?(key: string): string | Promise<string>;
}

/** Where models are kept: 'auto' is OPFS, or the Cache API where that is not there, for sources
 * that are URLs; in Node it is 'none'. */
export type StoreChoice = 'auto' | 'opfs' | 'cache-api' | 'none' | ModelStore;

/** A model, or the beginning of one, in a store. */
export interface StoredModel {
  /** What it is stored under: the key of the options, 'sha256-' and the digest where that was
   * known before, else the URL without its query. */
  key: string;
  /** Where it came from: the URL without its query, or the name of a hub. */
  from: string;
  /** Bytes that are there. */
  bytes: number;
  /** Of the whole file; undefined if the server did not say. */
  totalBytes: number | undefined;
  /** False: a download was interrupted, and the next one goes on from there. True: all bytes were
   * seen and are a model. */
  complete: boolean;
  /** SHA-256 of the whole file, hexadecimal; once complete. */
  sha256: string | undefined;
  /** Milliseconds since 1970. */
  storedAt: number;
  /** A newer copy from the same place is there: loads find that one, and this may be deleted. */
  superseded: boolean;
  /** What is known of it cannot be read: it can only be deleted, by its key. */
  damaged?: boolean | undefined;
}

/** Files that all sites share, by their SHA-256 in hexadecimal. Neither method rejects: it may be
 * forbidden, full, or empty. */
export interface SharedFiles {
  /** undefined when it is not there, or not for us. */
  find(sha256: string): Promise<Blob | undefined>;
  keep(sha256: string, chunks: AsyncIterable<Uint8Array>): Promise<void>;
}
