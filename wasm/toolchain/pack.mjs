// The packages as they are published: each a folder in build/npm/, which `npm publish` takes.
//
//   onekv          the library, the program, its pages and examples, and one story model
//   onekv-models   the other models of models/, from models/package.json
//
// A page's link to a file that is not in its package would lead nowhere. Where
// ONEKV_REPOSITORY (https://…) says at which address the repository can be read, such a link
// leads there, and package.json says so too; else the file's path stands behind its words.
// ONEKV_ADDRESS (https://…) is the page, as for the demo's build.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { Stop, must, root, say } from './shell.mjs';

/** What npm would take from a folder, by its own rules. */
async function filesOf(folder) {
  const { output } = await must('npm pack', 'npm',
    ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: folder });
  const [{ files }] = JSON.parse(output.slice(output.indexOf('[')));
  return files.map(({ path }) => path);
}

const pathsNote = 'Paths that are no links name files in the repository of OneKV, which this ' +
  'package does not hold.';

/** The words of a link that nothing can follow, and the path of what they speak of. */
function wordsOf(words, path, before) {
  if (words === path) return `\`${path}\``;
  return before === '(' ? `${words}, \`${path}\`` : `${words} (\`${path}\`)`;
}

/** The page with the links that its package can follow, and the repository's address where one
 * would clone it. `folder` is where the package's root is
 * in the repository, `repository` its address or undefined. */
export function withLinks(text, path, files, folder = '', repository = undefined) {
  const isThere = (target) => files.some((file) => file === target ||
    file.startsWith(`${target}/`));
  const known = repository === undefined ? text : text.replaceAll('git clone …',
    `git clone ${repository}`);
  let isNoted = false;
  const page = known.replace(/(!?)\[([^\]]*)\]\(([^)\s#:]+)((?:#[^)]*)?)\)/g,
    (link, picture, words, target, part, at) => {
      const found = posix.normalize(posix.join(posix.dirname(path), target)).replace(/\/$/, '');
      if (isThere(found)) return link;
      const whole = posix.normalize(posix.join(folder, found));
      if (repository === undefined) {
        isNoted ||= picture === '';
        return picture ? words : wordsOf(words, whole, known[at - 1]);
      }
      const kind = picture ? 'raw' : 'blob';
      return `${picture}[${words}](${repository}/${kind}/main/${whole}${part})`;
    });
  return isNoted ? `${page.trimEnd()}\n\n${pathsNote}\n` : page;
}

/** What package.json says in a registry: nothing that only a checkout can do. */
function published(own, { repository, address }) {
  const { scripts: _, devDependencies: __, ...rest } = own;
  return {
    ...rest,
    ...(address && { homepage: address }),
    ...(repository && { repository: { type: 'git', url: `git+${repository}.git` },
      bugs: `${repository}/issues`, ...(!address && { homepage: `${repository}#readme` }) }),
  };
}

function addressOf(name) {
  const text = process.env[name];
  if (text === undefined || text === '') return undefined;
  if (!/^https:\/\/[^\s/]+/.test(text)) {
    throw new Stop(`${name}: expected https://…, found ${text}`);
  }
  return text.replace(/\/+$|\.git$/, '');
}

/** Copies what npm would take of a folder, the texts with links that hold. A file PACKAGE.md is the
 * package's README. */
async function stage(name, folder, also = []) {
  const from = join(root, folder);
  const to = join(root, 'build/npm', name);
  const addresses = { repository: addressOf('ONEKV_REPOSITORY'),
    address: addressOf('ONEKV_ADDRESS') };
  const found = await filesOf(from);
  const files = found.filter((path) => path !== 'PACKAGE.md');
  const sourceOf = (path) => (path === 'README.md' && found.includes('PACKAGE.md')
    ? 'PACKAGE.md' : path);
  rmSync(to, { recursive: true, force: true });
  const write = (path, text) => {
    mkdirSync(dirname(join(to, path)), { recursive: true });
    writeFileSync(join(to, path), text);
  };
  for (const path of files) {
    if (path === 'package.json') {
      const own = JSON.parse(readFileSync(join(from, path), 'utf8'));
      write(path, `${JSON.stringify(published(own, addresses), null, 2)}\n`);
    } else if (path.endsWith('.md')) {
      write(path, withLinks(readFileSync(join(from, sourceOf(path)), 'utf8'), path, files, folder,
        addresses.repository));
    } else {
      mkdirSync(dirname(join(to, path)), { recursive: true });
      copyFileSync(join(from, path), join(to, path));
    }
  }
  for (const path of also) copyFileSync(join(root, path), join(to, path));
  return to;
}

/** Stages both; gives { name: folder }. */
export async function stagePackages() {
  const folders = { 'onekv': await stage('onekv', ''),
    'onekv-models': await stage('onekv-models', 'models', ['LICENSE']) };
  if (addressOf('ONEKV_REPOSITORY') === undefined) {
    say('build: note: the packages name no repository, homepage or page for bugs; to have them ' +
      'named, set ONEKV_REPOSITORY=https://…');
  }
  return folders;
}
