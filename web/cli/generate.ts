// onekv generate: continues a prompt, or answers in a chat, and shows what the cache took.
import { checkTextRoom, encodeChat, generate, loadModel } from '../src/engine-entry-node.js';
import type { ChatMessage, GenerateResult, Model, Session }
  from '../src/engine-entry-node.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { accessTo } from './downloads.js';
import { findModel } from './model-file.js';
import { Progress } from './progress.js';
import { draftOption, readDraft, readSampling, samplingOptions } from './sampling.js';
import { checkWrites, dim, endings, engineOptions, engineReport, modelOptions, noTemplate, note,
  openModel, outputOptions, parseIds, readStdin, variant, write, writeJson } from './shared.js';
import type { Loaded } from './shared.js';
import { interrupted } from './signals.js';
import { bytes, count, digits, plural } from './units.js';

/** What the command line gives to continue: ids, or a text. Read before a model is loaded, so that
 * a complaint comes at once. */
interface Prompt {
  ids?: number[];
  text: string;
  /** It came on stdin, and is not shown again. */
  piped: boolean;
}

async function readPrompt(values: Values): Promise<Prompt> {
  const ids = values.text('ids');
  const typed = values.text('prompt') ?? values.positionals[1];
  if (values.text('prompt') !== undefined && values.positionals[1] !== undefined) {
    throw new UsageError('two prompts: one after the model, and one after --prompt');
  }
  if (ids !== undefined) {
    if (typed !== undefined) throw new UsageError('--ids and a prompt exclude each other');
    return { ids: parseIds(ids), text: '', piped: false };
  }
  if (typed === '') throw new UsageError('the prompt is empty');
  if (typed !== undefined) return { text: typed, piped: false };
  if (process.stdin.isTTY) {
    throw new UsageError('give a prompt: onekv generate MODEL "…", or text on stdin');
  }
  const text = await readStdin();
  if (text === '') throw new UsageError('no prompt: none after the model, and none on stdin');
  return { text, piped: true };
}

/** Files with a chat template chat, unless that is refused. */
function isChat(values: Values, model: Model): boolean {
  if (values.flag('no-chat') || values.text('ids') !== undefined) return false;
  return values.flag('chat') || model.hasChatTemplate;
}

/** The prompt's ids, with the chat template around its text or without. */
function promptIds(values: Values, prompt: Prompt, session: Session): number[] {
  const { ids, text } = prompt;
  const { model } = session;
  if (ids !== undefined) return ids;
  checkTextRoom(session, text);
  const system = values.text('system');
  if (!isChat(values, model)) {
    if (system === undefined) return model.tokenizer.encode(text);
    throw new UsageError(noTemplate);
  }
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
  if (values.flag('chat') && values.flag('no-chat')) {
    throw new UsageError('--chat and --no-chat exclude each other');
  }
  if (values.text('system') !== undefined &&
    (values.flag('no-chat') || values.text('ids') !== undefined)) {
    throw new UsageError('--system is for a chat: not with --no-chat or --ids');
  }
}

/** A Ctrl-C is a reason too. */
type Written = Omit<GenerateResult, 'reason'> &
  { reason: GenerateResult['reason'] | 'interrupted' };

/** Streams text to stdout unless the result comes as JSON: first `lead`, once the line of the
 * progress bar is free again. A prompt of ids is answered with ids, and needs no tokenizer. */
async function stream(session: Session, ids: number[], most: number, lead: string,
  values: Values): Promise<Written> {
  const asText = values.text('ids') === undefined;
  const progress = new Progress('reading the prompt');
  const started = performance.now();
  let prefilled: number | undefined;
  let read = 0;
  const tokens: number[] = [];
  let text = '';
  let rest = lead;
  const show = async (more: string) => {
    progress.clear();
    await write(rest + more);
    rest = '';
  };
  const parts = generate(session, asText ? session.model.tokenizer : undefined, ids, {
    maxTokens: most,
    stop: values.texts('stop'),
    signal: interrupted,
    onPrefill: (done, total) => {
      read = done;
      progress.show(done, total);
    },
  });
  try {
    for (;;) {
      const { done, value } = await parts.next();
      await show('');
      if (done) return value;
      prefilled ??= performance.now();
      if (value.choice !== undefined) tokens.push(value.choice.token);
      text += value.text;
      if (asText && !values.flag('json')) await show(value.text);
    }
  } catch (error) {
    await show('');
    // What was read and written before Ctrl-C still counts.
    if (!interrupted.aborted) throw error;
    const now = performance.now();
    prefilled ??= now;
    const { drafted: draftedTokens = 0, accepted: acceptedTokens = 0 } = session.drafts ?? {};
    return { reason: 'interrupted', text, tokens, draftedTokens, acceptedTokens,
      promptTokens: tokens.length > 0 ? ids.length : read, seed: session.seed,
      prefillMs: prefilled - started, decodeMs: now - prefilled };
  }
}

