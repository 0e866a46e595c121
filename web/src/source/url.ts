// The bytes of a URL: from a store, from the network, or the beginning from the one and the rest
// from the other. On their way from the network they go into the store.
import { StartAgain, openBeginning, openDownload } from './download.js';
import type { Download } from './download.js';
import { Digest, parseIntegrity } from '../store/integrity.js';
import type { SourceOptions } from './source.js';
import type { OpenedSource } from '../api/source.js';
import { chooseStore } from '../store/choose.js';
import { Recorder, notStored } from '../store/recorder.js';
import { SavedModel } from '../store/saved-model.js';
import type { ModelStore, StoreChoice } from '../api/store.js';

/** All bytes of a whole stored file; StartAgain, with the copy deleted, if it is none any more. */
async function* stored(saved: SavedModel, name: string,
  expected: string | undefined): AsyncGenerator<Uint8Array> {
  const hash = expected === undefined ? undefined : new Digest();
  let bytes = 0;
  for await (const chunk of saved.chunks()) {
    hash?.update(chunk);
    bytes += chunk.length;
    yield chunk;
  }
  const found = hash === undefined ? undefined : hash.hex();
  if (bytes === saved.record.totalBytes && found === expected) return;
  throw await damagedCopy(saved, name);
}

/** Deletes the copy, if the store lets it. */
async function damagedCopy(saved: SavedModel | undefined, name: string): Promise<StartAgain> {
  await saved?.delete().catch(() => {});
  return new StartAgain('SOURCE_FAILED', `${name}: the stored copy was damaged`);
}

/** A URL as a store knows it. */
function keyOf(url: URL): string {
  const key = new URL(url);
  key.hash = '';
  return key.href;
}

/** Bytes of a beginning that is stored, then what comes from the network, which is stored too. */
async function* joined(saved: SavedModel | undefined, recorder: Recorder, download: Download,
  name: string, expected: string | undefined): AsyncGenerator<Uint8Array> {
  try {
    let bytes = 0;
    if (saved !== undefined && download.start > 0) {
      for await (const chunk of saved.chunks()) {
        recorder.skip(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    }
    if (bytes !== download.start) throw await damagedCopy(saved, name);
    for await (const chunk of download.chunks) {
      await recorder.take(chunk);
      yield chunk;
    }
    await recorder.end(name, expected);
  } finally {
    await recorder.leave();
  }
}

/** What the store has; a store that fails is done without, and a note says so. */
async function look(choice: StoreChoice, key: string,
  onNote: (note: string) => void): Promise<{ store?: ModelStore; saved?: SavedModel }> {
  const { kind, store, reason } = chooseStore(choice);
  // Outside of a page nobody expects one unasked.
  if (reason !== undefined && (choice !== 'auto' || globalThis.location !== undefined)) {
    onNote(`store: ${reason}; ${kind === 'none' ? 'nothing is kept' : `${kind} is used`}`);
  }
  if (store === undefined) return {};
  try {
    const saved = await SavedModel.find(store, key);
    return saved === undefined ? { store } : { store, saved };
  } catch (error) {
    onNote(notStored(error));
    return {};
  }
}

/** Errors as openSource of model-source.ts. */
export async function openUrl(url: URL, options: SourceOptions): Promise<OpenedSource> {
  const { signal, onNote = () => {} } = options;
  const expected = options.integrity === undefined ? undefined : parseIntegrity(options.integrity);
  const key = keyOf(url);
  const name = key.slice(0, 200);
  const { store, saved } = await look(options.store ?? 'none', key, onNote);
  const { totalBytes, validator, sha256 } = saved?.record ?? {};
  const isOther = expected !== undefined && sha256 !== undefined && sha256 !== expected;
  if (saved?.isComplete === true && !isOther) {
    return { name, totalBytes, chunks: stored(saved, name, expected) };
  }
  // Without a validator only a digest can tell that two pieces are of one file.
  const marker = validator ?? (expected === undefined ? undefined : 'any' as const);
  const canGoOn = saved !== undefined && saved.bytes > 0 && !isOther && marker !== undefined;
  const download = await openDownload(url, {
    signal,
    // The browser need not keep a second copy.
    ...(store === undefined ? {} : { cache: 'no-store' }),
    ...(canGoOn ? { from: { offset: saved.bytes, totalBytes, validator: marker } } : {}),
  });
  const kept = download.start > 0 ? saved : store &&
    await SavedModel.begin(store, key, download).catch((error) => {
      onNote(notStored(error));
      return undefined;
    });
  const recorder = new Recorder(kept, expected !== undefined, onNote);
  return {
    name, totalBytes: download.totalBytes,
    chunks: joined(saved, recorder, download, name, expected),
  };
}

/** The beginning of a URL's file, for who stops reading soon. */
export async function openUrlHeader(url: URL, options: SourceOptions): Promise<OpenedSource> {
  const key = keyOf(url);
  const name = key.slice(0, 200);
  const { saved } = await look(options.store ?? 'none', key, () => {});
  if (saved?.isComplete === true) {
    return { name, totalBytes: saved.record.totalBytes,
      chunks: stored(saved, name, undefined) };
  }
  return { name, ...await openBeginning(url, { signal: options.signal }) };
}
