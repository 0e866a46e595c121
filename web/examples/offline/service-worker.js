// Keeps every file that passes, for when there is no network. It serves what lies beneath it, so it
// has to lie above the package: workers and their threads ask for their scripts themselves.
const name = 'onekv-offline';

self.addEventListener('install', (event) => {
  const page = ['./', './page.js'];
  event.waitUntil(caches.open(name).then((cache) => cache.addAll(page))
    .then(() => self.skipWaiting()));
});
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const isOurs = origin === self.location.origin && request.method === 'GET';
  // The package stores models by itself.
  if (isOurs && !pathname.endsWith('.gguf')) event.respondWith(answer(request));
});

/** From the network, so that new versions are seen; what is kept only where there is none. */
async function answer(request) {
  const cache = await caches.open(name);
  try {
    const response = await fetch(request);
    if (response.status === 200) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreVary: true });
    if (kept === undefined) throw error;
    return kept;
  }
}
