// onekv chat: a conversation in the terminal.
//
// Lines come from readline, so that a terminal has its history on the arrow keys, and a pipe works
// too. Ctrl-C stops the answer, which stays as far as it is; at the prompt it says how to leave.
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Interface } from 'node:readline';
import type { ChatMessage, GeneratedPart, GenerationResult, Model, Session, SessionMemory, Tool }
  from '../src/onekv-node.js';
import { OneKVError } from '../src/onekv-node.js';
import { meant } from '../src/util/nearest.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { loadInWorker } from './load.js';
import { findModel } from './model-file.js';
import { Progress } from './progress.js';
import { draftOption, readDraft, readSampling, samplingOptions } from './sampling.js';
import { checkWrites, dim, endings, engineOptions, modelOptions, noTemplate, note, readBytes,
  readText, variant, write } from './shared.js';
import { readTools } from './tool-file.js';
import { bytes, digits, plural } from './units.js';

const { stdout } = process;

const help = `/help             this list
/memory           what the conversation takes
/save FILE        save the conversation with its cache
/load FILE        go on with a saved one
/new              begin a new one
/exit             leave (as Ctrl-D does)
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer.`;

/** "cache [####......] 120 of 1024 tokens", and bytes beside standard attention. */
function meter(session: Session, { used, standard }: SessionMemory, hasBar: boolean): string {
  const { contextUsage: tokens, contextWindow: window } = session;
  const filled = Math.round(Math.min(1, tokens / window) * 30);
  const bar = hasBar ? `[${'#'.repeat(filled)}${'.'.repeat(30 - filled)}] ` : '';
  return `cache ${bar}${tokens} of ${window} tokens, ${bytes(used)}\n` +
    `standard QKV MHA, computed: ${bytes(standard.MHA)} ` +
    `(${digits(standard.MHA / Math.max(1, used))} times as much)`;
}

/** The parts of an answer as text; what is not the answer is dim, on lines of its own. */
class Writer {
  #kind: GeneratedPart['type'] = 'text';

  text(part: GeneratedPart): string {
    const { type, text, toolCall, toolResult } = part;
    if (toolCall !== undefined) {
      return this.#turn(type) +
        dim(`${toolCall.name}(${JSON.stringify(toolCall.arguments)})`, stdout);
    }
    if (toolResult !== undefined) return this.#turn(type) + dim(`= ${toolResult.content}`, stdout);
    if (text === '') return '';
    return this.#turn(type) + (type === 'reasoning' ? dim(text, stdout) : text);
  }

  /** A new line between parts of different kinds, and between calls. */
  #turn(type: GeneratedPart['type']): string {
    const isSame = type === this.#kind && (type === 'text' || type === 'reasoning');
    const isFirst = this.#isFirst;
    this.#kind = type;
    this.#isFirst = false;
    return isSame || isFirst ? '' : '\n';
  }

  #isFirst = true;
}

class Chat {
  readonly #model: Model;
  readonly #open: () => Promise<Session>;
  readonly #tools: readonly Tool[];
  readonly #isQuiet: boolean;
  readonly #most: number | undefined;
  #session: Session;
  /** Of the answer that is on its way. */
  #answer: AbortController | undefined;

  constructor(model: Model, session: Session, open: () => Promise<Session>,
    { tools, isQuiet, most }: { tools: readonly Tool[]; isQuiet: boolean;
      most: number | undefined }) {
    this.#model = model;
    this.#session = session;
    this.#open = open;
    this.#tools = tools;
    this.#isQuiet = isQuiet;
    this.#most = most;
  }

  /** true: there was an answer to stop. */
  stop(): boolean {
    this.#answer?.abort(new Error('stopped'));
    return this.#answer !== undefined;
  }

