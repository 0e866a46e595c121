// Writes a story. The service worker keeps the page and the package, the package keeps the model.
const output = document.getElementById('output');
const state = document.getElementById('state');

/** Resolves when all requests go through the service worker. */
async function keepThisPage() {
  const { serviceWorker } = navigator;
  const taken = new Promise((resolve) => {
    serviceWorker.addEventListener('controllerchange', resolve, { once: true });
  });
  await serviceWorker.register('./service-worker.js');
  if (serviceWorker.controller === null) await taken;
}

try {
  await keepThisPage();
  // Not before: a static import would be fetched past the service worker.
  const { OneKV } = await import('onekv');
  const model = await OneKV.load(new URL('models/stories-q-mqa.q8_0.gguf', location.href),
    { persist: true });
  const session = await model.createSession();
  for await (const text of session.promptStreaming('Once upon a time', { maxTokens: 40 })) {
    output.append(text);
  }
  await model.unload();
  state.textContent = 'done';
} catch (error) {
  state.textContent = `failed: ${error}\n${error.stack}`;
}
