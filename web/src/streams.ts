// Streams of bytes as async iterables.

/** A stream's pieces. Not all engines iterate streams by themselves. */
export async function* readStream(
  stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      yield value;
    }
  } finally {
    // Leaving early ends a download; a stream that failed needs no cancelling.
    if (!ended) await reader.cancel().catch(() => {});
  }
}

/** Bytes in memory are fed in pieces, so that the event loop gets its turns. */
const pieceBytes = 1 << 20;

export async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}