  async say(text: string): Promise<void> {
    const controller = new AbortController();
    const progress = new Progress('reading');
    this.#answer = controller;
    let written = 0;
    try {
      const generation = this.#session.generate(text, { signal: controller.signal,
        maxTokens: this.#most, onPrefill: (done, total) => progress.show(done, total) });
      const writer = new Writer();
      for await (const part of generation) {
        progress.clear();
        if (part.token !== undefined) written += 1;
        if (!controller.signal.aborted) await write(writer.text(part));
      }
      await write('\n');
      this.#sums(await generation.result);
    } catch (error) {
      progress.clear();
      await write('\n');
      if (!controller.signal.aborted) throw error;
      const { contextUsage, contextWindow } = this.#session;
      note(dim(this.#isQuiet ? 'stopped'
        : `stopped after ${plural(written, 'token')}; ${contextUsage} of ${contextWindow} tokens`));
    } finally {
      this.#answer = undefined;
    }
  }

  /** false: the conversation ends. Errors: UsageError; what sessions and files throw. */
  async command(line: string): Promise<boolean> {
    const [name, file = ''] = /^(\/\S*)\s*(.*?)\s*$/s.exec(line)?.slice(1) as [string, string];
    if (name === '/exit' || name === '/quit') return false;
    if (name === '/help') await write(`${help}\n`);
    else if (name === '/memory') await this.#memory();
    else if (name === '/new') await this.#replace(await this.#open());
    else if (name === '/save' || name === '/load') {
      if (file === '') throw new UsageError(`${name} needs a file: ${name} FILE`);
      await (name === '/save' ? this.#save(file) : this.#load(file));
    } else {
      throw new UsageError(`${name.slice(0, 80)}: no such command${
        meant(name, [...help.matchAll(/^\/\w+/gm)].map(([known]) => known)) ||
        '; /help lists them'}`);
    }
    return true;
  }

  async #memory(): Promise<void> {
    const memory = await this.#session.memory();
    await write(`${meter(this.#session, memory, process.stdout.isTTY === true)}\n`);
  }

  async #save(file: string): Promise<void> {
    const snapshot = await this.#session.save();
    writeFileSync(file, new Uint8Array(await snapshot.arrayBuffer()));
    note(dim(`${file}: ${bytes(snapshot.size)}`));
  }

  async #load(file: string): Promise<void> {
    await this.#replace(await this.#model.restore(new Uint8Array(readBytes(file)),
      { tools: this.#tools }));
    const { messages, contextUsage } = this.#session;
    note(dim(`${messages.length} messages, ${contextUsage} tokens`));
  }

  async #replace(session: Session): Promise<void> {
    await this.#session.destroy();
    this.#session = session;
  }

  #sums({ tokens, decodeMs, reason, cachedTokens }: GenerationResult): void {
    if (this.#isQuiet) return;
    const { contextUsage, contextWindow } = this.#session;
    note(dim(`${tokens.length} tokens at ${digits(tokens.length / Math.max(1, decodeMs) * 1000)} ` +
      `tokens/s (${endings[reason]}), ${cachedTokens} were in the cache; ` +
      `${contextUsage} of ${contextWindow} tokens`));
  }
}

/** What one line asks for. false: the conversation ends. What fails is said, and it goes on. */
async function take(chat: Chat, line: string): Promise<boolean> {
  try {
    if (/^\/\S/.test(line)) return await chat.command(line);
    if (line.trim() !== '') await chat.say(line);
  } catch (error) {
    note(`onekv: ${error instanceof Error ? error.message : String(error)}` +
      `${error instanceof OneKVError ? ` (${error.code})` : ''}`);
    if (error instanceof OneKVError && error.code === 'WORKER_LOST') throw error;
  }
  return true;
}

async function talk(chat: Chat, lines: Interface): Promise<void> {
  const interrupt = () => {
    if (chat.stop()) return;
    note(dim('/exit or Ctrl-D leaves'));
    if (isOpen) lines.prompt();
  };
  // A terminal's Ctrl-C comes through readline, a signal from elsewhere through the process.
  lines.on('SIGINT', interrupt);
  // The last lines of a pipe are answered when it has ended.
  let isOpen = true;
  lines.once('close', () => { isOpen = false; });
  process.on('SIGINT', interrupt);
  let held = '';
  lines.prompt();
  for await (const line of lines) {
    held += line;
    if (held.endsWith('\\')) {
      held = `${held.slice(0, -1)}\n`;
      continue;
    }
    const said = held;
    held = '';
    if (!await take(chat, said)) break;
    if (isOpen) lines.prompt();
  }
}

