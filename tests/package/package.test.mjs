// The package, as others get it (tarball.test.mjs says what is in it): what its types say, what is
// left of it when little is used, and that it runs in fresh projects, in three browsers under the
// strict policy and Node.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { root, run } from '../../wasm/toolchain/shell.mjs';
import { launch } from '../browser/drivers.mjs';
import { serve, strictPolicy } from '../browser/server.mjs';
import { chatFile } from '../node/support.mjs';
import { nodePrograms } from '../stages.mjs';
import { packAndInstall, projects, serveWithVite, tool, toolProgram } from './projects.mjs';

// Many times what anything takes on a quiet machine.
const limit = { timeout: 300_000 };
const patience = 120_000;
const model = join(root, 'models/stories-q-mqa.q8_0.gguf');

let packed;
/** Of each project, as far as they have been made: what was opened is closed in any case. */
const sites = {};
/** What Node says; the browsers have to say the same. */
let expected;

before(async () => {
  packed = await packAndInstall();
  await serveAll();
}, limit);
after(async () => {
  // Whatever a set-up that failed has left running does not keep this process.
  setTimeout(() => process.exit(1), 30_000).unref();
  await Promise.all(Object.values(sites).map((site) => site.close()));
});

const gzipped = (file) => gzipSync(readFileSync(file), { level: 9 }).length;
const installed = (file) => join(packed.project, 'node_modules/onekv', file);

test('publint and @arethetypeswrong/cli have nothing to say', limit, async () => {
  const { publint } = await tool('publint');
  const { messages } = await publint({ pkgDir: installed(''), strict: true });
  assert.deepEqual(messages, []);
  // ESM only: what CommonJS would say about it does not count.
  const { status, output } = await run(toolProgram('attw'), [packed.tarball, '--profile',
    'esm-only', '--format', 'ascii']);
  assert.equal(status, 0, output);
});

for (const [compiler, resolution, program] of [
  ['TypeScript 5', 'nodenext', () => toolProgram('tsc')],
  ['the current TypeScript', 'nodenext', () => join(root, 'node_modules/.bin/tsc')],
  ['the current TypeScript', 'bundler', () => join(root, 'node_modules/.bin/tsc')],
]) {
  test(`${compiler} --strict, resolved as ${resolution}, libraries checked`, limit, async () => {
    const config = `tsconfig.${resolution}.json`;
    writeFileSync(join(packed.project, config), JSON.stringify({
      compilerOptions: {
        strict: true, noEmit: true, exactOptionalPropertyTypes: true, target: 'es2022',
        module: resolution === 'bundler' ? 'esnext' : resolution, moduleResolution: resolution,
        lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'], types: [],
      },
      files: ['types.ts'],
    }));
    const { status, output } = await run(program(), ['-p', config], { cwd: packed.project });
    assert.equal(status, 0, output);
  });
}

/** What a bundler leaves of a module, minified. */
async function bundled(contents, options = {}, resolveDir = packed.project) {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir }, bundle: true, minify: true, format: 'esm',
    platform: 'browser', write: false, metafile: true, outdir: 'out', splitting: true,
    logLevel: 'warning', ...options,
  });
  return { text: outputFiles[0].text, inputs: Object.keys(metafile.inputs) };
}

/** All entries of the package, as others import them. */
function subpaths() {
  const { exports } = JSON.parse(readFileSync(installed('package.json'), 'utf8'));
  return Object.keys(exports).filter((path) => path !== './package.json')
    .map((path) => `onekv${path.slice(1)}`);
}

