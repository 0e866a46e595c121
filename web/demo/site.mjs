// The whole site in one folder, build/demo: the page, and in docs/ the reference and the pages of
// web/docs.
//
//   node web/demo/site.mjs [--base /path/]     after npm run build; npm run build:site does both
import { cpSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildDocs } from '../../wasm/toolchain/build.mjs';
import { main, root, say } from '../../wasm/toolchain/shell.mjs';
import { baseOf, buildDemo, site } from './build.mjs';

/** A link to the demo page into every page of the documentation, whose bar has a place for it. */
function linkBack(folder) {
  for (const name of readdirSync(folder, { recursive: true })) {
    if (!name.endsWith('.html')) continue;
    const file = join(folder, name);
    const page = `${'../'.repeat(name.split(sep).length)}index.html`;
    writeFileSync(file, readFileSync(file, 'utf8').replace('<div id="tsd-toolbar-links">',
      `$&<a href="${page}">Demo page</a>`));
  }
}

export async function buildSite(base) {
  await buildDocs();
  await buildDemo(base, { docs: true });
  cpSync(join(root, 'build/docs'), join(site, 'docs'), { recursive: true });
  linkBack(join(site, 'docs'));
  say('build: the site is build/demo; any static host can serve it');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(() => buildSite(baseOf(process.argv.slice(2))));
}
