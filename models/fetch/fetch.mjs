// Gets named models (models/named.json) into the cache folder, and proves that they are the ones.
//
//   node models/fetch/fetch.mjs [--list] [--help] [NAME…]     paths on stdout, one a line
//
// A file with its final name in the cache folder is whole: bytes go to a file of another name,
// which is renamed when its size and sha256 are right. One run at a time works on a model.
// Ends with status 3 when a model cannot be had from here (no network, no pip), which tests take
// as a reason to skip; with 1 when something is wrong (unknown name, other bytes, full disk).
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { Stop, cacheFolder, main, say, withLock } from '../../wasm/toolchain/shell.mjs';
import { Unavailable, WrongBytes, getFrom } from './fetch-sources.mjs';

export { Unavailable, WrongBytes };

/** Where models are kept between runs and checkouts. */
export const modelFolder = join(cacheFolder, 'models');

/** The named models: { name: { file, bytes, sha256, licence, about, sources } }. */
export const named = JSON.parse(readFileSync(new URL('../named.json', import.meta.url), 'utf8'));

const help = `usage: node models/fetch/fetch.mjs [options] NAME…

Gets the named models and prints where they are: ${modelFolder}
($ONEKV_CACHE moves the cache folder.)

  --list   the names, with size and licence
  --help   this text

status: 0 they are there, 3 one cannot be had from here, 1 something is wrong`;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

/** Throws WrongBytes unless the file has the model's size and sha256. */
async function check(file, { bytes, sha256 }) {
  const { size } = statSync(file);
  if (size !== bytes) throw new WrongBytes(`${file} has ${size} bytes, expected ${bytes}`);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  const found = hash.digest('hex');
  if (found !== sha256) throw new WrongBytes(`${file} has sha256 ${found}, expected ${sha256}`);
}

/** Whether the model is in place. A damaged file is taken away. */
async function isThere(file, model) {
  if (!statSync(file, { throwIfNoEntry: false })) return false;
  try {
    await check(file, model);
    return true;
  } catch (error) {
    if (!(error instanceof WrongBytes)) throw error;
    say(`${error.message}: getting it anew`);
    rmSync(file);
    return false;
  }
}

/** Tries the sources in order; the first that gives the right bytes is the last one asked. */
async function getFirst(name, model, file, options) {
  const reasons = [];
  for (const source of model.sources) {
    try {
      const part = await getFrom(source, file, model, {
        ...options, check: (path) => check(path, model),
      });
      renameSync(part, file);
      return;
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      reasons.push(error);
    }
  }
  const text = `${name} cannot be had: ${reasons.map(({ message }) => message).join('; ')}`;
  const wrong = reasons.some((error) => error instanceof WrongBytes);
  throw wrong ? new WrongBytes(text) : new Unavailable(text);
}

/**
 * Path of a named model, which is fetched when it is not in the folder yet. Options: folder,
 * models (instead of named), progress(done, total), stallSeconds (without a byte, then a source
 * is given up). Throws Unavailable, WrongBytes, or Stop for an unknown name.
 */
export async function fetchModel(name, options = {}) {
  const { folder = modelFolder, models = named } = options;
  if (!Object.hasOwn(models, name)) {
    throw new Stop(`no such model: ${name}; there are ${Object.keys(models).join(', ')}`);
  }
  const model = models[name];
  const file = join(folder, model.file);
  mkdirSync(folder, { recursive: true });
  return withLock(`${file}.lock`, async () => {
    try {
      if (!await isThere(file, model)) await getFirst(name, model, file, options);
      return file;
    } catch (error) {
      // A full disk, a folder that may not be written: the system's message says it all.
      throw error.syscall ? new Stop(`${name}: ${error.message}`) : error;
    }
  });
}

/** A line that is written over where there is a terminal, and nothing elsewhere. */
function meter(name) {
  if (!process.stderr.isTTY) return () => {};
  let shown = '';
  return (done, total) => {
    const line = `${name}: ${megabytes(done)} of ${megabytes(total)}`;
    if (line !== shown) process.stderr.write(`\r${line}${done >= total ? '\n' : ''}`);
    shown = line;
  };
}

function list(models) {
  for (const [name, { bytes, licence, about }] of Object.entries(models)) {
    console.log(`${name}  ${megabytes(bytes)}  ${licence}  ${about}`);
  }
}

/** The command line; gives the exit status. Options: those of fetchModel. */
export async function cli(args, options = {}) {
  if (args.includes('--help')) {
    console.log(help);
    return 0;
  }
  if (args.length === 0) throw new Stop(`name a model\n${help}`);
  const unknown = args.find((arg) => arg.startsWith('-') && arg !== '--list');
  if (unknown) throw new Stop(`no such option: ${unknown}\n${help}`);
  if (args.includes('--list')) list(options.models ?? named);
  for (const name of args.filter((arg) => !arg.startsWith('-'))) {
    try {
      console.log(await fetchModel(name, { progress: meter(name), ...options }));
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      say(error.message);
      return 3;
    }
  }
  return 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(() => cli(process.argv.slice(2)));
}
