// Puts the bytes of a download into a store as they pass.
import { reasonOf } from '../api/errors.js';
import { Digest, integrityFailed } from './integrity.js';
import type { SavedModel } from './saved-model.js';

/** When storing fails it says so once, gives the room back, and does nothing more: the model runs
 * all the same. */
export class Recorder {
  readonly #hash: Digest | undefined;
  readonly #onNote: (note: string) => void;
  #saved: SavedModel | undefined;
  #part: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #filled = 0;
  /** The part before, on its way into the store while the next one comes. */
  #pending: Promise<void> = Promise.resolve();
  #bytes = 0;

  /** Without a copy to keep and a digest to compare with, nothing is hashed: it would take as long
   * as a fast network. */
  constructor(saved: SavedModel | undefined, isVerified: boolean,
    onNote: (note: string) => void) {
    this.#saved = saved;
    this.#onNote = onNote;
    if (saved !== undefined || isVerified) this.#hash = new Digest();
    if (saved !== undefined) this.#part = new Uint8Array(saved.record.partBytes);
  }

  /** Bytes that the store has already. */
  skip(chunk: Uint8Array): void {
    this.#hash?.update(chunk);
    this.#bytes += chunk.length;
  }

  async take(chunk: Uint8Array): Promise<void> {
    this.#hash?.update(chunk);
    this.#bytes += chunk.length;
    for (let at = 0; at < chunk.length && this.#saved !== undefined;) {
      const piece = chunk.subarray(at, at + this.#part.length - this.#filled);
      this.#part.set(piece, this.#filled);
      this.#filled += piece.length;
      at += piece.length;
      if (this.#filled === this.#part.length) await this.#put(this.#part);
    }
  }

  /** After the last byte. The error INTEGRITY_FAILED deletes what was stored. */
  async end(name: string, expected: string | undefined): Promise<void> {
    const found = this.#hash?.hex();
    if (this.#filled > 0) await this.#put(this.#part.slice(0, this.#filled));
    await this.#pending;
    if (found === undefined) return;
    if (expected !== undefined && found !== expected) {
      await this.#saved?.delete();
      throw integrityFailed(name, found, expected);
    }
    await this.#saved?.complete(this.#bytes, found).catch((error) => this.#giveUp(error));
  }

  /** After an interruption: what was put stays, for the next download. */
  async leave(): Promise<void> {
    await this.#pending;
  }

  async #put(part: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#pending;
    const saved = this.#saved;
    if (saved === undefined) return;
    this.#pending = saved.putPart(part).catch((error) => this.#giveUp(error));
    this.#part = new Uint8Array(saved.record.partBytes);
    this.#filled = 0;
  }

  async #giveUp(error: unknown): Promise<void> {
    const saved = this.#saved;
    this.#saved = undefined;
    await saved?.delete().catch(() => {});
    this.#onNote(notStored(error));
  }
}

/** For people. */
export function notStored(error: unknown): string {
  const full = error instanceof Error && error.name === 'QuotaExceededError';
  return `store: the model was not stored: ${full ? 'no room is left for this site' : ''}` +
    `${full ? ` (${reasonOf(error)})` : reasonOf(error)}`;
}
