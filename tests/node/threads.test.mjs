// Threads that a page starts for its worker, with both ends in one program: ports and messages are
// the platform's, workers are stand-ins. Firefox itself is in tests/browser and tests/demo.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { serveThreads } from '../../dist/src/page/thread-host.js';
import { threadsFromPage } from '../../dist/src/engine/thread-guest.js';

const saved = Object.fromEntries(['Worker', 'postMessage', 'navigator'].map((name) =>
  [name, Object.getOwnPropertyDescriptor(globalThis, name)]));
after(() => {
  for (const [name, descriptor] of Object.entries(saved)) {
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete globalThis[name];
  }
});
const put = (name, value) =>
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

/** Threads that were started: their names, what they were sent, and whether they ended. */
const started = [];
class Thread {
  constructor(url, { name }) {
    if (String(url).includes('refused')) throw new Error('the policy forbids it');
    Object.assign(this, { url: String(url), name, ended: false });
    started.push(this);
  }

  postMessage(glue, [speech]) {
    Object.assign(this, { glue, speech });
  }

  terminate() {
    this.ended = true;
    this.speech.close();
  }
}

/** A page with its worker: gives the worker's Worker, what else the page heard, and the end. */
function pair(url) {
  const worker = new EventTarget();
  put('Worker', Thread);
  const end = serveThreads(worker, url);
  const heard = [];
  worker.addEventListener('message', ({ data }) => heard.push(data));
  put('postMessage', (data, { transfer = [] } = {}) => {
    worker.dispatchEvent(Object.assign(new Event('message'), { data, ports: transfer }));
  });
  put('navigator', { userAgent: 'Mozilla/5.0 (X11; rv:153.0) Gecko/20100101 Firefox/153.0' });
  threadsFromPage();
  const PageThread = globalThis.Worker;
  put('Worker', Thread); // The page's own.
  return { PageThread, heard, end };
}

const next = (target, handler) => new Promise((resolve) => { target[handler] = resolve; });

test('a thread is asked of the page, spoken with and ended', async () => {
  const { PageThread, heard, end } = pair();
  const guests = ['a', 'b'].map((name) => new PageThread(new URL(`https://x.test/${name}.mjs`)));
  const [thread, other] = started.splice(0);
  assert.equal(thread.glue, 'https://x.test/a.mjs');
  assert.equal(thread.name, 'em-pthread');
  assert.match(thread.url, /\/worker\.js$/);
  assert.deepEqual(heard, []);
  globalThis.postMessage('something else');
  assert.deepEqual(heard, ['something else']);

  guests[0].postMessage({ cmd: 'load' });
  assert.deepEqual((await next(thread.speech, 'onmessage')).data, { cmd: 'load' });
  thread.speech.postMessage({ cmd: 'loaded' });
  assert.deepEqual((await next(guests[0], 'onmessage')).data, { cmd: 'loaded' });

  thread.onerror({ message: 'it broke', preventDefault() {} });
  assert.equal((await next(guests[0], 'onerror')).message, 'it broke');

  guests[0].terminate();
  while (!thread.ended) await new Promise((resolve) => { setTimeout(resolve, 1); });
  assert.equal(other.ended, false);
  end();
  assert.equal(other.ended, true);
  guests[1].terminate();
});

test('a page that may not start workers says so', async () => {
  const { PageThread } = pair('https://x.test/refused.js');
  const guest = new PageThread('https://x.test/a.mjs');
  assert.match((await next(guest, 'onerror')).message, /the policy forbids it/);
  assert.equal(started.length, 0);
  guest.terminate();
});

test('other browsers’ workers stay their own', () => {
  put('Worker', Thread);
  for (const userAgent of [undefined, 'Node.js/24',
    'Mozilla/5.0 AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15']) {
    put('navigator', { userAgent });
    threadsFromPage();
    assert.equal(globalThis.Worker, Thread);
  }
});
