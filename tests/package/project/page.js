// The page of the consumer projects: does the work and writes one JSON report, errors included.
import { work } from './main.js';

const troubles = [];
addEventListener('error', (event) => troubles.push(`error: ${event.message}`));
addEventListener('unhandledrejection', ({ reason }) => troubles.push(`unhandled: ${reason}`));
addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
  if (!blockedURI.endsWith('/favicon.ico')) troubles.push(`${violatedDirective}: ${blockedURI}`);
});

const report = await work('/models/stories-q-mqa.q8_0.gguf', {})
  .catch((error) => ({ error: String(error?.stack ?? error) }));
document.getElementById('report').textContent = JSON.stringify({ ...report, troubles });
