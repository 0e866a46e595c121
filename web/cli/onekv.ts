#!/usr/bin/env node
// onekv: runs and looks at GGUF models from the command line.
//
// Results go to stdout, everything else to stderr. Exit status: 0 done, 1 it failed, 2 the command
// line does not fit, 130 interrupted.
import { OneKVError } from '../src/engine-entry-node.js';
import { UsageError, helpOf, parse } from './arguments.js';
import type { Command } from './arguments.js';
import { chat } from './chat.js';
import { bench } from './bench.js';
import { evaluate } from './eval.js';
import { generateText } from './generate.js';
import { inspect } from './inspect.js';
import { meant } from '../src/util/nearest.js';
import { packageVersion, runWithRelaxedSimd } from './bench/host.js';
import { aboutKnown, knownNames } from './model-file.js';
import { list, pull, remove } from './pull.js';
import { serve } from './serve.js';
import { interrupted } from './signals.js';

const commands: readonly Command[] = [generateText, chat, serve, inspect, evaluate, bench, pull,
  list, remove];

function help(): string {
  const width = Math.max(...commands.map(({ name }) => name.length)) + 2;
  const names = knownNames();
  const nameWidth = Math.max(...names.map(({ length }) => length)) + 2;
  return ['usage: onekv COMMAND FILE [options]', '       onekv --version', '',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`), '',
    'FILE is a GGUF file, the name of a model on a hub (hf:org/repo, see onekv pull --help), an',
    'http address, or the name of a model:',
    ...names.map((known) => `  ${known.padEnd(nameWidth)}${aboutKnown(known)}`.trimEnd()), '',
    'For example:',
    ...[generateText, chat, inspect].map(({ example }) => `  ${example}`), '',
    'onekv COMMAND --help lists the options of a command.'].join('\n');
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (['--version', '-v', '-V', 'version'].includes(name ?? '')) {
    process.stdout.write(`${packageVersion()}\n`);
    return 0;
  }
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    if (name === 'help' && rest[0] !== undefined) return main([rest[0], '--help']);
    (name === undefined ? process.stderr : process.stdout).write(`${help()}\n`);
    return name === undefined ? 2 : 0;
  }
  const command = commands.find((known) => known.name === name || known.aliases?.includes(name));
  if (command === undefined) {
    const names = commands.map((known) => known.name);
    const options = ['--version', '--help'];
    throw new UsageError(`no such command: ${name}${
      meant(name, name.startsWith('-') ? options : [...names, ...options]) ||
      `; there are ${names.join(', ')}`}`);
  }
  const values = parse(command, rest);
  if (values.flag('help')) {
    process.stdout.write(`${helpOf(command)}\n`);
    return 0;
  }
  if (command.computes === true && values.text('simd') !== 'simd128') {
    const status = await runWithRelaxedSimd();
    if (status !== undefined) return status;
  }
  return command.run(values);
}

function fail(error: unknown): number {
  if (interrupted.aborted) {
    // What the terminal shows next begins on a line of its own.
    if (process.stdout.isTTY) process.stdout.write('\n');
    return 130;
  }
  if (error instanceof UsageError) {
    process.stderr.write(`onekv: ${error.message}\n`);
    return 2;
  }
  if (error instanceof OneKVError) {
    process.stderr.write(`onekv: ${error.message} (${error.code})\n`);
    return 1;
  }
  process.stderr.write(`onekv: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

// A reader that has seen enough (head) is not a failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});
process.exitCode = await main(process.argv.slice(2)).catch(fail);
