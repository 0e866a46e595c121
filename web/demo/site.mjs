// The whole site in one folder, build/demo: the page, and in docs/ the reference and the pages of
// web/docs.
//
//   node web/demo/site.mjs [--base /path/]     after npm run build; npm run build:site does both
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildDocs } from '../../wasm/toolchain/build.mjs';
import { main, root, say } from '../../wasm/toolchain/shell.mjs';
import { baseOf, buildDemo, site } from './build.mjs';

export async function buildSite(base) {
  await buildDocs();
  await buildDemo(base, { docs: true });
  cpSync(join(root, 'build/docs'), join(site, 'docs'), { recursive: true });
  say('build: the site is build/demo; any static host can serve it');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(() => buildSite(baseOf(process.argv.slice(2))));
}
