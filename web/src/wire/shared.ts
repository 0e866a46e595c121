// Files that all sites share, of the page: an extension gives them to pages and not to workers.
import type { SharedFiles } from '../api/store.js';
import { readStream } from '../util/streams.js';
import { callsOf, serveCalls, serveStream, streamOf } from './ports.js';

/** Whoever holds the other port can use the page's files. */
export const serveShared = (files: SharedFiles): MessagePort => serveCalls({
  find: (sha256: string) => files.find(sha256),
  keep: (sha256: string, port: MessagePort) => files.keep(sha256, readStream(streamOf(port))),
});

/** The files that serveShared serves. */
export function sharedOf(port: MessagePort): SharedFiles {
  const call = callsOf(port);
  return {
    find: async (sha256) => {
      const found = await call('find', sha256);
      return found instanceof Blob ? found : undefined;
    },
    keep: async (sha256, chunks) => {
      await call('keep', sha256, serveStream(chunks));
    },
  };
}