function heading({ model, path, engine }: Loaded): string {
  const { parameters } = model.estimate;
  return `${model.name ?? path}: ${variant(model.description)}, ${count(parameters)} parameters; ` +
    `${engine.simd}, ${plural(model.threads, 'thread')}`;
}

/** The session's rows in standard attention with all heads, computed. */
function standardOf(session: Session): number {
  const { cache, description } = session.model;
  return cache.bytes(session.memory().tokens, { standardHeads: description.queryHeads }).total;
}

function sums(session: Session, result: Written): string {
  const { tokens, cacheUsed } = session.memory();
  const { model } = session;
  const standardUsed = standardOf(session);
  const speed = (n: number, ms: number) => `${digits(n === 0 ? 0 : n / ms * 1000)} tokens/s`;
  const { heads, projection } = model.description;
  const more = cacheUsed === 0 ? '' : ` (${digits(standardUsed / cacheUsed)} times as much)`;
  return [
    `${plural(result.promptTokens, 'token')} read at ` +
      `${speed(result.promptTokens, result.prefillMs)}, ` +
      `${result.tokens.length} written${result.tokens.length === 0 ? ''
        : ` at ${speed(result.tokens.length, result.decodeMs)}`}` +
      ` (${endings[result.reason]}, seed ${result.seed})`,
    ...(session.drafts === undefined ? []
      : [`${result.acceptedTokens} of ${result.draftedTokens} drafted tokens accepted`]),
    `cache of ${plural(tokens, 'token')}: ${bytes(cacheUsed)} (${projection} ${heads}: ` +
      `${bytes(model.cache.bytes(1).total)} per token)`,
    `standard QKV MHA, computed: ${bytes(standardUsed)}${more}`,
  ].map((line) => `  ${line}`).join('\n');
}

async function run(values: Values): Promise<number> {
  checkPrompt(values);
  findModel(values.file(1));
  const sampling = readSampling(values);
  const guesses = readDraft(values);
  const most = values.integer('max-tokens', 0, 2 ** 31 - 1) ?? 512;
  const prompt = await readPrompt(values);
  const loaded = await openModel(values, interrupted, 1);
  const { engine, model } = loaded;
  checkWrites(values.file(1), model.description);
  const quiet = values.flag('quiet') || values.flag('json');
  try {
    const draft = 'mode' in guesses ? guesses.mode
      : await loadModel(engine, guesses.file,
        { ...accessTo(guesses.file, note), signal: interrupted });
    const session = model.openSession({ ...sampling, draft });
    const ids = promptIds(values, prompt, session);
    const chats = isChat(values, model);
    if (!quiet) {
      note(`${dim(heading(loaded))}\n`);
      if (chats && !values.flag('chat')) {
        note(dim('  The file has a chat template, and answers; --no-chat continues the text.') +
          '\n');
      }
    }
    const asText = values.text('ids') === undefined;
    // The story begins with what it was told; a chat shows the answer alone.
    const lead = asText && !values.flag('json') && !chats && !prompt.piped ? prompt.text : '';
    const result = await stream(session, ids, most, lead, values);
    if (values.flag('json')) {
      await writeJson({
        model: loaded.path, ...result, prompt: ids, loadMs: loaded.loadMs,
        sampling: { ...sampling, seed: session.seed },
        engine: engineReport(engine),
        memory: { session: session.memory(), model: model.memory() },
      });
    } else {
      await write(asText ? '\n' : `${result.tokens.join(' ')}\n`);
    }
    if (!quiet) note(`\n${dim(sums(session, result))}`);
    return interrupted.aborted ? 130 : 0;
  } finally {
    engine.destroy();
  }
}

export const generateText: Command = {
  name: 'generate',
  summary: 'continue a text, or answer a question',
  usage: 'FILE "PROMPT" [options]',
  details: 'The prompt may also come on stdin. The text goes to stdout, everything else to ' +
    'stderr. Ctrl-C ends the text; the summary is still printed.',
  example: 'onekv generate stories-q-mqa "Once upon a time" --max-tokens 100',
  options: [
    { name: 'prompt', short: 'p', value: 'TEXT', help: 'the text to continue, or the ' +
      'question to answer' },
    { name: 'chat', help: "put the prompt into the file's chat template (the default for files " +
      'that have one)' },
    { name: 'no-chat', aliases: ['raw'], help: 'continue the prompt as it stands' },
    { name: 'system', value: 'TEXT', help: "the chat's system prompt" },
    { name: 'ids', value: 'IDS', help: 'token ids instead of text, for models without a ' +
      'tokenizer' },
    ...samplingOptions,
    { name: 'max-tokens', short: 'n', aliases: ['n-predict', 'predict'], value: 'N',
      help: 'how many tokens to write at most (default 512)' },
    { name: 'stop', value: 'TEXT', multiple: true,
      help: 'end the text before this string; may be given several times' },
    draftOption, ...modelOptions, ...engineOptions, ...outputOptions,
  ],
  instead: 'a prompt of several words stands between quotes',
  computes: true,
  run,
};
