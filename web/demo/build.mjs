// Checks the page's TypeScript and makes the page:
//
//   node web/demo/build.mjs [--base /path/]     into build/demo (vite.config.mjs)
//
// The package must have been built before: npm run build:demo does both.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Stop, main, must, root, say, withLock } from '../../wasm/toolchain/shell.mjs';
import { need } from '../../wasm/toolchain/setup.mjs';

/** The folder that can be copied to a static host. */
export const site = join(root, 'build/demo');

/** Builds; base is the path that the page will have on its host, by default any. With docs the page
 * leads to docs/, which site.mjs puts there. */
export async function buildDemo(base = './', { docs = false } = {}) {
  await need('npm');
  await withLock(join(root, 'build/demo.lock'), async () => {
    const moving = 'build: demo';
    await must('the page’s types', process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'web/demo')], moving);
    const { seconds } = await must('the page', process.execPath,
      [join(root, 'node_modules/vite/bin/vite.js'), 'build', '--config',
        join(root, 'web/demo/vite.config.mjs'), '--base', base],
      { env: { ONEKV_DOCS: docs ? 'docs/' : '' }, moving });
    say(`build: demo (${seconds.toFixed(1)} s)`);
  });
}

/** The base of --base /path/, which ends with a slash; undefined without. */
export function baseOf(args) {
  if (args.length === 0) return undefined;
  const [name, value] = args.length === 1 ? args[0].split('=') : args;
  if (name !== '--base' || !value?.startsWith('/')) {
    throw new Stop('usage: node web/demo/build.mjs [--base /path/]');
  }
  return value.endsWith('/') ? value : `${value}/`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(() => buildDemo(baseOf(process.argv.slice(2))));
}
