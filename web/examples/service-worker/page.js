// Answers what its service worker passes on, and asks as any library would: by a plain fetch.
import { OneKV } from 'onekv';
import { createHandler } from 'onekv/handler';

const output = document.getElementById('output');
const state = document.getElementById('state');

async function answer(handle, { url, method, body }, port) {
  const controller = new AbortController();
  port.onmessage = () => controller.abort();
  const response = await handle(new Request(url, { method, body, signal: controller.signal }));
  port.postMessage({ status: response.status, headers: [...response.headers] });
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || controller.signal.aborted) break;
      port.postMessage(value);
    }
  } finally {
    await reader.cancel().catch(() => {});
    port.postMessage(null);
  }
}

try {
  const url = new URLSearchParams(location.search).get('model');
  const handle = createHandler({ local: await OneKV.load(url) });
  navigator.serviceWorker.addEventListener('message', ({ data, ports: [port] }) =>
    answer(handle, data, port));
  const isControlled = navigator.serviceWorker.controller !== null ||
    new Promise((resolve) => {
      navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true });
    });
  await navigator.serviceWorker.register('./service-worker.js');
  await isControlled;
  const { data } = await (await fetch('/v1/models')).json();
  const response = await fetch('/v1/completions', { method: 'POST', body: JSON.stringify({
    model: data[0].id, prompt: 'Once upon a time', max_tokens: 40, stream: true }) });
  const events = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ''; ;) {
    const { done, value } = await events.read();
    if (done) break;
    const lines = (text + value).split('\n\n');
    text = lines.pop();
    for (const line of lines.filter((one) => one.startsWith('data: {'))) {
      output.append(JSON.parse(line.slice(6)).choices[0].text);
    }
  }
  state.textContent = `done: ${data[0].id}`;
} catch (error) {
  state.textContent = `failed: ${error}`;
}