async function run(values: Values): Promise<number> {
  const path = findModel(values.file());
  const sampling = readSampling(values);
  const guesses = readDraft(values);
  const draft = 'mode' in guesses ? guesses.mode : 'model';
  const system = values.text('system');
  const toolFile = values.text('tools');
  const tools = toolFile === undefined ? [] : readTools(toolFile);
  const most = values.integer('max-tokens', 1, 2 ** 31 - 1);
  const reasoning = values.choice('reasoning', ['separate', 'include', 'off']);
  const isQuiet = values.flag('quiet');
  const history = values.text('history');
  const asked = history === undefined ? [] : readHistory(history);
  const model = await loadInWorker(values, path, 'file' in guesses ? guesses.file : undefined);
  try {
    checkWrites(values.file(), model.description);
    if (system !== undefined && !model.hasChatTemplate) throw new UsageError(noTemplate);
    const initialPrompts: ChatMessage[] | undefined =
      system === undefined ? undefined : [{ role: 'system', content: system }];
    const open = () => model.createSession({ ...sampling, draft, tools, reasoning, initialPrompts,
      overflow: 'slide' });
    const session = await open();
    if (!isQuiet) {
      note(`${model.name ?? path}: ${variant(model.description)}, ` +
        `${bytes(model.bytesPerToken)} of cache per token; /help lists commands`);
      if (!model.hasChatTemplate) {
        note('  The file has no chat template, so the model continues what you write. For ' +
          'answers use a chat model: onekv chat smollm2-135m-instruct, or hf:ORG/REPO.');
      }
    }
    // Not before: what a pipe says while nobody listens would be lost.
    const lines = openLines(history, asked);
    try {
      await talk(new Chat(model, session, open, { tools, isQuiet, most }), lines);
    } finally {
      lines.close();
    }
    return 0;
  } finally {
    await model.unload();
  }
}

/** Of a terminal with a history, or of a pipe. */
function openLines(file: string | undefined, history: string[]): Interface {
  const isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const lines = createInterface({ input: process.stdin, output: process.stdout, history,
    prompt: isTerminal ? '> ' : '', historySize: 1000, terminal: isTerminal });
  if (file !== undefined) lines.on('history', (list) => writeHistory(file, list));
  return lines;
}

/** One line each, the last one said first. A file that is not there has none. */
function readHistory(file: string): string[] {
  try {
    return readText(file).split('\n').filter(Boolean);
  } catch {
    return [];
  }
}

function writeHistory(file: string, list: readonly string[]): void {
  writeFileSync(file, `${list.join('\n')}\n`, { mode: 0o600 });
}

export const chat: Command = {
  name: 'chat',
  aliases: ['run'],
  summary: 'chat with a model in the terminal',
  usage: 'FILE [options]',
  details: 'Ctrl-C stops the answer, not the program. /help lists the commands: /memory, ' +
    '/save FILE, /load FILE, /new, /exit. When the context window is full, the older half of the ' +
    'conversation is forgotten.',
  example: 'onekv chat smollm2-135m-instruct',
  options: [
    { name: 'system', value: 'TEXT', help: "the chat's system prompt" },
    { name: 'tools', value: 'FILE', help: 'functions that the model may call, as JSON: a list ' +
      'of { name, description, inputSchema, command }; the command gets the arguments as JSON on ' +
      'stdin' },
    { name: 'reasoning', value: 'MODE', help: 'what becomes of thoughts: separate (default: ' +
      'shown dim), include (as part of the text) or off' },
    { name: 'history', value: 'FILE', help: 'where to keep what was typed, for the arrow keys ' +
      '(default: only until the program ends)' },
    { name: 'max-tokens', short: 'n', value: 'N', help: 'length of an answer at most (default: ' +
      'what the context window holds)' },
    ...samplingOptions, draftOption, ...modelOptions, ...engineOptions,
    { name: 'quiet', short: 'q', help: 'neither heading nor summaries' },
  ],
  instead: 'chat asks for what you say when it has started; onekv generate FILE "…" answers once',
  computes: true,
  run,
};
