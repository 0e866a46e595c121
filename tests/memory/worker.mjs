// The worker of the page of memory.test.mjs, bundled: does one job and posts how it went.
import * as onekv from '../../dist/src/engine-entry.js';
import { jobs } from './large.mjs';

onekv.threadsFromPage();
addEventListener('message', ({ data: [name, address] }) => {
  jobs[name](onekv, address).then((value) => ({ value }), (error) => ({ error: String(error) }))
    .then((report) => postMessage(report));
});
