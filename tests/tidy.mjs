// Keeps the house rules: reads every file of the repository and names what breaks one.
//
//   node tests/tidy.mjs [FILE…]      findings as file:line: message, then one line of sums
//
// A rule passes when no file breaks it. Rules about one file are in tidy-rules.mjs, those about
// how files stand together are here. Files that git ignores are not read.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isC, isCore, rules } from './tidy-rules.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The levels of core, one per folder; a file includes headers of its own level or below. */
const levels = ['base', 'kernels', 'net', 'api'];

/** What lies on top of core is the public API; these files include nothing of core but this. */
const publicIncludes = {
  'core/onekv_types.h': [],
  'core/onekv.h': ['core/onekv_types.h'],
  'core/example.c': ['core/onekv.h'],
};

/** Level of a core file: its folder's. onekv.h is above them all, the types that all of them
 * share are below. */
export function levelOf(path) {
  if (path === 'core/onekv_types.h') return 0;
  const [, folder] = /^core\/(?:([a-z]+)\/)?[^/]+\.[ch]$/.exec(path) ?? [];
  if (folder === undefined) return path.startsWith('core/') ? levels.length - 1 : undefined;
  const level = levels.indexOf(folder);
  return level < 0 ? undefined : level;
}

function checkIncludes(file) {
  const own = levelOf(file.path);
  if (own === undefined) {
    return [[1, `is in no level of core: ${levels.map((name) => `core/${name}`).join(', ')}`]];
  }
  return file.lines.flatMap((line, index) => {
    const header = /^\s*#\s*include\s*"([^"]+)"/.exec(line)?.[1];
    if (!header) return [];
    const narrow = publicIncludes[file.path];
    if (narrow && !narrow.includes(header)) {
      return [[index + 1, `${header} is behind the public API`]];
    }
    const level = levelOf(header);
    if (level === undefined) return [[index + 1, `${header} is not a header of core`]];
    return level <= own ? []
      : [[index + 1, `${header} is of level ${levels[level]}, above this file's ${levels[own]}`]];
  });
}

const levelRule = {
  name: 'levels of core',
  check: (files) => files.filter(isCore).flatMap((file) =>
    checkIncludes(file).map((found) => [file, ...found])),
};

/** What CMakeLists.txt compiles by pattern. */
const built =
  /^(core\/([a-z]+\/)?[^/]+|(wasm|tests\/native)\/[^/]+|tests\/fuzz\/fuzz_[^/]+)\.c$/;

const unusedRule = {
  name: 'nothing unused',
  check: (files) => files.filter(isC).flatMap((file) => {
    const name = posix.basename(file.path);
    if (file.path.endsWith('.c')) {
      const named = built.test(file.path) || files.some((other) => other !== file &&
        !other.path.endsWith('.md') && other.text.includes(name));
      return named ? [] : [[file, 1, 'nobody builds this file']];
    }
    const include = new RegExp(`#\\s*include\\s*["<](?:[^">]*/)?${name.replace('.', '\\.')}[">]`);
    return files.some((other) => isC(other) && include.test(other.text)) ? []
      : [[file, 1, 'nobody includes this header']];
  }),
};

/** Links from page to page inside the repository; addresses elsewhere are not asked. */
function brokenLinks(file, paths) {
  return file.lines.flatMap((line, index) =>
    [...line.matchAll(/\]\(([^)\s#:]+)(?:#[^)]*)?\)/g)].flatMap(([, target]) => {
      const path = posix.normalize(posix.join(dirname(file.path), target)).replace(/\/$/, '');
      const there = paths.has(path) || [...paths].some((other) => other.startsWith(`${path}/`));
      return there ? [] : [[file, index + 1, `there is no ${path}`]];
    }));
}

const linkRule = {
  name: 'links',
  check: (files, paths) => files.filter(({ path }) => path.endsWith('.md'))
    .flatMap((file) => brokenLinks(file, paths)),
};

/** Every rule in one form: check(files, paths) gives [file, line, message]. */
const allRules = [
  ...rules.map(({ name, applies, check }) => ({
    name,
    check: (files) => files.filter(applies).flatMap((file) =>
      check(file).map((found) => [file, ...found])),
  })),
  levelRule, unusedRule, linkRule,
];

/** Makes the form that the rules read. Line ends are part of neither. */
export function fileFrom(path, text) {
  return { path, text, lines: (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n') };
}

/** All findings as { rule, path, line, message }; paths are those that links may lead to. */
export function findings(files, paths = new Set(files.map(({ path }) => path))) {
  return allRules.flatMap(({ name, check }) => check(files, paths)
    .map(([file, line, message]) => ({ rule: name, path: file.path, line, message })));
}

/** Files that git knows or would take; those deleted in the work tree are gone. */
function repositoryFiles() {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others',
    '--exclude-standard'], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
  return [...new Set(listed.split('\0'))].filter((path) => path !== '' &&
    statSync(join(root, path), { throwIfNoEntry: false })?.isFile());
}

function readFile(path) {
  const bytes = readFileSync(join(root, path));
  // Bytes of data files are read as they are: only the rule about places looks at them.
  const binary = bytes.subarray(0, 8192).includes(0);
  return fileFrom(path, bytes.toString(binary ? 'latin1' : 'utf8'));
}

function main(only) {
  const paths = repositoryFiles();
  const files = paths.map(readFile);
  const found = findings(files, new Set(paths)).filter(({ path }) =>
    only.length === 0 || only.includes(path));
  for (const { path, line, message } of found) console.log(`${path}:${line}: ${message}`);
  const failed = new Set(found.map(({ rule }) => rule)).size;
  console.log(`${allRules.length - failed} passed, ${failed} failed`);
  process.exitCode = failed > 0 ? 1 : 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main(process.argv.slice(2));
}
