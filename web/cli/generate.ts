// onekv generate: continues a prompt, or answers in a chat, and shows what the cache took.
import { checkTextRoom, encodeChat, generate } from '../src/engine-entry-node.js';
import type { ChatMessage, GenerateResult, SamplingOptions, Session }
  from '../src/engine-entry-node.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { Progress } from './progress.js';
import { engineOptions, engineReport, modelOptions, note, openModel, outputOptions, parseIds,
  readStdin, variant, write, writeJson } from './shared.js';
import type { Loaded } from './shared.js';
import { interrupted } from './signals.js';
import { bytes, count, digits } from './units.js';

function readSampling(values: Values): SamplingOptions {
  const seed = values.integer('seed', 0, Number.MAX_SAFE_INTEGER);
  return {
    temperature: values.number('temperature', 0, 100) ?? 0.7,
    topK: values.integer('top-k', 0, 2 ** 31 - 1) ?? 0,
    topP: values.number('top-p', 0, 1) ?? 0.95,
    minP: values.number('min-p', 0, 1) ?? 0,
    repetitionPenalty: values.number('repetition-penalty', 0, 100) ?? 0,
    samplerOrder: values.choice('sampler-order', ['temperature-first', 'temperature-last']) ??
      'temperature-first',
    seed,
  };
}

/** The prompt's ids, from --ids, or from text with the chat template around it or without. */
async function promptIds(values: Values, session: Session): Promise<number[]> {
  const ids = values.text('ids');
  if (ids !== undefined) return parseIds(ids);
  const text = values.text('prompt') ?? (process.stdin.isTTY ? undefined : await readStdin());
  if (text === undefined) throw new UsageError('give a prompt: -p "…", or text on stdin');
  checkTextRoom(session, text);
  const { model } = session;
  if (!values.flag('chat')) return model.tokenizer.encode(text);
  const system = values.text('system');
  const messages: ChatMessage[] = [
    ...(system === undefined ? [] : [{ role: 'system', content: system }]),
    { role: 'user', content: text },
  ];
  return encodeChat(model.tokenizer, model.chatTemplate.render(messages));
}

function checkPrompt(values: Values): void {
  if (values.flag('chat') && values.text('ids') !== undefined) {
    throw new UsageError('--ids and --chat exclude each other');
  }
  if (!values.flag('chat') && values.text('system') !== undefined) {
    throw new UsageError('--system needs --chat');
  }
}

/** Only ids: what a model without a tokenizer can give. */
async function generateIds(session: Session, ids: number[], most: number): Promise<GenerateResult> {
  const started = performance.now();
  session.append(ids);
  const prefilled = performance.now();
  const tokens: number[] = [];
  while (tokens.length < most && session.length <= session.contextLength) {
    interrupted.throwIfAborted();
    tokens.push(session.next().token);
  }
  return {
    reason: tokens.length < most ? 'context' : 'length', text: tokens.join(' '), tokens,
    promptTokens: ids.length, seed: session.seed, prefillMs: prefilled - started,
    decodeMs: performance.now() - prefilled,
  };
}

/** Streams to stdout unless the result comes as JSON. */
async function streamText(session: Session, ids: number[], most: number,
  values: Values): Promise<GenerateResult> {
  const progress = new Progress('reading the prompt');
  const parts = generate(session, session.model.tokenizer, ids, {
    maxTokens: most,
    stop: values.texts('stop'),
    signal: interrupted,
    onPrefill: (done, total) => progress.show(done, total),
  });
  for (;;) {
    const { done, value } = await parts.next();
    progress.clear();
    if (done) return value;
    if (!values.flag('json')) await write(value.text);
  }
}

function heading({ model, path, engine }: Loaded): string {
  const { parameters } = model.estimate;
  return `${model.name ?? path}: ${variant(model.description)}, ${count(parameters)} parameters; ` +
    `${engine.simd}, ${model.threads} thread${model.threads === 1 ? '' : 's'}`;
}

/** The session's rows in standard attention with all heads, computed. */
function standardOf(session: Session): number {
  const { cache, description } = session.model;
  return cache.bytes(session.memory().tokens, { standardHeads: description.queryHeads }).total;
}

