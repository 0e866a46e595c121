// Command lines: one table of options a command gives its parsing, its checks and its help.
import { parseArgs } from 'node:util';
import { meant } from '../src/util/nearest.js';

/** What was typed does not fit; the command ends with status 2. */
export class UsageError extends Error {}

export interface Option {
  /** Without the dashes. */
  name: string;
  short?: string;
  /** Other long names that people type. */
  aliases?: readonly string[];
  /** Placeholder of the value in the help; a flag has none. */
  value?: string;
  /** May come several times. */
  multiple?: boolean;
  help: string;
}

export interface Command {
  name: string;
  /** Other names that people type. */
  aliases?: readonly string[];
  /** One line for the list of commands. */
  summary: string;
  /** What comes after the name. */
  usage: string;
  /** More for the command's own help; may be ''. */
  details: string;
  /** A line that works for somebody who has only just installed the package. */
  example: string;
  options: readonly Option[];
  /** What to do instead, for somebody who gives more arguments than there are. */
  instead?: string;
  /** It runs models: worth starting Node 20 anew with its flag for relaxed SIMD. */
  computes?: boolean;
  /** Gives the exit status. */
  run(values: Values): Promise<number>;
}

/** The values of one command line, by option name. */
export class Values {
  readonly positionals: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #command: Command;

  constructor(values: Readonly<Record<string, unknown>>, positionals: readonly string[],
    command: Command) {
    this.#values = values;
    this.positionals = positionals;
    this.#command = command;
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  texts(name: string): string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const choice = choices.find((known) => known === value);
    if (choice !== undefined) return choice;
    throw new UsageError(`--${name}: found ${JSON.stringify(value)}, ` +
      `expected ${choices.join(', ')}`);
  }

  number(name: string, least: number, most: number): number | undefined {
    return this.#number(name, least, most, () => true, 'a number');
  }

  integer(name: string, least: number, most: number): number | undefined {
    return this.#number(name, least, most, Number.isSafeInteger, 'an integer');
  }

  #number(name: string, least: number, most: number, fits: (n: number) => boolean,
    kind: string): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const number = value.trim() === '' ? Number.NaN : Number(value);
    if (fits(number) && number >= least && number <= most) return number;
    throw new UsageError(`--${name}: found ${JSON.stringify(value)}, ` +
      `expected ${kind} from ${least} to ${most}`);
  }

  /** The one file name; what comes after it and the `more` that a command knows is a mistake. */
  file(more = 0): string {
    const [file] = this.positionals;
    if (file === undefined) {
      throw new UsageError(`no model was named; for example: ${this.#command.example}`);
    }
    const extra = this.positionals[1 + more];
    const { instead } = this.#command;
    if (extra !== undefined) {
      throw new UsageError(`unexpected argument: ${extra}${instead ? `; ${instead}` : ''}`);
    }
    return file;
  }
}

const helpOption: Option = { name: 'help', short: 'h', help: 'show this text' };

/** As util.parseArgs takes them, aliases as options of their own. */
function parserOptions(options: readonly Option[]) {
  return Object.fromEntries(options.flatMap(({ name, short, value, multiple, aliases }) => {
    const option = { type: value === undefined ? 'boolean' as const : 'string' as const,
      multiple: multiple ?? false };
    return [[name, { ...option, ...(short === undefined ? {} : { short }) }] as const,
      ...(aliases ?? []).map((alias) => [alias, option] as const)];
  }));
}

/** A number below 0 behind an option is its value, which can then be refused for what it is. */
function joinNegatives(args: readonly string[], options: readonly Option[]): string[] {
  const takesValue = new Set(options.flatMap(({ name, short, aliases, value }) =>
    (value === undefined ? [] : [...[name, ...aliases ?? []].map((one) => `--${one}`),
      ...(short === undefined ? [] : [`-${short}`])])));
  const joined: string[] = [];
  for (const [i, arg] of args.entries()) {
    if (arg === '--') return [...joined, ...args.slice(i)];
    const last = joined.at(-1);
    if (/^-\.?\d/.test(arg) && last !== undefined && takesValue.has(last)) {
      joined[joined.length - 1] = `${last}${last.startsWith('--') ? '=' : ''}${arg}`;
    } else joined.push(arg);
  }
  return joined;
}

/** Refuses what no option is called, by the name that was probably meant. */
function checkNames(command: Command, args: string[], options: readonly Option[]): void {
  const known = new Set(options.flatMap(({ name, aliases }) => [name, ...aliases ?? []]));
  const shorts = new Set(options.flatMap(({ short }) => short ?? []));
  const end = args.indexOf('--');
  for (const { kind, ...token } of parseArgs({ args: end < 0 ? args : args.slice(0, end),
    strict: false, tokens: true, allowPositionals: true, options: parserOptions(options) })
    .tokens) {
    if (kind !== 'option' || !('name' in token)) continue;
    const { name, rawName } = token;
    if (known.has(name) || (!rawName.startsWith('--') && shorts.has(name))) continue;
    const hint = rawName.startsWith('--') ? meant(name, [...known].map((one) => `--${one}`)) : '';
    throw new UsageError(`unknown option ${rawName}${hint ||
      `; onekv ${command.name} --help lists what there is`}`);
  }
}

export function parse(command: Command, typed: string[]): Values {
  const options = [...command.options, helpOption];
  const args = joinNegatives(typed, options);
  try {
    checkNames(command, args, options);
    const { values, positionals } = parseArgs({ args, allowPositionals: true,
      options: parserOptions(options) });
    const named: Record<string, unknown> = { ...values };
    for (const { name, aliases } of options) {
      for (const alias of aliases ?? []) named[name] ??= named[alias];
    }
    return new Values(named, positionals, command);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const said = error instanceof Error ? error.message : String(error);
    throw new UsageError(said.replace(/^Option '(\S+)' argument is ambiguous.*/s,
      '$1: no value was given'));
  }
}

/** Lines of at most 79 columns, the continuation indented. */
function wrap(text: string, indent: number): string {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) as string;
    if (line.length + word.length + 1 > 79 - indent) lines.push(word);
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`;
  }
  return lines.join(`\n${' '.repeat(indent)}`);
}

export function helpOf(command: Command): string {
  const rows = [...command.options, helpOption].map(({ name, short, value, help }) => {
    const dashes = short === undefined ? `    --${name}` : `-${short}, --${name}`;
    return { left: `  ${dashes}${value === undefined ? '' : ` ${value}`}`, help };
  });
  const width = 2 + Math.max(...rows.map(({ left }) => left.length));
  const lines = rows.map(({ left, help }) => `${left.padEnd(width)}${wrap(help, width)}`);
  return [`usage: onekv ${command.name} ${command.usage}`, '', command.summary,
    ...(command.details === '' ? [] : ['', wrap(command.details, 0)]), '', ...lines,
    '', `example: ${command.example}`].join('\n');
}
