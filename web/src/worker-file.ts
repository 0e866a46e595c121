// Starts the package's worker file. The address stands here literally, in a call of its own, since
// that is what bundlers look for; and it stands in this folder, since the built worker.js does.

/** Name of a thread's worker, by which the glue knows what it is (Emscripten's default). */
export const threadName = 'em-pthread';

/** The worker that answers the page's calls; `url`: worker.js, where it is not beside this file. */
export const newWorker = (url: string | URL | undefined): Worker => (url === undefined
  ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
  : new Worker(url, { type: 'module' }));

/** The same script as one thread of an engine. */
export const newThread = (url: string | URL | undefined): Worker => (url === undefined
  ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: threadName })
  : new Worker(url, { type: 'module', name: threadName }));
