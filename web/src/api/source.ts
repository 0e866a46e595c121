// Where the bytes of a model come from.

export interface OpenedSource {
  chunks: AsyncIterable<Uint8Array>;
  /** undefined when it is not known before the end. */
  totalBytes: number | undefined;
  /** For messages. */
  name: string;
}

/** A string is a URL, relative to the page; in Node ('onekv' resolves to it there) a path too. */
export type ModelSource = string | URL | Blob | ArrayBuffer | Uint8Array |
  Response | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | OpenedSource;