test('each subpath shakes off what is not used', limit, async () => {
  assert.ok(subpaths().includes('onekv/bench'));
  for (const name of subpaths()) {
    const { text } = await bundled(`import '${name}'; import * as all from '${name}';`);
    assert.ok(text.length < 50, `${name}: ${text.length} bytes are left of nothing`);
  }
  const page = await bundled("import { OneKV } from 'onekv'; globalThis.x = OneKV;");
  // Tokenizers, templates and hashes are the worker's.
  assert.ok(page.inputs.every((file) => !/@huggingface|@noble/.test(file)));
  const client = await bundled("import { openai } from 'onekv/openai'; globalThis.x = openai;");
  assert.doesNotMatch(client.text, /WebAssembly|new Worker/);
});

test('sizes: modules, and what a page loads of JavaScript', limit, async (t) => {
  for (const level of ['simd128', 'relaxed']) {
    const bytes = gzipped(installed(`dist/wasm/onekv-${level}.wasm`));
    t.diagnostic(`onekv-${level}.wasm: ${(bytes / 1024).toFixed(1)} KiB gzipped`);
    assert.ok(bytes <= 150 * 1024);
  }
  const grammar = gzipped(installed('dist/wasm/onekv-grammar.wasm'));
  t.diagnostic(`onekv-grammar.wasm: ${(grammar / 1024).toFixed(1)} KiB gzipped`);
  assert.ok(grammar <= 500 * 1024);
  const page = await bundled("import { OneKV } from 'onekv'; globalThis.x = OneKV;");
  const libraries = ['@huggingface/tokenizers', '@huggingface/jinja', '@noble/hashes/*'];
  const worker = await bundled(readFileSync(installed('dist/src/worker/main.js'), 'utf8'),
    { external: [...libraries, 'node:*'] }, installed('dist/src/worker'));
  const glue = readFileSync(installed('dist/wasm/onekv-relaxed.mjs'));
  const bytes = [page.text, worker.text, glue].map((text) => gzipSync(text, { level: 9 }).length);
  const sum = bytes.reduce((a, b) => a + b);
  const all = gzipped(installed('dist/src/worker.js'));
  t.diagnostic(`JavaScript, gzipped: ${(sum / 1024).toFixed(1)} KiB (page, worker and glue: ` +
    `${bytes.join(', ')} bytes); the worker with its libraries ${(all / 1024).toFixed(1)} KiB`);
  assert.ok(sum <= 92 * 1024);
});

test('Node: the same work, in every Node there is', limit, async () => {
  const script = join(packed.project, 'node.mjs');
  writeFileSync(script, `import { work } from './main.js';
    process.stdout.write(JSON.stringify(await work(process.argv[2], {})));`);
  for (const program of nodePrograms()) {
    const { status, output } = await run(program, [script, model], { cwd: packed.project });
    assert.equal(status, 0, output);
    const report = JSON.parse(output.slice(output.indexOf('{')));
    assertReport(report);
    expected ??= report;
    assert.equal(report.story, expected.story);
    assert.deepEqual(report.stored, []);
  }
});

test('Node: the program runs where it was installed', limit, async () => {
  const { status, output } = await run(process.execPath, [installed('dist/cli/onekv.js'),
    'generate', 'stories-q-mqa', '-p', 'Once upon a time', '--max-tokens', '8']);
  assert.equal(status, 0, output);
  assert.match(output, /^Once upon a time/m);
});

function assertReport(report) {
  assert.equal(report.error, undefined);
  assert.ok(report.story.length > 20, report.story);
  assert.match(report.number, /^ ?\d\d toys$/);
  assert.equal(report.fileBytes, statSync(model).size);
  assert.equal(report.bytesPerToken, 512);
  assert.equal(report.sessions, 2);
  assert.deepEqual(report.empty, []);
  assert.ok(report.tokens > 24);
  assert.equal(report.loads[0], 0);
  assert.equal(report.loads.at(-1), 1);
  assert.ok(report.counted > 0);
}

/** Sites of all projects, under the strict policy; an import map is a script in the page, and has
 * to be named by its digest. */
