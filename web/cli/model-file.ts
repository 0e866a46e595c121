// What a FILE argument means: a path, the name of a model that ships with the package, or of one
// that models/fetch/fetch.mjs has put into the cache folder, or of one on a hub, or an address.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
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

/** { name: path } of the models beside the package's code. */
function shippedFiles(): Record<string, string> {
  if (!existsSync(shippedFolder)) return {};
  return Object.fromEntries(readdirSync(shippedFolder).filter((file) => ending.test(file))
    .map((file) => [file.replace(ending, ''), join(shippedFolder, file)]));
}

/** For help texts and messages. */
export function knownNames(): string[] {
  return [...Object.keys(shippedFiles()), ...Object.keys(fetchedFiles())].sort();
}

/** The path, or the name or address as it is. Error: UsageError that says what there is. */
export function findModel(file: string): string {
  if (existsSync(file) || /^(hf:|https?:\/\/)/i.test(file)) return file;
  const shipped = shippedFiles();
  if (Object.hasOwn(shipped, file)) return shipped[file] as string;
  const fetched = fetchedFiles();
  if (!Object.hasOwn(fetched, file)) {
    throw new UsageError(`${file}: no such file${meant(file, knownNames()) ||
      `; known names are ${knownNames().join(', ')}`}`);
  }
  const path = join(cacheFolder(), 'models', fetched[file] as string);
  if (existsSync(path)) return path;
  throw new UsageError(`${file} is not here yet; get it with: node models/fetch/fetch.mjs ${file}`);
}
