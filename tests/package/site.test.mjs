// npm run build:site: the page and the documentation in one folder, whose links and parts are all
// there, and nothing of which is asked of another host.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { before, test } from 'node:test';
import { site } from '../../web/demo/build.mjs';
import { root, run } from '../../wasm/toolchain/shell.mjs';

const limit = { timeout: 600_000 };
let built;
before(async () => {
  built = await run(process.execPath, ['web/demo/site.mjs']);
}, limit);

const pages = () => readdirSync(site, { recursive: true })
  .filter((name) => name.endsWith('.html'));

/** { page, target, file } of every href and src in the page that is not an address elsewhere. */
function linksOf(page) {
  const text = readFileSync(join(site, page), 'utf8').replace(/<pre[^]*?<\/pre>/g, '');
  return [...text.matchAll(/\s(?:href|src)="([^"#][^"]*)"/g)]
    .map(([, target]) => target.replaceAll('&amp;', '&'))
    .filter((target) => !/^(https?|data|mailto):/.test(target)).map((target) => {
      const path = decodeURI(target.replace(/[?#].*$/, ''));
      const file = normalize(join(dirname(page), path));
      return { page, target, file: path.endsWith('/') || path === '.' || file === '.'
        ? join(file, 'index.html') : file };
    });
}

test('it is built without a warning, with the page and the documentation', limit, () => {
  assert.equal(built.status, 0, built.output);
  assert.doesNotMatch(built.output, /warning/i);
  // README.md is the first page.
  const docs = readdirSync(join(root, 'web/docs')).filter((name) => /^[a-z].*\.md$/.test(name));
  const names = pages().map((name) => name.toLowerCase());
  assert.ok(names.includes('index.html') && names.includes('docs/index.html'));
  const text = readFileSync(join(site, 'docs/index.html'), 'utf8');
  assert.match(text, /<title>OneKV<\/title>/);
  const documents = names.filter((name) => name.startsWith('docs/documents/'));
  assert.ok(documents.length >= docs.length, `${documents}`);
  assert.match(readFileSync(join(site, 'index.html'), 'utf8'), /<a href="(\.\/)?docs\/">/);
  // Back again from every page; and what a newcomer reads first is how to use it.
  for (const page of pages().filter((name) => name.startsWith('docs'))) {
    assert.match(readFileSync(join(site, page), 'utf8'), />Demo page<\/a>/, page);
  }
  assert.match(text, /npm install onekv/);
  assert.ok(documents.some((name) => /what_runs/.test(name)), `${documents}`);
});

test('links resolve, wherever the folder is served', limit, () => {
  const links = pages().flatMap(linksOf);
  assert.ok(links.length > 1000, `${links.length}`);
  assert.deepEqual(links.filter(({ target }) => target.startsWith('/')), []);
  const isFile = (file) => existsSync(join(site, file)) && statSync(join(site, file)).isFile();
  const lost = links.filter(({ file }) => file.startsWith('..') || !isFile(file));
  assert.deepEqual(lost.map(({ page, target }) => `${page}: ${target}`), []);
});

test('no page loads anything from another host', limit, () => {
  for (const page of pages()) {
    const text = readFileSync(join(site, page), 'utf8');
    assert.doesNotMatch(text, /<(script|img|link)[^>]*(src|href)="https?:/, page);
  }
  assert.ok(relative(root, site).startsWith('build'));
});
