// Bytes of Blobs at any place and at once, which only workers of a browser can give: from disk,
// where a Blob stands for a file there, as a File and what the origin private file system gives do.
const { FileReaderSync: Reader } = globalThis as
  { FileReaderSync?: new () => { readAsArrayBuffer(blob: Blob): ArrayBuffer } };

/** Blobs can be read at once here. */
export const hasBlobReader = Reader !== undefined;

/** A reader of these one behind the other, all but the last of partBytes; undefined where there is
 * none. It throws when a Blob's file was changed or deleted. */
export function blobReader(blobs: readonly Blob[], partBytes: number):
((offset: number, count: number) => Uint8Array) | undefined {
  if (Reader === undefined) return undefined;
  return (offset, count) => {
    const [part, at] = [Math.floor(offset / partBytes), offset % partBytes];
    const end = at + count;
    const pieces = [blobs[part]?.slice(at, end), blobs[part + 1]?.slice(0, end - partBytes)]
      .filter((piece, i) => piece !== undefined && (i === 0 || end > partBytes)) as Blob[];
    return new Uint8Array(new Reader().readAsArrayBuffer(new Blob(pieces)));
  };
}
