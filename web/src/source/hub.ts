// Names of models on a hub, and which of its files they mean.
//
//   hf:org/repo[:QUANT][/file.gguf][@revision]
//
// Without a file or a quantisation Q4_K_M is taken, then Q8_0, then the only one that there is, as
// others do who take such names.
import { OneKVError, invalidArgument } from '../api/errors.js';
import { partNames } from './split.js';

export interface HubName {
  /** "org/repo". */
  repo: string;
  quant: string | undefined;
  file: string | undefined;
  revision: string;
}

/** A file of a repository, as its tree tells. */
export interface HubFile {
  path: string;
  /** 64 hexadecimal digits; undefined of small files, which are kept otherwise. */
  sha256: string | undefined;
}

export const isHubName = (text: string): boolean => /^hf:/i.test(text);

const pattern = new RegExp('^hf:(?://)?(?<repo>[\\w-][\\w.-]*/[\\w-][\\w.-]*)' +
  '(?::(?<quant>[\\w.-]+))?(?:/(?<file>[^@?#]+\\.gguf))?(?:@(?<revision>[\\w./-]+))?$', 'i');

/** Error: INVALID_ARGUMENT. */
export function parseHubName(text: string): HubName {
  const { repo, quant, file, revision = 'main' } = pattern.exec(text)?.groups ?? {};
  const isWrong = [...(file ?? '').split('/'), ...revision.split('/')].includes('..');
  if (repo === undefined || isWrong) {
    throw invalidArgument('source', text,
      'hf:org/repo, and after that :QUANT, /file.gguf, @revision, or nothing');
  }
  return { repo, quant, file, revision };
}

/** The name of a file in full. */
export const nameOfFile = ({ repo, revision }: HubName, path: string): string =>
  `hf:${repo}/${path}${revision === 'main' ? '' : `@${revision}`}`;

const escaped = (path: string) => path.split('/').map(encodeURIComponent).join('/');

/** Where the hub lists a repository's files, as JSON. */
export const treeUrl = ({ repo, revision }: HubName, hub: URL): URL =>
  new URL(`api/models/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`, hub);

/** Where a file is. */
export const fileUrl = ({ repo, revision }: HubName, path: string, hub: URL): URL =>
  new URL(`${repo}/resolve/${encodeURIComponent(revision)}/${escaped(path)}`, hub);

/** The hub's address, which ends in a slash. Error: INVALID_ARGUMENT. */
export function hubAddress(hub: string | URL | undefined): URL {
  try {
    const url = new URL(hub ?? 'https://huggingface.co');
    if (!/^https?:$/.test(url.protocol)) throw new TypeError('no hub is there');
    if (!url.pathname.endsWith('/')) url.pathname += '/';
    return url;
  } catch {
    throw invalidArgument('hub', hub, 'the address of a hub');
  }
}

/** A path within a repository, as no list should give another one: in an address `..` leads out of
 * it. */
const isWithin = (path: string): boolean => !/[\x00-\x1f\x7f]/.test(path) &&
  path.split('/').every((name) => !['', '.', '..'].includes(name));

/** The files that an answer of the tree names. Error: SOURCE_FAILED. */
export function readTree(json: unknown): HubFile[] {
  if (!Array.isArray(json)) {
    throw new OneKVError('SOURCE_FAILED', "the hub's list of files is not a list");
  }
  return json.flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return [];
    const { type, path, lfs } = entry as Record<string, unknown>;
    if (type !== 'file' || typeof path !== 'string' || !isWithin(path)) return [];
    const oid = typeof lfs === 'object' && lfs !== null ? (lfs as { oid?: unknown }).oid : '';
    const sha256 = typeof oid === 'string' && /^[0-9a-f]{64}$/.test(oid) ? oid : undefined;
    return [{ path, sha256 }];
  });
}

/** Files that models are in: of several parts, the first one. */
const isModel = ({ path }: HubFile) => /\.gguf$/i.test(path) && !/mmproj|imatrix/i.test(path) &&
  (partNames(path)?.indexOf(path) ?? 0) === 0;

function isQuant({ path }: HubFile, quant: string): boolean {
  const literal = quant.replaceAll('.', '\\.');
  return new RegExp(`(^|[-._/])${literal}([-._/]|$)`, 'i').test(path.replace(/\.gguf$/i, ''));
}

const listed = (files: readonly HubFile[]) =>
  (files.length === 0 ? 'none' : files.map(({ path }) => path).slice(0, 40).join(', '));

/** The file that a name means. Error: SOURCE_FAILED, which says what there is. */
function chosen(name: HubName, files: readonly HubFile[]): HubFile {
  const { file, quant } = name;
  const models = files.filter(isModel);
  const fail = (what: string) => new OneKVError('SOURCE_FAILED',
    `${what}; of GGUF files there are: ${listed(models)}`);
  if (file !== undefined) {
    const found = files.find(({ path }) => path === file);
    if (found === undefined) throw fail(`there is no file ${file}`);
    return found;
  }
  for (const wanted of quant === undefined ? ['Q4_K_M', 'Q8_0'] : [quant]) {
    const fitting = models.filter((model) => isQuant(model, wanted));
    if (fitting.length > 1 && quant !== undefined) throw fail(`${quant} is in several files`);
    if (fitting[0] !== undefined) return fitting[0];
  }
  if (quant !== undefined) throw fail(`there is no file of ${quant}`);
  if (models.length !== 1) throw fail('say which file, or which quantisation');
  return models[0] as HubFile;
}

/** All files that a name means, in order. Error: SOURCE_FAILED, which says what there is. */
export function chooseFiles(name: HubName, files: readonly HubFile[]): HubFile[] {
  const file = chosen(name, files);
  return (partNames(file.path) ?? [file.path]).map((path) => {
    const part = files.find((other) => other.path === path);
    if (part !== undefined) return part;
    throw new OneKVError('SOURCE_FAILED', `of its parts, ${path} is missing`);
  });
}
