// Tools from a JSON file: what the model is told, and the program that does the work.
//
//   [{ "name": "add", "description": "…", "inputSchema": { … }, "command": ["node", "add.mjs"] }]
//
// The program is started without a shell, gets the call's arguments as JSON on stdin, and what it
// writes to stdout is the result. A status that is not 0 is an error, which the model is told.
import { spawn } from 'node:child_process';
import { text as textOf } from 'node:stream/consumers';
import type { ToolDeclaration } from '../src/api/tools.js';
import type { Tool } from '../src/onekv-node.js';
import { UsageError } from './arguments.js';
import { readText } from './shared.js';

/** For a program that does not end. */
const patience = 60_000;

async function run(command: readonly string[], input: unknown,
  signal: AbortSignal): Promise<string> {
  const [program, ...args] = command as [string, ...string[]];
  const child = spawn(program, args, { signal, stdio: ['pipe', 'pipe', 'inherit'] });
  // spawn's own timeout is not cleared where a program is not there, and keeps the process alive.
  const late = setTimeout(() => child.kill(), patience);
  // A program that does not read what it is given is none that failed.
  child.stdin.on('error', () => {}).end(JSON.stringify(input));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  const [said, status] = await Promise.all([textOf(child.stdout), ended])
    .finally(() => clearTimeout(late));
  if (status === 0) return said.trim();
  throw new Error(`${program} ended with status ${status}${said === '' ? '' : `: ${said.trim()}`}`);
}

function toolOf(entry: unknown, where: string): Tool {
  const { command, ...tool } = (entry ?? {}) as ToolDeclaration & { command?: unknown };
  const isCommand = Array.isArray(command) && command.length > 0 &&
    command.every((word) => typeof word === 'string');
  if (!isCommand) {
    throw new UsageError(`${where}.command: found ${JSON.stringify(command)}, expected a program ` +
      'and its arguments, as a list of texts');
  }
  // Names and schemas are checked where sessions are made.
  return { ...tool, execute: (input: unknown, { signal }: { signal: AbortSignal }) =>
    run(command as string[], input, signal) };
}

/** Error: UsageError, which names the file. */
export function readTools(file: string): Tool[] {
  let list: unknown;
  try {
    list = JSON.parse(readText(file));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!Array.isArray(list)) throw new UsageError(`${file}: expected a list of tools`);
  return list.map((entry, i) => toolOf(entry, `${file}[${i}]`));
}
