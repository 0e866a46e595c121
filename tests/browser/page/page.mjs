// Runs in the page: starts the worker with the job of the address (?job=JSON), shows what it does,
// and at its end writes one JSON report into #report, for the driver to read.
//
// Whatever goes wrong unseen is in the report: errors nobody caught, and what the content security
// policy blocked.
import { serveThreads } from './dist/src/page/thread-host.js';

const element = (id) => document.getElementById(id);
const troubles = [];

function trouble(text) {
  troubles.push(text);
  element('state').textContent = text;
}

addEventListener('error', (event) => trouble(`error: ${event.message}`));
addEventListener('unhandledrejection', (event) => trouble(`unhandled: ${event.reason}`));
addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
  // The browser's own request, which no page can keep it from making.
  if (blockedURI.endsWith('/favicon.ico')) return;
  trouble(`policy: ${violatedDirective} blocked ${blockedURI}`);
});

function finish(report) {
  element('state').textContent = report.error ? `failed: ${report.error}` : 'done';
  element('report').textContent = JSON.stringify({
    ...report, troubles, isolated: globalThis.crossOriginIsolated,
  });
}

const handlers = {
  state: ({ text }) => { element('state').textContent = text; },
  engine: ({ text }) => { element('engine').textContent = text; },
  text: ({ text }) => { element('text').textContent += text; },
  trouble: ({ text }) => trouble(text),
  // One turn later: errors that the job left behind are heard of first.
  report: ({ report }) => setTimeout(finish, 50, report),
};

/** The synchronous engine, in a worker of this page's own. */
function runInWorker(job) {
  const worker = new Worker(new URL('src/worker.js', location.href), { type: 'module' });
  serveThreads(worker, job.threadUrl);
  worker.onmessage = ({ data }) => handlers[data.kind](data);
  // A worker that does not load at all says nothing but this.
  worker.onerror = (event) => finish({ error: `worker: ${event.message ?? 'did not load'}` });
  worker.postMessage(job);
}

/** The public API, which has workers of its own. */
async function runApi(job) {
  const { runSteps } = await import('./api.mjs');
  return runSteps(job, (text) => handlers.state({ text }));
}

/** A model with tools. */
async function runTools({ tools }) {
  const [{ OneKV }, { callTools, loadOptions }] =
    await Promise.all([import('./dist/src/onekv.js'), import('./tools.mjs')]);
  const model = await OneKV.load(tools, { ...loadOptions, store: 'none' });
  const record = await callTools(model);
  await model.unload();
  return { record };
}

const job = JSON.parse(new URLSearchParams(location.search).get('job'));
const runs = job.api !== undefined ? runApi : job.tools !== undefined ? runTools : undefined;
if (runs === undefined) runInWorker(job);
else {
  runs(job).catch((error) => ({ error: String(error?.stack ?? error), code: error?.code }))
    .then((report) => handlers.report({ report }));
}
