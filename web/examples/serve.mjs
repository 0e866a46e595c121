// Serves the checkout to this machine, with the headers that threads need: npm run examples.
import { serve } from '../../tests/browser/server.mjs';
import { root } from '../../wasm/toolchain/shell.mjs';

const { origin } = await serve({ mounts: { '/': root }, isolated: true });
console.log(`${origin}/web/examples/`);
