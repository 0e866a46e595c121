// What a figure depends on besides the code: the machine, and what else it was doing (Linux).
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, totalmem } from 'node:os';
import { root } from '../../wasm/toolchain/shell.mjs';

export function machine() {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    architecture: arch(),
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
  };
}

/** The commit, with "+" behind it when the checkout differs from it. */
export function commit() {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  // Results of an earlier run do not count as a change.
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.',
    ':!tests/bench/results') !== '';
  return git('rev-parse', '--short=12', 'HEAD') + (changed ? '+' : '');
}

/** Clock ticks of all cores: { busy, stolen }. */
function machineTicks() {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n')[0].split(/\s+/).slice(1).map(Number);
  return { busy: user + nice + system + irq + softirq, stolen: steal };
}

/** pid → { parent, ticks } of all processes; ticks with those of children that ended. */
function processes() {
  const found = new Map();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const text = readFileSync(`/proc/${entry}/stat`, 'utf8');
      // The name is in parentheses and may hold anything.
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ').map(Number);
      found.set(Number(entry), {
        parent: fields[1], ticks: fields[11] + fields[12] + fields[13] + fields[14],
      });
    } catch { /* It ended meanwhile. */ }
  }
  return found;
}

/** This process and everything below it. */
function family(all) {
  const children = new Map();
  for (const [pid, { parent }] of all) children.set(parent, [...children.get(parent) ?? [], pid]);
  const own = [];
  for (let queue = [process.pid]; queue.length > 0; queue = queue.slice(1)) {
    own.push(queue[0]);
    queue.push(...children.get(queue[0]) ?? []);
  }
  return own;
}

/** What is needed to tell, later, how busy others kept the machine. */
export function startWatch() {
  const all = processes();
  const own = family(all).reduce((sum, pid) => sum + (all.get(pid)?.ticks ?? 0), 0);
  return { at: performance.now(), own, ...machineTicks() };
}

/**
 * Since then, in parts of all cores' time: `own` is what this process and its children took,
 * `others` what other programs took, `stolen` what the machine's host took away.
 */
export function busyShares(before) {
  const now = startWatch();
  // Ticks are hundredths of a second on Linux.
  const all = (now.at - before.at) / 10 * availableParallelism();
  const own = now.own - before.own;
  const others = Math.max(0, now.busy - before.busy - own);
  return { own: own / all, others: others / all, stolen: (now.stolen - before.stolen) / all };
}

/** The largest peak of resident memory, in bytes, among the Chromium renderers that we started. */
export function rendererPeak() {
  let most = 0;
  for (const pid of family(processes())) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (!command.includes('--type=renderer')) continue;
      const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
      most = Math.max(most, 1024 * Number(peak?.[1] ?? 0));
    } catch { /* It ended meanwhile. */ }
  }
  return most;
}
