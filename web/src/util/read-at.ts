// Bytes at any place and at once. Of Blobs only workers of a browser can give them: from disk,
// where a Blob stands for a file there, as a File and what the origin private file system gives do.
const { FileReaderSync: Reader } = globalThis as
  { FileReaderSync?: new () => { readAsArrayBuffer(blob: Blob): ArrayBuffer } };

/** Fewer bytes where the end is nearer; throws when they are not to be had any more. */
export type ReadAt = (offset: number, count: number) => Uint8Array;

export const noBytes: ReadAt = () => new Uint8Array(0);

/** Blobs can be read at once here. */
export const hasBlobReader = Reader !== undefined;

/** undefined where there is none. It throws when the Blob's file was changed or deleted. */
export function blobReader(blob: Blob): ReadAt | undefined {
  if (Reader === undefined) return undefined;
  return (offset, count) =>
    new Uint8Array(new Reader().readAsArrayBuffer(blob.slice(offset, offset + count)));
}

/** Several, one behind the other: each reads `bytes` from `from` on. */
export function joinReaders(pieces: readonly { readAt: ReadAt; from?: number; bytes: number }[]):
ReadAt {
  return (offset, count) => {
    const found = new Uint8Array(count);
    let start = 0;
    let filled = 0;
    for (const { readAt, from = 0, bytes } of pieces) {
      const at = offset + filled - start;
      if (filled < count && at < bytes) {
        const part = readAt(from + at, Math.min(count - filled, bytes - at));
        found.set(part, filled);
        filled += part.length;
        if (part.length === 0) break;
      }
      start += bytes;
    }
    return found.subarray(0, filled);
  };
}