function sums(session: Session, result: GenerateResult): string {
  const { tokens, cacheUsed } = session.memory();
  const { model } = session;
  const standardUsed = standardOf(session);
  const speed = (n: number, ms: number) => `${digits(n / ms * 1000)} tokens/s`;
  const { heads, projection } = model.description;
  return [
    `${result.promptTokens} tokens read at ${speed(result.promptTokens, result.prefillMs)}, ` +
      `${result.tokens.length} written at ${speed(result.tokens.length, result.decodeMs)}` +
      ` (${result.reason}, seed ${result.seed})`,
    `cache of ${tokens} tokens: ${bytes(cacheUsed)} (${projection}, ${heads}: ` +
      `${bytes(model.cache.bytes(1).total)} a token)`,
    `standard QKV, MHA, computed: ${bytes(standardUsed)} ` +
      `(${digits(standardUsed / Math.max(1, cacheUsed))} times as much)`,
  ].map((line) => `  ${line}`).join('\n');
}

async function run(values: Values): Promise<number> {
  checkPrompt(values);
  const sampling = readSampling(values);
  const most = values.integer('max-tokens', 0, 2 ** 31 - 1) ?? 512;
  const loaded = await openModel(values, interrupted);
  const { engine, model } = loaded;
  const quiet = values.flag('quiet') || values.flag('json');
  try {
    const session = model.openSession(sampling);
    const ids = await promptIds(values, session);
    if (!quiet) note(`${heading(loaded)}\n`);
    const asText = values.text('ids') === undefined;
    // The story begins with what it was told; a chat shows the answer alone.
    if (asText && !values.flag('json') && !values.flag('chat')) {
      await write(values.text('prompt') ?? '');
    }
    const result = asText ? await streamText(session, ids, most, values)
      : await generateIds(session, ids, most);
    if (values.flag('json')) {
      await writeJson({
        model: loaded.path, ...result, prompt: ids, loadMs: loaded.loadMs,
        sampling: { ...sampling, seed: session.seed },
        engine: engineReport(engine),
        memory: { session: session.memory(), model: model.memory() },
      });
    } else {
      await write(asText ? '\n' : `${result.text}\n`);
    }
    if (!quiet) note(`\n${sums(session, result)}`);
    return 0;
  } finally {
    engine.destroy();
  }
}

export const generateText: Command = {
  name: 'generate',
  summary: 'continue a prompt, or answer in a chat',
  usage: 'FILE -p "…" [options]',
  details: 'The prompt may also come on stdin. Text goes to stdout, the rest to stderr.',
  options: [
    { name: 'prompt', short: 'p', value: 'TEXT', help: 'what to continue, or to answer' },
    { name: 'chat', help: "puts the prompt into the file's chat template" },
    { name: 'system', value: 'TEXT', help: "the chat's system prompt" },
    { name: 'ids', value: 'IDS', help: 'token ids instead of text, for models without tokenizer' },
    { name: 'temperature', value: 'T', help: '0: always the likeliest token (default 0.7)' },
    { name: 'top-k', value: 'K', help: 'only the K likeliest tokens (default 0: all)' },
    { name: 'top-p', value: 'P', help: 'only the likeliest tokens that together have this ' +
      'probability (default 0.95)' },
    { name: 'min-p', value: 'P', help: "only tokens of this share of the likeliest one's " +
      'probability (default 0)' },
    { name: 'repetition-penalty', value: 'R', help: 'above 1: tokens of the last 64 come less ' +
      'often (default 0: none)' },
    { name: 'sampler-order', value: 'ORDER', help: 'temperature-first (default) or ' +
      'temperature-last: before or after the likeliest tokens are cut out' },
    { name: 'seed', value: 'N', help: 'the same seed gives the same text (default: random)' },
    { name: 'max-tokens', value: 'N', help: 'most tokens to write (default 512)' },
    { name: 'stop', value: 'TEXT', multiple: true, help: 'ends the text; may come several times' },
    ...modelOptions, ...engineOptions, ...outputOptions,
  ],
  run,
};
