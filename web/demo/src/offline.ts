// The service worker: keeps the page for when there is no network, and adds the headers that
// threads need where the host cannot (service-worker.ts).

const key = 'onekv-reloaded';

/** A page that came without the headers is loaded again once, through the worker. */
async function isolate(): Promise<void> {
  if (globalThis.crossOriginIsolated || sessionStorage.getItem(key) !== null) return;
  await navigator.serviceWorker.ready;
  sessionStorage.setItem(key, 'yes');
  location.reload();
}

/** Without one (no secure context, switched off) the page works, with one thread and online. */
export function startServiceWorker(): void {
  if (!('serviceWorker' in navigator) || !globalThis.isSecureContext) return;
  addEventListener('load', () => {
    navigator.serviceWorker.register('service-worker.js')
      .then(isolate).catch(() => {});
  });
}
