// Fresh projects that install the tarball, and what their bundlers make of them.
//
// All are in build/package/. The tarball is installed once, by npm, and the projects are copies:
// what npm writes is the same each time.
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { stagePackages } from '../../wasm/toolchain/pack.mjs';
import { must, root } from '../../wasm/toolchain/shell.mjs';

const folder = join(root, 'build/package');
const toolFolder = join(root, 'tests/package/tools');
const require = createRequire(join(toolFolder, 'package.json'));

/** A tool of tests/package/tools, as a module. */
export async function tool(name) {
  return import(pathToFileURL(require.resolve(name)).href);
}

/** The path of a tool's program. */
export const toolProgram = (name) => join(toolFolder, 'node_modules/.bin', name);

/** Packs what is published and installs onekv alone, as most will; gives its tarball, files, bytes
 * and the project it is in, and the first three of onekv-models as `others`. */
export async function packAndInstall() {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'fresh'), { recursive: true });
  const packages = {};
  for (const [name, staged] of Object.entries(await stagePackages())) {
    const { output } = await must('npm pack', 'npm',
      ['pack', '--json', '--pack-destination', folder], { cwd: staged });
    const [{ filename, files, size }] = JSON.parse(output.slice(output.indexOf('[')));
    packages[name] = { tarball: join(folder, filename), bytes: size,
      files: files.map(({ path }) => path) };
  }
  const project = join(folder, 'fresh');
  writeFileSync(join(project, 'package.json'),
    JSON.stringify({ name: 'fresh', private: true, type: 'module' }));
  await must('npm install', 'npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund',
    '--prefer-offline', packages.onekv.tarball], { cwd: project });
  cpSync(join(root, 'tests/package/project'), project, { recursive: true });
  return { ...packages.onekv, others: packages['onekv-models'], project };
}

/** A copy of the fresh project. */
function copy(project, name) {
  const target = join(folder, name);
  cpSync(project, target, { recursive: true, verbatimSymlinks: true });
  return target;
}

/** No bundler: an import map names the files of node_modules. */
function plain(project) {
  const target = copy(project, 'plain');
  const read = (file) => JSON.parse(readFileSync(join(target, file), 'utf8'));
  const { exports } = read('node_modules/onekv/package.json');
  const imports = Object.fromEntries(Object.entries(exports)
    .filter(([path]) => path !== './package.json').map(([path, conditions]) => {
      const file = (conditions.default.default ?? conditions.default).replace(/^\./, '');
      return [`onekv${path.slice(1)}`, `./node_modules/onekv${file}`];
    }));
  const page = join(target, 'index.html');
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  writeFileSync(page, readFileSync(page, 'utf8').replace('<!-- import map -->', map));
  return target;
}

/** Vite as it comes. */
async function vite(project) {
  const target = copy(project, 'vite');
  const { build } = await tool('vite');
  await build({ root: target, logLevel: 'error', configFile: false });
  return join(target, 'dist');
}

/** Vite's development server, with the headers that threads need; gives { origin, close }. */
export async function serveWithVite(project, models) {
  const target = copy(project, 'vite-dev');
  cpSync(models, join(target, 'public/models'), { recursive: true });
  const { createServer } = await tool('vite');
  const server = await createServer({ root: target, logLevel: 'error', configFile: false,
    server: { host: '127.0.0.1', port: 0, headers: {
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
    } } });
  await server.listen();
  const { port } = server.httpServer.address();
  return { origin: `http://127.0.0.1:${port}`, close: () => server.close() };
}

/** webpack as it comes, but for Terser, which takes ten seconds over the grammar library. */
async function webpack(project) {
  const target = copy(project, 'webpack');
  const { default: run } = await tool('webpack');
  const output = join(target, 'dist');
  const stats = await new Promise((resolve, reject) => {
    run({ context: target, mode: 'production', entry: './page.js', output: { path: output },
      optimization: { minimize: false }, experiments: { topLevelAwait: true } },
    (error, result) => (error ? reject(error) : resolve(result)));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  const said = [...errors, ...warnings]
    .map(({ moduleName, message }) => `${moduleName}: ${message}`)
    .filter((message) => !/size limit|performance/.test(message));
  if (said.length > 0) throw new Error(`webpack: ${said.join('\n')}`);
  const page = readFileSync(join(target, 'index.html'), 'utf8');
  writeFileSync(join(output, 'index.html'), page.replace('./page.js', './main.js'));
  return output;
}

/** esbuild carries no workers along: two folders are copied, as web/docs/bundlers.md says. */
async function esbuild(project) {
  const target = copy(project, 'esbuild');
  const { build } = await import('esbuild');
  const output = join(target, 'dist');
  await build({ absWorkingDir: target, entryPoints: ['page.js'], bundle: true, format: 'esm',
    splitting: true, outdir: join(output, 'js'), logLevel: 'warning' });
  const installed = join(target, 'node_modules/onekv/dist');
  cpSync(join(installed, 'src/worker.js'), join(output, 'js/worker.js'));
  cpSync(join(installed, 'wasm'), join(output, 'wasm'), { recursive: true });
  const page = readFileSync(join(target, 'index.html'), 'utf8');
  writeFileSync(join(output, 'index.html'), page.replace('./page.js', './js/page.js'));
  return output;
}

/** Each gives the folder that a server would serve. */
export const projects = { plain, vite, webpack, esbuild };

/** Names of the files in a folder, whatever their depth. */
export function filesIn(where) {
  return readdirSync(where, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
