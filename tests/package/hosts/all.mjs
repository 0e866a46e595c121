// The packed tarball in projects of bundlers, frameworks and runtimes beyond those of
// ../package.test.mjs: npm run test:hosts. In pages it is Chromium that runs them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { root, run } from '../../../wasm/toolchain/shell.mjs';
import { launch } from '../../browser/drivers.mjs';
import { serve } from '../../browser/server.mjs';
import { astroDev, cloudflare, environment, extension, folder, incomplete, nodeProgram, prepare,
  program, servers, sites } from './projects.mjs';

// Many times what anything takes on a quiet machine.
const limit = { timeout: 600_000 };
const patience = 120_000;
const model = join(root, 'models/stories-q-mqa.q8_0.gguf');
const start = /^, there was a /;

let driver;

before(async () => {
  await prepare();
  driver = await launch('chromium');
}, limit);
after(() => driver?.close());

async function reportOf(page, address) {
  await page.open(address);
  for (const end = performance.now() + patience; performance.now() < end;) {
    // A development server may load the page anew while it is looked at.
    const text = await page.text('#report').catch(() => null);
    if (text) return JSON.parse(text);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`no report from ${address}\n${driver.log.join('\n')}`);
}

/** `isolated`: of a page with the headers for threads; how many are of use is another matter. */
function assertReport(report, isolated = false) {
  assert.equal(report.error, undefined);
  assert.deepEqual(report.troubles ?? [], []);
  assert.match(report.story, start);
  assert.match(report.number, /^ ?\d\d toys$/);
  assert.equal(report.sessions, 2);
  if (!isolated) return;
  assert.equal(report.engine.isolated, true);
  assert.deepEqual(report.engine.notes.filter((note) => /thread/.test(note)), []);
}

for (const [name, make] of Object.entries(sites)) {
  test(name, limit, async () => {
    const built = await make();
    const { origin, close } = await serve({ isolated: true,
      mounts: { '/': built, '/models/': join(root, 'models') } });
    try {
      assertReport(await reportOf(driver, `${origin}/`), true);
    } finally {
      await close();
    }
  });
}

test('a bundle without the worker says what has to be copied', limit, async () => {
  const { origin, close } = await serve({ mounts: { '/': await incomplete(),
    '/models/': join(root, 'models') } });
  try {
    const { error } = await reportOf(driver, `${origin}/`);
    assert.match(error, /dist\/src\/worker\.js and dist\/wasm have to be copied/);
  } finally {
    await close();
  }
});

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Runs a framework's own server for a while. */
async function withServer({ target, program: file = nodeProgram, args }, use, port) {
  port ??= await freePort();
  const server = spawn(file, args(port), { cwd: target, stdio: 'ignore',
    env: { ...environment, PORT: String(port), HOST: '127.0.0.1' } });
  const origin = `http://127.0.0.1:${port}`;
  try {
    for (const end = performance.now() + patience; performance.now() < end;) {
      if (await fetch(origin).then(({ ok }) => ok, () => false)) break;
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    await use(origin);
  } finally {
    server.kill();
  }
}

for (const [name, make] of Object.entries(servers)) {
  test(`${name}, by its own server`, limit, async () => {
    const made = await make();
    await withServer(made, async (origin) => {
      assertReport(await reportOf(driver, `${origin}/`), made.isolated ?? true);
      // A route handler, where the package is that of Node.
      if (name === 'next') assert.match(await (await fetch(`${origin}/tell`)).text(), start);
    });
  });
}

test("Vite's development server without the line says which", limit, async () => {
  await withServer(await astroDev({ 'astro.config.mjs': 'export default {};' }), async (origin) => {
    const { error } = await reportOf(driver, `${origin}/`);
    assert.match(error, /tell it optimizeDeps: \{ exclude: \['onekv'\] \}/);
  });
});

test('workerd: a host without workers gets one error', limit, async () => {
  const port = await freePort();
  await withServer(await cloudflare(port), async (origin) => {
    const { available, code, message } = await (await fetch(origin)).json();
    assert.equal(code, 'WORKER_LOST');
    assert.match(message, /^there are no workers here: load the model in a page/);
    assert.deepEqual(available, { value: false, reason: message });
  }, port);
});

for (const [name, args] of [['deno', ['run', '--allow-all', '--no-lock']], ['bun', ['run']]]) {
  test(`${name}: the program of Node`, limit, async () => {
    const target = program();
    const { status, output } = await run(join(folder, 'node_modules/.bin', name),
      [...args, 'node.mjs', model], { cwd: target });
    assert.equal(status, 0, output);
    assertReport(JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1)));
  });
}

