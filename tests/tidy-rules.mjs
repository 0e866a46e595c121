// The rules of tests/tidy.mjs that look at one file. Each is { name, applies, check }:
//
//   applies(file)  whether the rule is about this file
//   check(file)    gives a list of [line, message], lines counted from 1
//
// A file is { path, text, lines }. The words that a rule forbids are put together from parts
// here, so that this file keeps its own rules.
import { functionsOf } from './tidy-functions.mjs';

const ending = (path) => /\.([a-z]+)$/.exec(path)?.[1] ?? '';
const comments = {
  c: /^\/[*/]/, h: /^\/[*/]/, ts: /^\/[*/]/, mjs: /^\/[*/]/, js: /^\/[*/]/, css: /^\/\*/,
  py: /^(#|"""|r""")/, sh: /^#/, cmake: /^#/, html: /^<!--/,
};

/** What a person writes and reads: programs and pages. A script may go without an ending. */
export function isSource({ path, text }) {
  return ending(path) in comments || path.endsWith('CMakeLists.txt') || text.startsWith('#!');
}

const isMarkdown = ({ path }) => path.endsWith('.md');
const isC = ({ path }) => /\.[ch]$/.test(path);
const isCore = ({ path }) => /^core\/([a-z]+\/)?[^/]+\.[ch]$/.test(path);
/** Made by a program, or data: length and layout are not ours to choose. */
const isData = ({ path }) =>
  ['package-lock.json', 'models/validation.txt'].includes(path) ||
  /^tests\/(golden|fuzz\/corpus)\/(?!.*\.(md|py|mjs)$)/.test(path);
const isWritten = (file) => !isData(file) && (isSource(file) || isMarkdown(file) ||
  /\.(json|txt|yml|yaml|toml)$|(^|\/)\.[a-z-]+$|^LICENSE$/.test(file.path));

/** Numbers of the lines that match, with the same message each. */
function each(lines, pattern, message) {
  return lines.flatMap((line, index) => (pattern.test(line) ? [[index + 1, message]] : []));
}

/** C without comments, strings and characters; the lines stay where they are. */
export function bareC(text) {
  const blank = (part) => part.replace(/[^\n]/g, ' ');
  return text.replace(/\/\*[^]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'/g,
    (part) => (part.startsWith('"') ? `"${blank(part.slice(1, -1))}"` : blank(part)));
}

const layout = {
  name: 'blanks',
  applies: isWritten,
  check: ({ text, lines }) => [
    ...each(lines, /[ \t]$/, 'blank at the end of the line'),
    ...each(lines, /\t/, 'tab'),
    ...each(lines, /[\x00-\x08\x0b-\x1f\x7f]/, 'control character'),
    ...(text !== '' && !text.endsWith('\n') ? [[lines.length, 'no newline at the end']] : []),
    ...(text.endsWith('\n\n') ? [[lines.length, 'empty line at the end']] : []),
  ],
};

const columns = {
  name: 'columns',
  applies: (file) => isWritten(file) && !file.path.endsWith('.json'),
  check: (file) => file.lines.flatMap((line, index) => {
    const length = [...line].length;
    // A table row and an address cannot be broken.
    if (length <= 100 || (isMarkdown(file) && /^\s*\||https?:\/\/\S{40}/.test(line))) return [];
    return [[index + 1, `${length} columns; 100 is the limit`]];
  }),
};

const fileLength = {
  name: 'file length',
  applies: (file) => !isData(file) && (isSource(file) || file.path === 'README.md'),
  check: ({ path, lines }) => {
    const limit = path === 'README.md' ? 200 : 400;
    const { length } = lines;
    return length > limit ? [[length, `${length} lines; ${limit} is the limit`]] : [];
  },
};

const functionLength = {
  name: 'function length',
  applies: (file) => /\.(c|h|ts|mjs|js|py)$/.test(file.path),
  check: (file) => {
    // The tile loops of the SIMD kernels are unrolled by hand.
    const limit = /^core\/kernels\/floats_simd[a-z0-9_]*\.h$/.test(file.path) ? 100 : 70;
    return functionsOf(file).filter(({ length }) => length > limit)
      .map(({ line, name, length }) => [line, `${name}: ${length} lines; ${limit} is the limit`]);
  },
};

const opening = {
  name: 'opening comment',
  applies: (file) => isSource(file) && file.text.trim() !== '',
  check: ({ path, lines }) => {
    const pattern = comments[ending(path)] ?? comments.sh;
    const first = lines.findIndex((line) => line.trim() !== '' && !/^(#!|<!doctype )/i.test(line));
    return first >= 0 && pattern.test(lines[first]) ? []
      : [[1, 'does not open with a comment that says its job']];
  },
};

const leftoverWords = [['TO', 'DO'], ['FIX', 'ME'], ['X', 'XX'], ['HA', 'CK']]
  .map((parts) => parts.join(''));
const leftoverPattern = new RegExp(`\\b(${leftoverWords.join('|')})\\b|\\b[Ff]or ${'now'}\\b`);

const leftovers = {
  name: 'leftovers',
  applies: isWritten,
  check: ({ path, lines }) => [
    ...each(lines, leftoverPattern, 'leftover: finish it or file an issue'),
    ...(/\.(ts|mjs|js|html)$/.test(path)
      ? each(lines, /^\s*debugger\b/, 'leftover: debugger') : []),
    ...(/^web\/src\//.test(path)
      ? each(lines, new RegExp(`\\bconsole\\.${'log'}\\(`), 'the library prints nothing') : []),
  ],
};

const hostHeaders = new RegExp('^\\s*#\\s*include\\s*<(emscripten[^>]*|sys/[^>]*|' +
  '(unistd|fcntl|signal|time|stdio|dirent|dlfcn)\\.h)>');
const hostCalls = new RegExp('\\b(v?f?printf|puts|fputs|putchar|fopen|fread|fwrite|getenv|system|' +
  'exit|_Exit|abort|time|clock|clock_gettime)\\s*\\(');
// In the first column: a type, a name, perhaps lengths, and a value or nothing.
const globalVariable = new RegExp('^(?!.*\\b(?:const|typedef)\\b)(?!(?:struct|union|enum) \\w+;)' +
  '[A-Za-z_][\\w ]*[ *]\\w+(?:\\[[^\\]]*\\])*\\s*(?:=.*|;)$');

const core = {
  name: 'core without a host',
  // The example is a program beside core, not a part of it: it reads a file and prints.
  applies: (file) => isCore(file) && file.path !== 'core/example.c',
  check: ({ path, text }) => {
    const lines = bareC(text).split('\n');
    // Messages of errors are put together there, with vsnprintf, which only fills a buffer.
    const allowed = path === 'core/base/status.c' ? /<stdio\.h>/ : /^$/;
    return [
      ...lines.flatMap((line, index) => (hostHeaders.test(line) && !allowed.test(line)
        ? [[index + 1, 'core includes no host header']] : [])),
      ...each(lines, hostCalls, 'core prints nothing, ends nothing and asks no host'),
      ...each(lines, globalVariable, 'core has no global state; make it const'),
    ];
  },
};

const registries = [
  ['registry', 'npmjs', 'org'], ['npmjs', 'com'], ['yarnpkg', 'com'], ['deb', 'debian', 'org'],
  ['pypi', 'org'], ['python' + 'hosted', 'org'], ['crates', 'io'], ['proxy', 'golang', 'org'],
  ['repo', 'maven', 'apache', 'org'], ['nodesource', 'com'],
].map((parts) => parts.join('\\.'));
const registryPattern = new RegExp(`\\b(${registries.join('|')})\\b`);
const machinePattern = new RegExp(`(?<![\\w.~}$-])/(${['work', 'root', 'farm'].join('|')})/|` +
  '(?<![\\w.~}$-])/home/(?!user\\b)[a-z]');

const places = {
  name: 'places',
  applies: () => true,
  check: ({ lines }) => [
    ...each(lines, registryPattern, 'names a package registry'),
    ...each(lines, machinePattern, 'names a path of one machine'),
  ],
};

/** Headings of the first level, outside of code. */
function titles(lines) {
  let fenced = false;
  return lines.flatMap((line, index) => {
    if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
    return !fenced && /^# \S|<h1[ >]/.test(line) ? [index + 1] : [];
  });
}

const markdown = {
  name: 'one title',
  applies: isMarkdown,
  check: ({ lines }) => {
    const found = titles(lines);
    if (found.length === 0) return [[1, 'no title (# …)']];
    return found.slice(1).map((line) => [line, 'a second title; one per page']);
  },
};

/** Calls that take any number of arguments, with an array for them. */
const spread =
  /\b(?:push|unshift|splice|concat|max|min|fromCharCode|fromCodePoint|of)\([^{\n]*?\.\.\./g;

const spreads = {
  name: 'spread into a call',
  applies: ({ path }) => /^web\/src\/(?!bench\/).*\.ts$/.test(path),
  // The arguments of a call lie on the stack, which some 65,000 of them fill: a text's tokens do.
  check: ({ text }) => [...bareC(text).matchAll(spread)].map(({ 0: found, index }) =>
    [text.slice(0, index + found.length).split('\n').length,
      'an array as the arguments of a call can overflow the stack; loop over it']),
};

/** The rules, in the order they are reported. */
export const rules = [
  layout, columns, fileLength, functionLength, opening, leftovers, core, places, markdown, spreads,
];

export { isC, isCore };
