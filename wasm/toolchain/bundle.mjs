// What cannot be shipped as the compiler or a package gives it, bundled with esbuild:
//
//   dist/src/worker.js     the worker with all that it imports: bare imports resolve in no worker
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Stop, root } from './shell.mjs';

/** What the worker carries of others, for its banner. */
const carried = ['@huggingface/jinja', '@huggingface/tokenizers', '@noble/hashes'];

function noticeOf(name) {
  const { version, license } = JSON.parse(readFileSync(
    join(root, 'node_modules', name, 'package.json'), 'utf8'));
  return `${name} ${version}, ${license}`;
}

/** Bundlers of those who use the package must leave the glue's import alone; minifying loses the
 * comments that tell them. */
function tellBundlers(script) {
  const glue = /import\((\w+\.href)\)/g;
  const told = script.replace(glue, 'import(/* webpackIgnore: true */ /* @vite-ignore */ $1)');
  if (script.match(glue)?.length !== 2) {
    throw new Stop('worker.js: the glue is not imported as expected');
  }
  return told;
}

export async function bundleWorker() {
  const { build } = await import('esbuild');
  const outfile = join(root, 'dist/src/worker.js');
  const { outputFiles: [output] } = await build({
    write: false,
    entryPoints: [join(root, 'dist/src/worker/main.js')],
    outfile,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    banner: { js: `/* OneKV, MIT; with ${carried.map(noticeOf).join('; ')}; licences: ` +
      'https://spdx.org/licenses */' },
    logLevel: 'warning',
  });
  writeFileSync(outfile, tellBundlers(output.text));
}