test('an extension: page, offscreen document, and why no service worker', limit, async () => {
  const target = extension();
  const profile = mkdtempSync(join(tmpdir(), 'onekv-extension-'));
  const { chromium } = await import('playwright-core');
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.PATH.split(':').map((path) => join(path, 'chromium'))
      .find((path) => existsSync(path)),
    args: ['--headless=new', '--no-sandbox', `--disable-extensions-except=${target}`,
      `--load-extension=${target}`],
    ignoreDefaultArgs: ['--headless', '--disable-extensions'],
  });
  try {
    const worker = context.serviceWorkers()[0] ?? await context.waitForEvent('serviceworker');
    const page = await context.newPage();
    await page.goto(new URL('index.html', worker.url()).href);
    await page.locator('#report', { hasText: 'story' }).waitFor({ timeout: patience });
    const { story, refusal, opened, offscreen } = JSON.parse(await page.textContent('#report'));
    assert.match(story, start);
    assert.deepEqual([opened, offscreen], ['opened', story]);
    assert.equal(refusal.code, 'WORKER_LOST');
    assert.match(refusal.text, /offscreen document of an extension/);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
});

const dom = ['es2022', 'dom', 'dom.iterable', 'dom.asynciterable'];
/** Module, its resolution, libraries and other types. */
const programs = {
  nodenext: ['nodenext', 'nodenext', dom, []],
  node16: ['node16', 'node16', dom, []],
  bundler: ['esnext', 'bundler', dom, []],
  node10: ['esnext', 'node10', dom, []],
  'nodenext, in Node, without the DOM': ['nodenext', 'nodenext', ['es2022'], ['node']],
  'bundler, in a worker': ['esnext', 'bundler', ['es2022', 'webworker',
    'webworker.asynciterable'], []],
};

/** The oldest that is promised and the newest, which has no node10 any more. */
const compilers = { 5.4: join(folder, 'node_modules/typescript54'),
  current: join(root, 'node_modules/typescript') };

for (const [name, compiler] of Object.entries(compilers)) {
  for (const [kind, [module, moduleResolution, lib, types]] of Object.entries(programs)) {
    if (name === 'current' && moduleResolution === 'node10') continue;
    test(`TypeScript ${name}, resolved as ${kind}, libraries checked`, limit, async () => {
      const target = program();
      writeFileSync(join(target, 'types.ts'), `import { OneKV } from 'onekv';
        import type { Model } from 'onekv';
        import * as bench from 'onekv/bench';
        import { Engine, serveThreads } from 'onekv/engine';
        import type { Handler } from 'onekv/handler';
        import { openai } from 'onekv/openai';
        import { languageModel } from 'onekv/prompt-api';
        export async function use(signal: AbortSignal | undefined): Promise<string> {
          const model: Model = await OneKV.load('hf:org/repo', { signal, token: undefined,
            headers: undefined, unloadAfter: undefined, refresh: () => undefined });
          void openai(model);
          void languageModel(() => OneKV.load(['a.gguf', new URL('https://example.org/b.gguf')]));
          const session = await model.createSession({ signal });
          return session.prompt('Once', { signal, maxTokens: undefined });
        }
        export const rest = [Engine.open, bench] as const;
        export type Rest = Handler;
        ${lib.includes('dom') ? `export const page = (model: Model, image: ImageData,
          one: Worker) => [model.classify(image), serveThreads(one)];` : 'void serveThreads;'}`);
      writeFileSync(join(target, 'tsconfig.json'), JSON.stringify({ files: ['types.ts'],
        compilerOptions: { strict: true, noEmit: true, exactOptionalPropertyTypes: true,
          skipLibCheck: false, target: 'es2022', module, moduleResolution, types, lib,
          typeRoots: [join(root, 'node_modules/@types')] } }));
      const { status, output } = await run(process.execPath,
        [join(compiler, 'bin/tsc'), '-p', '.'], { cwd: target });
      assert.equal(status, 0, output);
    });
  }
}
