// SHA-256 of what passes by. The engines' own digest takes a whole file at once, so a library's
// is used, which takes pieces.
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { OneKVError, invalidArgument } from '../api/errors.js';

/** The digest as 64 hexadecimal digits. Error: INVALID_ARGUMENT. */
export function parseIntegrity(integrity: string): string {
  if (/^[0-9a-f]{64}$/i.test(integrity)) return integrity.toLowerCase();
  if (/^sha256-[A-Za-z0-9+/]{43}=$/.test(integrity)) {
    return bytesToHex(Uint8Array.from(atob(integrity.slice(7)), (c) => c.charCodeAt(0)));
  }
  throw invalidArgument('integrity', integrity,
    "64 hexadecimal digits, or 'sha256-' and the digest in base64");
}

export function integrityFailed(found: string, expected: string): OneKVError {
  return new OneKVError('INTEGRITY_FAILED',
    `found bytes of SHA-256 ${found}, expected ${expected}`);
}

export class Digest {
  readonly #hash = sha256.create();

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** 64 hexadecimal digits. Nothing can follow. */
  hex(): string {
    return bytesToHex(this.#hash.digest());
  }
}

/** The same bytes; fails at their end if their digest is another one. */
export async function* verified(chunks: AsyncIterable<Uint8Array>,
  expected: string): AsyncGenerator<Uint8Array> {
  const hash = new Digest();
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  const found = hash.hex();
  if (found !== expected) throw integrityFailed(found, expected);
}
