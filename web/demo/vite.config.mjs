// How the page is built: npm run build:demo [-- --base /path/]. Into build/demo, which can be
// copied to any static host; addresses are relative unless a base is given.
//
// The models lie beside the page, as they are. facts: what build/facts.mjs found out.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { readFacts, resultFiles, shippedFiles } from './build/facts.mjs';
import { folderOf, pageTexts, policy, waysOn } from './build/page-texts.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '../..');
const out = join(root, 'build/demo');

/** `virtual:facts`, and the {{…}} of index.html. */
function factsPlugin(facts) {
  const name = 'virtual:facts';
  return {
    name: 'onekv-facts',
    resolveId: (id) => (id === name ? `\0${name}` : undefined),
    load: (id) => (id === `\0${name}` ? `export default ${JSON.stringify(facts)}` : undefined),
    transformIndexHtml: {
      order: 'pre',
      handler: (html) => {
        const { ONEKV_ADDRESS: address, ONEKV_DOCS: docs, ONEKV_REPOSITORY: source } = process.env;
        const texts = { policy, address: folderOf(address), docs: waysOn(docs, source),
          ...pageTexts(facts) };
        return html.replace(/\{\{([\w.]+)\}\}/g, (_, key) => {
          if (texts[key] === undefined) throw new Error(`index.html: no text for ${key}`);
          return texts[key];
        });
      },
    },
  };
}

function copyInto(folder, files) {
  mkdirSync(join(out, folder), { recursive: true });
  for (const file of files) copyFileSync(join(root, file), join(out, folder, basename(file)));
}

/** Models and results beside the page; the list of what the service worker keeps. */
function besidePlugin() {
  return {
    name: 'onekv-beside',
    apply: 'build',
    closeBundle() {
      const kept = readdirSync(out, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(out.length + 1))
        .filter((file) => file !== 'service-worker.js' && file !== 'precache.json').sort();
      const hash = createHash('sha256');
      for (const file of kept) hash.update(file).update(readFileSync(join(out, file)));
      const version = hash.digest('hex').slice(0, 16);
      writeFileSync(join(out, 'precache.json'), `${JSON.stringify({ version, files: kept })}\n`);
      const worker = join(out, 'service-worker.js');
      // Other bytes are what makes browsers take a new one.
      writeFileSync(worker, `// ${version}\n${readFileSync(worker, 'utf8')}`);
      copyInto('models', Object.values(shippedFiles));
      copyInto('results', resultFiles());
      copyFileSync(join(here, 'screenshots/run-desktop-light.webp'), join(out, 'picture.webp'));
    },
  };
}

export default defineConfig(async () => ({
  root: here,
  base: './',
  publicDir: join(here, 'public'),
  logLevel: 'warn',
  plugins: [factsPlugin(await readFacts()), besidePlugin()],
  resolve: { alias: { 'onekv/bench': join(root, 'dist/src/bench/index.js'),
    'onekv/engine': join(root, 'dist/src/engine-entry.js'), onekv: join(root, 'dist/src/onekv.js'),
    '@fontsource': join(root, 'node_modules/@fontsource'),
    '@fontsource-variable': join(root, 'node_modules/@fontsource-variable') } },
  worker: { format: 'es' },
  build: {
    outDir: out,
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { page: join(here, 'index.html'),
        'service-worker': join(here, 'src/service-worker.ts') },
      output: { entryFileNames: ({ name }) =>
        (name === 'service-worker' ? '[name].js' : 'assets/[name]-[hash].js') },
    },
  },
}));
