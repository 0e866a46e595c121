// Requests of a page to /v1/… go back to that page, which has the model: a service worker cannot
// start the workers that a model needs.
//
// The page is sent { url, method, body } and a port. On the port it answers { status, headers },
// then pieces of the body, then null; it hears 'cancel' when nobody reads any more.
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (origin === location.origin && pathname.startsWith('/v1/')) event.respondWith(ask(event));
});

async function ask({ request, clientId }) {
  const page = await self.clients.get(clientId);
  const { port1: port, port2 } = new MessageChannel();
  const { url, method } = request;
  const body = method === 'POST' ? await request.text() : undefined;
  return new Promise((resolve) => {
    let pieces;
    const stream = new ReadableStream({
      start: (controller) => { pieces = controller; },
      cancel: () => {
        port.onmessage = null;
        port.postMessage('cancel');
      },
    });
    port.onmessage = ({ data }) => {
      if (data === null) pieces.close();
      else if (data instanceof Uint8Array) pieces.enqueue(data);
      else resolve(new Response(stream, data));
    };
    page.postMessage({ url, method, body }, [port2]);
  });
}
