// Where a server has what: the checkout, and the offline example as a host would get it, with the
// package beneath it.
import { join } from 'node:path';
import { root } from '../../wasm/toolchain/shell.mjs';

export const mounts = {
  '/': root,
  '/offline/': join(root, 'web/examples/offline'),
  '/offline/onekv/': join(root, 'dist'),
  '/offline/models/': join(root, 'models'),
};
