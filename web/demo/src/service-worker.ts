// Keeps the page's own files, and answers with the headers of cross-origin isolation.
//
// On a host that cannot set headers (many static ones) this is what makes threads possible: the
// way of coi-serviceworker, joined with the cache, since a page has one service worker. Models are
// left alone: the package stores them itself. So is docs/, which is another site's pages beside it.
/// <reference lib="webworker" />
export {};

declare const self: ServiceWorkerGlobalScope;

interface Kept {
  version: string;
  files: string[];
}

const prefix = 'onekv-page-';
const scope = new URL('./', self.location.href);

async function install(): Promise<void> {
  const answer = await fetch(new URL('precache.json', scope), { cache: 'no-store' });
  const { version, files } = await answer.json() as Kept;
  const cache = await caches.open(prefix + version);
  await cache.addAll(files.map((file) => new Request(new URL(file, scope), { cache: 'no-cache' })));
  for (const name of await caches.keys()) {
    if (name.startsWith(prefix) && name !== prefix + version) await caches.delete(name);
  }
  await self.skipWaiting();
}

function isolated(response: Response): Response {
  if (response.type === 'opaque' || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  const empty = response.status === 204 || response.status === 304;
  return new Response(empty ? null : response.body,
    { status: response.status, statusText: response.statusText, headers });
}

/** The page itself from the network where there is one, so that a new version is seen; all else
 * has its version in its name, or is kept with it. */
async function answer(request: Request): Promise<Response> {
  const isPage = request.mode === 'navigate';
  const wanted = isPage ? new URL('index.html', scope) : request;
  const kept = () => caches.match(wanted, { ignoreSearch: isPage, ignoreVary: true });
  if (!isPage) {
    const found = await kept();
    if (found !== undefined) return isolated(found);
  }
  try {
    return isolated(await fetch(request));
  } catch (error) {
    const found = await kept();
    if (found === undefined) throw error;
    return isolated(found);
  }
}

self.addEventListener('install', (event) => event.waitUntil(install()));
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const ours = url.origin === scope.origin && url.pathname.startsWith(scope.pathname);
  if (request.method !== 'GET' || !ours || url.pathname.endsWith('.gguf') ||
    url.pathname.startsWith(`${scope.pathname}docs/`) || request.headers.has('range')) return;
  event.respondWith(answer(request));
});
