// Streams of bytes as async iterables.

/** Room for the chunks of a stream that fills what it is given. */
const roomBytes = 1 << 20;

/** Reads chunks into the same memory again and again: a file of a hundred megabytes would leave as
 * much garbage behind. undefined for a stream that makes its own chunks. */
function readerInto(stream: ReadableStream<Uint8Array>):
{ read(): Promise<{ done: boolean; value: Uint8Array | undefined }>; cancel(): Promise<void> }
| undefined {
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: 'byob' });
  } catch {
    return undefined;
  }
  let room = new ArrayBuffer(roomBytes);
  return {
    read: async () => {
      const { done, value } = await reader.read(new Uint8Array(room));
      if (value !== undefined) room = value.buffer;
      return { done, value };
    },
    cancel: () => reader.cancel(),
  };
}

/** A stream's chunks; each is gone when the next one is asked for. Not all engines iterate streams
 * by themselves. */
export async function* readStream(
  stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = readerInto(stream) ?? stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done || value === undefined) return;
      yield value;
    }
  } finally {
    // Leaving early ends a download; a stream that failed needs no cancelling.
    if (!ended) await reader.cancel().catch(() => {});
  }
}

/** Bytes in memory are fed in chunks, so that other tasks run in between. */
const chunkBytes = 1 << 20;

export async function* chunksOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}
