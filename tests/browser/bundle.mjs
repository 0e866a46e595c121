// Makes the site of the browser tests: page and worker, the built package and the models, where
// they lie. Only the worker is bundled, since a bare import resolves in no worker.
//
// The WebAssembly modules are not: each is also the script of its threads, and the library finds
// them beside its own folder, as in the package (dist/src, dist/wasm).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from '../../wasm/toolchain/shell.mjs';
import { chatFile, withWindow } from '../node/support.mjs';

const folder = join(root, 'build/browser');

/** Bundles the worker; gives the mounts for serve(). The cache folder holds fetched models. */
export async function makeSite(cacheFolder) {
  await build({
    entryPoints: [join(root, 'tests/browser/page/worker.mjs')],
    outfile: join(folder, 'src/worker.js'),
    bundle: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    // What the package imports in Node only; a browser never comes there.
    external: ['node:*'],
    logLevel: 'warning',
  });
  mkdirSync(join(folder, 'made'), { recursive: true });
  const story = readFileSync(join(root, 'models/stories-q-mqa.q8_0.gguf'));
  writeFileSync(join(folder, 'made/endless.gguf'), Buffer.from(withWindow(story)));
  writeFileSync(join(folder, 'made/chat.gguf'), Buffer.from(chatFile()));
  return {
    '/': join(root, 'tests/browser/page'),
    '/src/': join(folder, 'src'),
    '/wasm/': join(root, 'dist/wasm'),
    '/dist/': join(root, 'dist'),
    '/golden/': join(root, 'tests/golden'),
    '/models/': join(root, 'models'),
    '/fetched/': cacheFolder,
    '/made/': join(folder, 'made'),
  };
}
