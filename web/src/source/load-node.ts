// loadModel and readHeader in Node, where a source may be a path.
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OneKVError, reasonOf } from '../api/errors.js';
import type { ModelPart, ModelSource, OpenedSource } from '../api/source.js';
import type { Engine } from '../engine/engine.js';
import type { Loader } from '../engine/loader.js';
import type { Model } from '../engine/model.js';
import type { ReadableStore } from '../store/reader.js';
import { loadModel as loadFrom, readHeader as readHeaderFrom } from './load.js';
import type { LoadOptions } from './load.js';
import { partNames } from './split.js';

const pieceBytes = 1 << 20;

/** The chunks of a file, in one buffer: a chunk is valid until the next one is asked for. Each
 * reading begins anew. */
const fileChunks = (path: string): AsyncIterable<Uint8Array> =>
  ({ [Symbol.asyncIterator]: () => readFile(path) });

async function* readFile(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path);
  try {
    const buffer = new Uint8Array(pieceBytes);
    for (;;) {
      const { bytesRead } = await file.read(buffer);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Reads bytes of the file that this was. It is opened each time, which takes as long as a read, so
 * that nothing has to be closed in the end; another file of that name is not read. */
const readerOf = (path: string, was: Stats) => (offset: number, count: number): Uint8Array => {
  const file = openSync(path, 'r');
  try {
    const { ino, size, mtimeMs } = fstatSync(file);
    if (ino !== was.ino || size !== was.size || mtimeMs !== was.mtimeMs) {
      throw new Error(`${path}: it is another file now`);
    }
    const bytes = new Uint8Array(count);
    return bytes.subarray(0, readSync(file, bytes, 0, count, offset));
  } finally {
    closeSync(file);
  }
};

/** That a path leads to no file: of a relative one, which does not show where it leads, where. */
export function missing(path: string): string {
  const folder = dirname(resolve(path));
  if (isAbsolute(path)) return 'there is no such file';
  if (!existsSync(folder)) return `there is no such file, and no folder ${folder}`;
  return `there is no such file in ${folder}` +
    (folder === process.cwd() ? ', the working directory' : '');
}

/** Where the package has a model of that name, for somebody who gave its name, or the path that it
 * has on a site; '' where it has none. */
async function shippedHint(path: string): Promise<string> {
  const folder = fileURLToPath(new URL('../../../models/', import.meta.url));
  const name = basename(path);
  const found = (await readdir(folder).catch(() => [])).find((file) =>
    file.endsWith('.gguf') && (file === name || file.split('.')[0] === name));
  return found === undefined ? '' : `; the model of that name is ${join(folder, found)}`;
}

/** Error: SOURCE_FAILED when there is no such file. */
export async function openFile(path: string): Promise<OpenedSource> {
  try {
    const file = await open(path);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new Error('it is not a file');
      return { name: path, totalBytes: stat.size, chunks: fileChunks(path),
        readAt: readerOf(path, stat) };
    } finally {
      await file.close();
    }
  } catch (error) {
    const { code = '' } = error as { code?: string };
    // Node's words name the path once more.
    const reason = code === 'ENOENT' ? missing(path) + await shippedHint(path)
      : code === 'ENOTDIR' ? missing(path)
        : code === 'EACCES' ? 'it may not be read' : reasonOf(error);
    throw new OneKVError('SOURCE_FAILED', `${path}: ${reason}`, { cause: error });
  }
}

const pathOf = (source: ModelPart): string | undefined => {
  if (source instanceof URL && source.protocol === 'file:') return fileURLToPath(source);
  if (typeof source !== 'string') return undefined;
  if (/^file:/i.test(source)) return fileURLToPath(source);
  return /^([a-z]+:\/\/|hf:)/i.test(source) ? undefined : source;
};

/** Paths and file: URLs as their files, and all of them where one stands for several; other
 * sources as they are. */
async function sourceOf(source: ModelSource): Promise<ModelSource> {
  const whole = Array.isArray(source) ? undefined : pathOf(source as ModelPart);
  if (whole !== undefined) {
    const parts = partNames(whole);
    return parts === undefined ? openFile(whole) : Promise.all(parts.map(openFile));
  }
  if (!Array.isArray(source)) return source;
  return Promise.all((source as readonly ModelPart[]).map(async (part) => {
    const path = pathOf(part);
    return path === undefined ? part : openFile(path);
  }));
}

/** A store whose values are files can be read at any place. */
function withReader({ store, ...options }: LoadOptions): LoadOptions {
  if (typeof store !== 'object' || store?.pathOf === undefined) return { ...options, store };
  const reader: ReadableStore['reader'] = async (key) => {
    const path = await store.pathOf?.(key);
    const file = path === undefined ? undefined : await stat(path).catch(() => undefined);
    return path === undefined || file === undefined ? undefined : readerOf(path, file);
  };
  // A proxy's or a class's methods need not be its own properties.
  return { ...options, store: Object.assign(Object.create(store), { reader }) };
}

/** As loadModel of load.ts; a string without a scheme is a path. */
export async function loadModel(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions = {}): Promise<Model> {
  return loadFrom(engine, await sourceOf(source), withReader(options));
}

/** As readHeader of load.ts; a string without a scheme is a path. */
export async function readHeader<T>(engine: Engine | Promise<Engine>, source: ModelSource,
  options: LoadOptions, use: (loader: Loader) => T): Promise<T> {
  return readHeaderFrom(engine, await sourceOf(source), withReader(options), use);
}
