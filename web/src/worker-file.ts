// Starts the package's worker file. The address stands here literally, in a call of its own, since
// that is what bundlers look for; and it stands in this folder, since the built worker.js does.
import type { ScriptAddress } from './api/load.js';
import { importing, isForeign } from './util/foreign-script.js';

/** Name of a thread's worker, by which the glue knows what it is (Emscripten's default). */
export const threadName = 'em-pthread';

/** Where it lies beside this file as it is served, in words that no bundler takes for a file to
 * carry along. */
const besideThis = () => import.meta.url.replace(/[^/]*$/, 'worker.js');

/** The address to start where that is another than the script's own; undefined where it is not. */
function foreign(url: ScriptAddress | undefined): string | undefined {
  const script = url ?? besideThis();
  // What a policy of Trusted Types made is used as it is.
  if (typeof script !== 'string' && !(script instanceof URL)) return undefined;
  return isForeign(script) ? importing(new URL(script, globalThis.location.href)) : undefined;
}

/** The worker that answers the page's calls; `url`: worker.js, where it is not beside this file. */
export function newWorker(url: ScriptAddress | undefined): Worker {
  const script = foreign(url) ?? url;
  return script === undefined
    ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' })
    : new Worker(script as string, { type: 'module' });
}

/** The same script as one thread of an engine. */
export function newThread(url: ScriptAddress | undefined): Worker {
  const script = foreign(url) ?? url;
  return script === undefined
    ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: threadName })
    : new Worker(script as string, { type: 'module', name: threadName });
}
