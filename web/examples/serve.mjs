// Serves the checkout to this machine, with the headers that threads need: npm run examples.
import { serve } from '../../tests/browser/server.mjs';
import { mounts } from './mounts.mjs';

const { origin } = await serve({ mounts, isolated: true });
console.log(`${origin}/web/examples/\n${origin}/web/examples/search/\n${origin}/offline/`);
