// Running programs from the build and test scripts: quiet when all is well, whole output when not.
//
// Only Node's own modules: these scripts run before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Progress, clearLine } from './progress.mjs';

/** Root of the checkout. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Where downloads and tool chains are kept between checkouts; never inside one. */
export const cacheFolder = process.env.ONEKV_CACHE ||
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'onekv');

/** A failure that is explained by its message alone; its stack would only hide the message. */
export class Stop extends Error {}

/** One line about what is being done. On stderr: stdout belongs to what the user asked for. */
export function say(text) {
  clearLine(process.stderr);
  process.stderr.write(`${text}\n`);
}

/** Whether a program is on PATH. */
export function has(program) {
  return spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program]).status === 0;
}

/** Ends a program and everything it started: it leads a process group of its own. */
function endGroup(child, signal) {
  try { process.kill(-child.pid, signal); } catch { /* it has ended already */ }
}

/** What run has started. A signal ends all of it, and then this process. */
const children = new Set();

function stopAll() {
  for (const child of children) endGroup(child, 'SIGTERM');
  process.exit(130);
}

function keep(child) {
  if (children.size === 0) process.on('SIGINT', stopAll).on('SIGTERM', stopAll);
  children.add(child);
}

function forget(child) {
  children.delete(child);
  if (children.size === 0) process.off('SIGINT', stopAll).off('SIGTERM', stopAll);
}

/**
 * Runs a program without standard input. Resolves to { status, output, seconds }, where output is
 * stdout and stderr in the order written; status is 124 when it took longer than timeoutSeconds.
 * Options: cwd, env (added to the environment), live (show output as it comes), hear (called with
 * it), timeoutSeconds.
 */
export function run(program, args, options = {}) {
  const { cwd = root, env = {}, live = false, hear, timeoutSeconds = 0 } = options;
  const start = performance.now();
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true,
    });
    const parts = [];
    let late = false;
    const take = (part) => {
      parts.push(part);
      hear?.(part);
      if (live) process.stderr.write(part);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    keep(child);
    const timer = timeoutSeconds > 0 && setTimeout(() => {
      late = true;
      endGroup(child, 'SIGKILL');
    }, timeoutSeconds * 1000);
    const finish = (status, note = '') => {
      clearTimeout(timer);
      forget(child);
      const output = Buffer.concat(parts).toString() + note;
      resolve({ status, output, seconds: (performance.now() - start) / 1000 });
    };
    child.on('error', (error) => finish(127, `${program}: ${error.message}\n`));
    child.on('close', (status, signal) => {
      if (late) finish(124, `\n${program}: stopped after ${timeoutSeconds} s\n`);
      else finish(status ?? 128, signal ? `\n${program}: ended by ${signal}\n` : '');
    });
  });
}

/** Like run, for a step that must succeed: shows its output and stops when it does not. Option
 * `moving`: what is said of it, again and again, while it lasts. */
export async function must(what, program, args, { moving, ...options } = {}) {
  const progress = moving === undefined ? undefined : new Progress(moving);
  const hear = (part) => progress?.take(part);
  const result = await run(program, args, { hear, ...options }).finally(() => progress?.end());
  if (result.status === 0) return result;
  if (!options.live) process.stderr.write(result.output);
  throw new Stop(`${what} failed (${program} ended with status ${result.status})`);
}

/** Whether the process that wrote a lock file is still there. */
function holderLives(file) {
  try {
    process.kill(Number(readFileSync(file, 'utf8')) || 0, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Runs work while no other process of this user runs work under the same lock file. */
export async function withLock(file, work) {
  mkdirSync(dirname(file), { recursive: true });
  for (let waited = false; ; waited = true) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!holderLives(file)) {
      rmSync(file, { force: true });
      continue;
    }
    if (!waited) say(`waiting for another run (${file})`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const release = () => rmSync(file, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

/** Runs a script's main function; a Stop becomes one line and exit status 1. */
export async function main(work) {
  try {
    process.exitCode = (await work()) ?? 0;
  } catch (error) {
    say(error instanceof Stop ? `error: ${error.message}` : error.stack);
    process.exitCode = 1;
  }
}
