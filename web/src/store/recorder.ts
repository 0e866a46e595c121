// Puts the bytes of a download into a store as they pass.
import { OneKVError, reasonOf } from '../api/errors.js';
import { Digest, integrityFailed } from './integrity.js';
import { Overtaken } from './stored-file.js';
import type { StoredFile } from './stored-file.js';

/** When storing fails it says so once, gives the room back, and does nothing more: the model runs
 * all the same. Who wants the copy more than the model (`mustKeep`) gets an error instead, and what
 * was stored stays, for the next try. */
export class Recorder {
  readonly #hash: Digest | undefined;
  readonly #onNote: (note: string) => void;
  #file: StoredFile | undefined;
  #part: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #filled = 0;
  /** The part before, on its way into the store while the next one comes. */
  #pending: Promise<void> = Promise.resolve();
  #bytes = 0;
  #sha256: string | undefined;
  readonly #mustKeep: boolean;
  #failure: { error: unknown } | undefined;

  /** Without a copy to keep and a digest to compare with, nothing is hashed: it would take as long
   * as a fast network. */
  constructor(file: StoredFile | undefined, isVerified: boolean,
    onNote: (note: string) => void, mustKeep = false) {
    this.#file = file;
    this.#mustKeep = mustKeep;
    this.#onNote = onNote;
    if (file !== undefined || isVerified) this.#hash = new Digest();
    if (file !== undefined) this.#part = new Uint8Array(file.record.partBytes);
  }

  /** Bytes that the store has already. */
  skip(chunk: Uint8Array): void {
    this.#hash?.update(chunk);
    this.#bytes += chunk.length;
  }

  async take(chunk: Uint8Array): Promise<void> {
    this.#hash?.update(chunk);
    this.#bytes += chunk.length;
    for (let at = 0; at < chunk.length && this.#file !== undefined;) {
      const piece = chunk.subarray(at, at + this.#part.length - this.#filled);
      this.#part.set(piece, this.#filled);
      this.#filled += piece.length;
      at += piece.length;
      if (this.#filled === this.#part.length) await this.#put(this.#part);
    }
  }

  /** After the last byte. Errors: INTEGRITY_FAILED; of what must be kept, SOURCE_FAILED. */
  async end(expected: string | undefined): Promise<void> {
    const found = this.#hash?.hex();
    if (expected !== undefined && found !== undefined && found !== expected) {
      throw integrityFailed(found, expected);
    }
    if (this.#filled > 0) await this.#put(this.#part.slice(0, this.#filled));
    await this.#pending;
    this.#check();
    this.#part = new Uint8Array(0); // Other parts of a split file may follow.
    this.#sha256 = found;
  }

  /** Core took the file: what was stored is whole. Error: as end. */
  async accept(): Promise<void> {
    if (this.#sha256 === undefined) return;
    await this.#file?.complete(this.#bytes, this.#sha256).catch((error) => this.#giveUp(error));
    this.#check();
  }

  /** All bytes so far are in the store. */
  get isKept(): boolean {
    return this.#file !== undefined;
  }

  /** After an interruption: what was put stays, for the next download. */
  async leave(): Promise<void> {
    await this.#pending;
  }

  /** What came is not a model: nothing of it is kept. */
  async refuse(): Promise<void> {
    await this.#pending;
    await this.#file?.delete().catch(() => {});
  }

  async #put(part: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#pending;
    this.#check();
    const file = this.#file;
    if (file === undefined) return;
    this.#pending = file.putPart(part).catch((error) => this.#giveUp(error));
    this.#part = new Uint8Array(file.record.partBytes);
    this.#filled = 0;
  }

  #check(): void {
    if (this.#failure === undefined) return;
    const { error } = this.#failure;
    throw error instanceof Overtaken ? error : notKept(error);
  }

  async #giveUp(error: unknown): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (this.#mustKeep) {
      this.#failure = { error };
      return;
    }
    await file?.delete().catch(() => {});
    this.#onNote(notStored(error));
  }
}

/** For who wants a copy. */
export const notKept = (error: unknown): OneKVError =>
  new OneKVError('SOURCE_FAILED', notStored(error), { cause: error });

/** For people. */
export function notStored(error: unknown): string {
  const full = error instanceof Error && error.name === 'QuotaExceededError';
  return `store: the model was not stored: ${full ? 'no room is left for this site' : ''}` +
    `${full ? ` (${reasonOf(error)})` : reasonOf(error)}`;
}
