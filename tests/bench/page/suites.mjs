// Runs in the page: hands the job of the address (?job=JSON) to a worker and shows how far it is;
// at the end the results are in #report.
import { serveThreads } from './dist/src/page/thread-host.js';

const element = (id) => document.getElementById(id);
const worker = new Worker(new URL('src/suites-worker.js', location.href), { type: 'module' });
const finish = (report) => {
  element('report').textContent = JSON.stringify(report);
  element('state').textContent = 'done';
};

serveThreads(worker);
worker.onmessage = ({ data: { progress, report } }) => {
  if (progress) element('state').textContent = progress;
  if (report) finish({ ...report, isolated: globalThis.crossOriginIsolated });
};
worker.onerror = (event) => finish({ error: `worker: ${event.message ?? 'did not load'}` });
worker.postMessage(JSON.parse(new URLSearchParams(location.search).get('job')));