async function serveAll() {
  for (const [name, make] of Object.entries(projects)) {
    const folder = await make(packed.project);
    const page = readFileSync(join(folder, 'index.html'), 'utf8');
    const map = /<script type="importmap">([^]*?)<\/script>/.exec(page)?.[1];
    const digest = map && createHash('sha256').update(map).digest('base64');
    sites[name] = await serve({
      mounts: { '/': folder, '/models/': join(root, 'models') },
      isolated: true,
      strict: digest ? strictPolicy.replace("'self'", `'self' 'sha256-${digest}'`) : true,
    });
  }
}

async function reportOf(driver, origin) {
  await driver.open(`${origin}/`);
  for (const end = performance.now() + patience; performance.now() < end;) {
    const text = await driver.text('#report');
    if (text) return JSON.parse(text);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`${driver.name}: no report from ${origin}\n${driver.log.join('\n')}`);
}

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(`${browser}: ${Object.keys(projects).join(', ')}`, limit, async (t) => {
    const driver = await launch(browser);
    try {
      for (const name of Object.keys(projects)) {
        const report = await reportOf(driver, sites[name].origin);
        assert.deepEqual(report.troubles, [], `${name}: ${driver.log.join('\n')}`);
        assertReport(report);
        assert.equal(report.story, expected.story);
        const [entry] = report.stored;
        assert.equal(entry.complete, true);
        assert.equal(entry.bytes, statSync(model).size);
        t.diagnostic(`${name}: ${report.engine.simd}, ${report.engine.threads} threads`);
      }
    } finally {
      await driver.close();
    }
  });
}

test('chromium: the development server of Vite', limit, async () => {
  const models = installed('models');
  const site = await serveWithVite(packed.project, models);
  const driver = await launch('chromium');
  try {
    const report = await reportOf(driver, site.origin);
    assert.deepEqual(report.troubles, [], driver.log.join('\n'));
    assertReport(report);
  } finally {
    await driver.close();
    await site.close();
  }
});

/** The examples with the installed package: their import map is for the checkout. */
async function serveExamples() {
  const folder = join(packed.project, 'examples');
  cpSync(join(root, 'web/examples'), folder, { recursive: true });
  const page = join(folder, 'index.html');
  writeFileSync(page, readFileSync(page, 'utf8')
    .replaceAll('../../dist/', '../node_modules/onekv/dist/'));
  const mounts = { '/': packed.project, '/models/': join(root, 'models') };
  const asked = [];
  const { origin, close } = await serve({ mounts, isolated: true,
    seen: (path) => asked.push(path) });
  return { folder, address: `${origin}/examples/`, asked, close };
}

/** A page with the first program of the README, as it stands there. */
function writeReadmePage(folder) {
  const readme = readFileSync(installed('README.md'), 'utf8');
  const [, program] = /^```js\n([^]*?)^```$/m.exec(readme);
  writeFileSync(join(folder, 'readme.js'), program);
  const imports = { onekv: '../node_modules/onekv/dist/src/onekv.js' };
  writeFileSync(join(folder, 'readme.html'), '<!doctype html><html><body>' +
    `<script type="importmap">${JSON.stringify({ imports })}</script>` +
    '<script type="module" src="readme.js"></script></body></html>');
}

/** What each example has written in the end. */
const written = {
  story: /^, there .{100,}\n\n\d+ bytes of cache; standard attention: \d+\n$/s,
  json: /^(\{"name":"(Tim|Lily|Tom)","age":\d,"likes":\[.*\]\}\n){3}$/,
  many: /^\d\d+ different ends, .*\nbytes of cache: \d+ before, \d+ after; standard attention: \d+/,
  pack: /^\d\d tokens were there at once\.\n./,
  suspend: /^A new story: Once upon a time.*\nSaved \d+ bytes in [\d.]+ ms/s,
};

/** Opens an example and gives what it wrote when it is done. */
async function runExample(driver, address) {
  await driver.open(address);
  for (const end = performance.now() + patience; performance.now() < end;) {
    const state = await driver.text('#state');
    if (state) {
      assert.equal(state, 'done');
      return driver.text('#output');
    }
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`${address} does not end\n${driver.log.join('\n')}`);
}

