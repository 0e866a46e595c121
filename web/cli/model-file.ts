// What a FILE argument means: a path, the name of a model that ships with the package (or with
// onekv-models, which has those that most do not need), or of one that a checkout's
// models/fetch/fetch.mjs has put into the cache folder, or of one on a hub, or an address.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { meant } from '../src/util/nearest.js';
import { UsageError } from './arguments.js';

/** From dist/cli in the package. */
const shippedFolder = fileURLToPath(new URL('../../models/', import.meta.url));

/** As in wasm/toolchain/shell.mjs. */
export function cacheFolder(): string {
  const { env } = process;
  return env['ONEKV_CACHE'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'onekv');
}

/** { name: file } of models/named.json. */
function fetchedFiles(): Record<string, string> {
  const list = join(shippedFolder, 'named.json');
  if (!existsSync(list)) return {};
  const named = JSON.parse(readFileSync(list, 'utf8')) as Record<string, { file: string }>;
  return Object.fromEntries(Object.entries(named).map(([name, { file }]) => [name, file]));
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

/** The models of onekv-models (models/package.json). */
const others = ['stories-qkv', 'table-q-kv', 'table-qk-v', 'digits-keqv', 'digits-qkv'];

/** The path, or the name or address as it is. Error: UsageError that says what there is. */
export function findModel(file: string): string {
  if (existsSync(file) || /^(hf:|https?:\/\/)/i.test(file)) return file;
  const shipped = shippedFiles();
  if (Object.hasOwn(shipped, file)) return shipped[file] as string;
  if (others.includes(file)) {
    throw new UsageError(`${file} is in another package; get it with: npm install onekv-models`);
  }
  const fetched = fetchedFiles();
  if (!Object.hasOwn(fetched, file)) {
    throw new UsageError(`${file}: no such file${meant(file, knownNames()) ||
      `; known names are ${knownNames().join(', ')}`}`);
  }
  const path = join(cacheFolder(), 'models', fetched[file] as string);
  if (existsSync(path)) return path;
  throw new UsageError(`${file} is not here yet; get it with: node models/fetch/fetch.mjs ${file}`);
}
