// The worker of the test page: does the one job that it is sent and posts how it goes.
import * as onekv from '../../../dist/src/engine-entry.js';
import { runJob } from './job.mjs';

const tell = (kind, text) => postMessage({ kind, text });

// An error in a worker that somebody catches would never be heard of in the page.
addEventListener('unhandledrejection', (event) => tell('trouble', `worker: ${event.reason}`));
addEventListener('securitypolicyviolation', (event) =>
  tell('trouble', `policy: ${event.violatedDirective} blocked ${event.blockedURI}`));

onekv.threadsFromPage();
addEventListener('message', async ({ data: job }) => {
  const failed = (error) => ({ error: String(error?.stack ?? error), code: error?.code });
  postMessage({ kind: 'report', report: await runJob(onekv, job, tell).catch(failed) });
});
