// The blocks of web/docs that docs.test.mjs does not run, and those of two other pages: lines for a
// shell, configurations, an interface, what a page without a bundler imports.
//
// What projects of hosts need is run by tests/package (package.test.mjs, hosts/ and clients/); each
// kind of block has its row in `runners`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync,
  writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, test } from 'node:test';
import { has, run } from '../../wasm/toolchain/shell.mjs';
import { chatFile, root, withWindow } from './support.mjs';

const limit = { timeout: 120_000 };
const folder = mkdtempSync(join(tmpdir(), 'onekv-docs-'));
const children = [];
before(() => {
  writeFileSync(join(folder, 'model.gguf'), new Uint8Array(withWindow(chatFile(), 512)));
  writeFileSync(join(folder, 'held-out.txt'), 'Once upon a time there was a cat. It ran away.');
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules/onekv'));
  symlinkSync(join(root, 'models'), join(folder, 'node_modules/onekv-models'));
});
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

const blocksOf = (page, language) => [...readFileSync(join(root, page), 'utf8')
  .matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(([, code]) => code);

/** The first block of that language under a heading of the page about hosts. */
function blockUnder(heading, language) {
  const page = readFileSync(join(root, 'web/docs/bundlers.md'), 'utf8');
  const [, section] = page.split(`\n## ${heading}\n`);
  return new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, 'm').exec(section)[1];
}

const program = join(root, 'dist/cli/onekv.js');
/** npx runs this checkout's program. Python's programs have tests of their own (models/tests). */
const prelude = `npx() { shift; "${process.execPath}" "${program}" "$@"; }
python() { test -f "${root}$(echo "$2" | tr . /).py"; }
`;

async function sh(lines, more = '') {
  const { status, output } = await run('sh', ['-ec', more + lines], { cwd: folder,
    env: { PATH: [join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter) } });
  assert.equal(status, 0, output);
  return output;
}

test('converting.md: its lines run', limit, async () => {
  const [inspected, ...rest] = blocksOf('web/docs/converting.md', 'sh');
  assert.match(await sh(inspected, prelude), /cache per token, bytes[^]*written at/);
  for (const lines of rest.slice(0, -1)) await sh(lines, prelude);
  assert.match(await sh(rest.at(-1), prelude), /perplexityPerToken +\d/);
});

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return String(port);
}

const noCurl = !has('curl') && 'no curl';

test('doors.md: a port of this machine', { ...limit, skip: noCurl }, async () => {
  const port = await freePort();
  const [block] = blocksOf('web/docs/doors.md', 'sh');
  const [line, ...rest] = block.replaceAll('8080', port)
    .replace('hf:org/repo:Q4_K_M', join(folder, 'model.gguf')).split('\n');
  const child = spawn(process.execPath, [program, ...line.split(' ').slice(2)]);
  children.push(child);
  await once(child.stdout, 'data');
  const said = await sh(rest.join('\n'));
  assert.match(said, /"delta":\{.*"content":"[^]*data: \[DONE\]/);
});

test('bundlers.md: the lines for esbuild make a folder that has all files', limit, async () => {
  writeFileSync(join(folder, 'page.js'), "import { OneKV } from 'onekv';\nconsole.log(OneKV);\n");
  await sh(blockUnder('esbuild', 'sh'));
  const made = readdirSync(join(folder, 'dist'), { recursive: true });
  for (const file of ['js/page.js', 'js/worker.js', 'wasm/onekv-relaxed.wasm']) {
    assert.ok(made.includes(file), `${file}: ${made}`);
  }
});

test('bundlers.md: headers for Vite, the import map, the address on a CDN', async () => {
  const { default: config } = await import(`data:text/javascript,${
    encodeURIComponent(blockUnder('Vite', 'js'))}`);
  const cases = readFileSync(join(root, 'tests/package/projects.mjs'), 'utf8');
  for (const [name, value] of Object.entries(config.server.headers)) {
    assert.ok(cases.includes(`'${name}': '${value}'`), name);
  }
  const html = blockUnder('No bundler', 'html');
  const { imports } = JSON.parse(/importmap">([^]*?)<\/script>/.exec(html)[1]);
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  assert.equal(imports.onekv, `./node_modules/onekv/${exports['.'].default.default.slice(2)}`);
  const [, path] = /npm\/onekv\/(.*)';/.exec(blockUnder('From a CDN', 'js'));
  assert.equal(`./${path}`, exports['.'].default.default);
  const [files] = blocksOf('web/docs/bundlers.md', '');
  for (const [, name] of files.matchAll(/^(dist\/\S+)/gm)) {
    assert.ok(existsSync(join(root, name.replace('*', 'simd128'))), name);
  }
});

test('threads-and-headers.md: what an engine of your own imports', async () => {
  const engine = await import('../../dist/src/engine-entry.js');
  const block = blocksOf('web/docs/threads-and-headers.md', 'js').at(-1);
  const names = [...block.matchAll(/import \{ (\w+) \} from 'onekv\/engine'/g)].map(([, n]) => n);
  assert.deepEqual(names, ['serveThreads', 'threadsFromPage']);
  for (const name of names) assert.equal(typeof engine[name], 'function', name);
});

test('memory.md: the interface of a store is the package’s', limit, async () => {
  const [block] = blocksOf('web/docs/memory.md', 'ts');
  const text = `import type { ModelStore as Own } from '${root}dist/src/onekv.js';\n${block}
export const there = {} as ModelStore satisfies Own;
export const back = {} as Own satisfies ModelStore;
export const same: keyof ModelStore = '' as Exclude<keyof Own, 'pathOf'>;\n`;
  writeFileSync(join(folder, 'store.ts'), text);
  const { status, output } = await run(process.execPath, [
    join(root, 'node_modules/typescript/bin/tsc'), '--ignoreConfig', '--noEmit', '--strict',
    '--skipLibCheck', '--target', 'es2022', '--lib', 'es2023,dom', '--module', 'nodenext',
    '--typeRoots', join(root, 'node_modules/@types'), '--types', 'node', join(folder, 'store.ts')]);
  assert.equal(status, 0, output);
});

test('web/README.md and models/PACKAGE.md: their programs run in Node', limit, async () => {
  const page = 'globalThis.document = { body: { append: () => {} } };\n';
  for (const [i, code] of [...blocksOf('web/README.md', 'js'),
    ...blocksOf('models/PACKAGE.md', 'js')].entries()) {
    writeFileSync(join(folder, `${i}.mjs`), `${page}${code}process.exit(0);\n`);
    await sh(`"${process.execPath}" ${i}.mjs`);
  }
});

/** Which test runs the blocks of a language, by page; docs.test.mjs checks that it has all of
 * JavaScript. */
const runners = { 'bundlers.md': 'js sh json html ', 'converting.md': 'sh', 'doors.md': 'js jsx sh',
  'memory.md': 'js ts' };

test('no other block is in web/docs', () => {
  for (const name of readdirSync(join(root, 'web/docs')).filter((file) => file.endsWith('.md'))) {
    const fences = [...readFileSync(join(root, 'web/docs', name), 'utf8').matchAll(/^```(.*)$/gm)];
    const found = new Set(fences.filter((_, i) => i % 2 === 0).map(([, language]) => language));
    const known = (runners[name] ?? 'js').split(' ');
    assert.deepEqual([...found].filter((language) => !known.includes(language)), [], name);
  }
});
