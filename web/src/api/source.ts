// Where the bytes of a model come from.
import type { NamesOf } from './options.js';

export interface OpenedSource {
  chunks: AsyncIterable<Uint8Array>;
  /** undefined when it is not known before the end. */
  totalBytes: number | undefined;
  /** For messages. */
  name: string;
  /** Bytes of the file at any place and at once, as long as the model is used; throws if they
   * cannot be had. Where it is there, a table that is only looked up (per-layer embeddings) takes
   * no memory. Of a source in a page's own memory the worker does not see it. */
  readAt?: ((offset: number, count: number) => Uint8Array) | undefined;
}

/** As the platform's fetch; the address comes as text. */
export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/** What `refresh` is told. */
export interface Refused {
  url: string;
  /** 401, 403, 404 or 410. */
  status: number;
  /** Bytes that have come so far. */
  offset: number;
}

/** An address that takes the place of one that was refused. */
export interface FreshAddress {
  url: string | URL;
  /** Instead of those so far. */
  headers?: Record<string, string> | undefined;
}

/** How files of URLs are asked for. */
export interface AccessOptions {
  /** Sent to the URL's origin, and to no other that it redirects to. */
  headers?: Record<string, string> | undefined;
  /** Sent as the header "authorization: Bearer", and as `headers` to that origin alone. */
  token?: string | undefined;
  /** Used instead of the platform's; called in the page, not in the worker. */
  fetch?: Fetch | undefined;
  /** Asked for a new address when the one so far is refused (status 401, 403, 404, 410), also in
   * the middle of a download, which then goes on where it was. undefined: there is none. */
  refresh?: ((refused: Refused) =>
    Promise<string | URL | FreshAddress | undefined> | string | URL | FreshAddress | undefined) |
    undefined;
  /** Where names of models ('hf:…') are looked up; default https://huggingface.co. */
  hub?: string | URL | undefined;
  /** Seconds without a byte after which a connection counts as broken, and is made anew; default
   * 60. */
  stallSeconds?: number | undefined;
}

/** @internal */
export const accessNames: NamesOf<AccessOptions> = {
  headers: true, token: true, fetch: 'function', refresh: 'function', hub: true,
  stallSeconds: true,
};

/** One file. A string is a URL, relative to the page; in Node ('onekv' resolves to it there) a
 * path too. */
export type ModelPart = string | URL | Blob | ArrayBuffer | Uint8Array |
  Response | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | OpenedSource;

/** Also a name on a hub: 'hf:org/repo', and after that, in this order, ':Q4_K_M' (a quantisation),
 * '/file.gguf', '@revision'. Of a model in several files the name of one stands for all, where
 * there are names (…-00001-of-00003.gguf); else all of them, as an array of what can be read
 * twice: URLs, Files, Blobs, buffers. */
export type ModelSource = ModelPart | readonly ModelPart[];