/** The README's first program: its text, and on the console its ratio (WebKit's driver does not
 * tell of that). */
async function runReadme(driver, address) {
  await driver.open(`${address}readme.html`);
  const said = () => driver.log.filter((line) => /less cache/.test(line)).at(-1);
  const isDone = async () => (driver.name === 'webkit'
    ? (await driver.text('body')).length > 100 : said() !== undefined);
  for (const end = performance.now() + patience; !await isDone();) {
    assert.ok(performance.now() < end, driver.log.join('\n'));
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  assert.ok((await driver.text('body')).length > 100);
  if (driver.name === 'webkit') return;
  assert.equal(said(), 'console log: 32 times less cache than standard attention');
}

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(`${browser}: web/examples/ and the README's program`, { timeout: 600_000 }, async () => {
    const { folder, address, asked, close } = await serveExamples();
    const { status, output } = await run(process.execPath, ['pack.mjs', model, 'prompt.pack'],
      { cwd: folder });
    assert.equal(status, 0, output);
    const driver = await launch(browser);
    try {
      // Private windows of WebKit forget what no page holds open.
      const holder = await driver.newTab();
      await holder.open(address);
      await holder.evaluate(
        "caches.open('conversations').then((cache) => { globalThis.held = cache; })");
      for (const [name, pattern] of Object.entries(written)) {
        assert.match(await runExample(driver, `${address}?name=${name}`), pattern, name);
      }
      assert.equal(asked.filter((path) => path.endsWith('.pack')).length, 1, 'one fetch');
      const again = await runExample(driver, `${address}?name=suspend`);
      assert.match(again, /^Going on after \d\d tokens: /);
      assert.deepEqual(driver.log.filter((line) => /console error|page error/.test(line)), []);
      writeReadmePage(folder);
      await runReadme(driver, address);
    } finally {
      await driver.close();
      await close();
    }
  });
}

test('onekv serve: OpenAI\'s protocol in Node', limit, async () => {
  writeFileSync(join(packed.project, 'chat.gguf'), Buffer.from(chatFile()));
  const child = spawn(process.execPath, ['node_modules/onekv/dist/cli/onekv.js', 'serve',
    'chat.gguf', '--port', '0', '--quiet'],
  { cwd: packed.project, stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = await once(child.stdout, 'data');
    const ask = (body) => fetch(`${String(line).trim()}/chat/completions`,
      { method: 'POST', body: JSON.stringify(body) });
    const messages = [{ role: 'user', content: 'Tim had a' }];
    const whole = await (await ask({ messages, temperature: 0, max_tokens: 8 })).json();
    assert.equal(whole.usage.completion_tokens, 8);
    const streamed = await ask({ messages, temperature: 0, max_tokens: 8, stream: true });
    const parts = (await streamed.text()).trim().split('\n\n')
      .map((part) => part.replace(/^data: /, ''));
    assert.equal(parts.pop(), '[DONE]');
    assert.equal(parts.map((part) => JSON.parse(part).choices[0].delta.content ?? '').join(''),
      whole.choices[0].message.content);
    const refused = await ask({ messages, tools: [{}] });
    assert.equal(refused.status, 400);
    const { error } = await refused.json();
    assert.match(error.message, /tools\[0\]\.type: found undefined, expected function/);
  } finally {
    child.kill();
  }
});

test('npm run docs: every name of the interface, without a warning', limit, async () => {
  const { status, output } = await run('npm', ['run', 'docs']);
  assert.equal(status, 0, output);
  const index = readFileSync(join(root, 'build/docs/modules.html'), 'utf8');
  for (const name of ['onekv', 'index', 'openai', 'prompt-api', 'bench']) {
    assert.ok(index.includes(name), name);
  }
});
