// What cannot be shipped as the compiler or a package gives it, bundled with esbuild:
//
//   dist/src/facades/xgrammar.js   @mlc-ai/web-xgrammar as a module: as published it is a script
//                          that says it is a module, which neither Node nor a page can import
//   dist/src/worker.js     the worker with all that it imports: bare imports resolve in no worker
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Stop, root } from './shell.mjs';

const published = join(root, 'node_modules/@mlc-ai/web-xgrammar/lib/index.js');

/**
 * The script between the names of CommonJS that it looks for, and exports after it. What it would
 * print before it fails is kept for the error's message instead.
 */
function asModule(script) {
  // Bundlers would look for a package of that name; Node has this since 20.16.
  const loose = script.replaceAll("await import('module')", "process.getBuiltinModule('module')");
  if (loose === script) throw new Stop(`${published}: not as expected`);
  return `const module = { exports: {} };
const { exports } = module;
const __filename = '';
let said = '';
const console = { ...globalThis.console, error: (text) => { said += text + '\\n'; } };
const require = () => ({ pathToFileURL: () => ({ href: import.meta.url }) });
${loose}
/** What was printed since the last call. */
export function takeSaid() {
  const text = said;
  said = '';
  return text;
}
export const { GrammarCompiler, GrammarMatcher, TokenizerInfo } = exports;
`;
}

const isNewer = (file, than) => (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) >
  (statSync(than, { throwIfNoEntry: false })?.mtimeMs ?? 0);

export async function bundleXgrammar() {
  const outfile = join(root, 'dist/src/facades/xgrammar.js');
  if (isNewer(outfile, published) && isNewer(outfile, import.meta.filename ?? published)) return;
  const { build } = await import('esbuild');
  const { version } = JSON.parse(readFileSync(join(published, '../../package.json'), 'utf8'));
  await build({
    stdin: { contents: asModule(readFileSync(published, 'utf8')), resolveDir: root, loader: 'js' },
    outfile,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    banner: { js: `/* @mlc-ai/web-xgrammar ${version} of the XGrammar contributors, Apache-2.0: ` +
      'https://www.apache.org/licenses/LICENSE-2.0 */' },
    logLevel: 'warning',
  });
}

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
