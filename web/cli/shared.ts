// What the commands share: options of engine and model, loading with a progress bar, and the
// words that describe a model.
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { Engine, loadModel } from '../src/engine-entry-node.js';
import type { Arithmetic, CacheType, EngineOptions, GenerateResult, Model, ModelDescription }
  from '../src/engine-entry-node.js';
import { missing } from '../src/source/load-node.js';
import { UsageError } from './arguments.js';
import type { Option, Values } from './arguments.js';
import { accessTo } from './downloads.js';
import { findModel } from './model-file.js';
import { Progress } from './progress.js';

export const cacheTypes = ['f16', 'f32', 'i8', 'i4'] as const satisfies readonly CacheType[];
export const arithmetics = ['int8', 'int16', 'f32'] as const satisfies readonly Arithmetic[];

export const engineOptions: readonly Option[] = [
  { name: 'threads', short: 't', value: 'N', help: '1 to 32, or auto (default: auto, at most 16 ' +
    'and one for each logical core; a short trial at the start finds how many are fastest)' },
  { name: 'simd', value: 'LEVEL', help: 'auto, relaxed or simd128 (default auto: relaxed; on ' +
    'Node 20 the program restarts itself with the flag for it)' },
];

export const modelOptions: readonly Option[] = [
  { name: 'cache-type', value: 'TYPE', help: 'element type of the cache: f16, f32, i8 ' +
    'or i4 (default f16)' },
  { name: 'arithmetic', value: 'A', help: 'how quantised matrices are multiplied: int8 ' +
    '(default), int16 (more precise) or f32 (most precise and slowest)' },
  { name: 'context', short: 'c', aliases: ['ctx-size'], value: 'N', help: 'context ' +
    "window in tokens (default, and at most: the file's)" },
];

export const outputOptions: readonly Option[] = [
  { name: 'json', help: 'one JSON object on stdout instead of text' },
  { name: 'quiet', short: 'q', help: 'neither heading nor summary' },
];

export function readEngineOptions(values: Values): EngineOptions {
  const threads = values.text('threads') === 'auto' ? undefined : values.integer('threads', 1, 32);
  const simd = values.choice('simd', ['auto', 'relaxed', 'simd128']);
  return { threads, simd };
}

export interface Loaded {
  engine: Engine;
  model: Model;
  path: string;
  loadMs: number;
}

/** Says so where --context asks for more than there is. */
export function noteWindow(asked: number | undefined, found: number): void {
  if (asked === undefined || asked <= found) return;
  note(`--context ${asked}: the file's window of ${found} tokens is taken`);
}

/** Opens the engine and the command's FILE, after which `more` arguments may come. The engine is
 * the caller's to destroy. */
export async function openModel(values: Values, signal: AbortSignal,
  more = 0): Promise<Loaded> {
  const path = findModel(values.file(more));
  const cacheType = values.choice('cache-type', cacheTypes);
  const arithmetic = values.choice('arithmetic', arithmetics);
  const contextWindow = values.integer('context', 1, 2 ** 31 - 1);
  const engine = await Engine.open(readEngineOptions(values));
  const progress = new Progress('loading');
  const started = performance.now();
  try {
    const model = await loadModel(engine, path, {
      ...accessTo(path, note),
      signal,
      onProgress: ({ loaded, total }) => progress.show(loaded, total),
      cacheType, arithmetic, contextWindow,
    });
    progress.clear();
    noteWindow(contextWindow, model.contextWindow);
    return { engine, model, path, loadMs: performance.now() - started };
  } catch (error) {
    engine.destroy();
    throw error;
  } finally {
    progress.clear();
  }
}

/** "llama, Q-K=V MQA (1 of 16 heads), rope rotate-at-read". */
export function variant(d: ModelDescription): string {
  const heads = d.heads === 'MHA' ? `MHA (${d.queryHeads} heads)`
    : `${d.heads} (${d.kvHeads} of ${d.queryHeads} heads)`;
  const position = d.sharedRope === undefined ? d.position : `rope ${d.sharedRope}`;
  if (d.latent > 0) {
    const latent = `MLA (a latent of ${d.latent} for ${d.queryHeads} heads)`;
    return [d.architecture, latent, position].join(', ');
  }
  return [d.architecture, `${d.projection} ${heads}`, position].join(', ');
}

/** The engine in a JSON result. */
export function engineReport(engine: Engine): object {
  const { simd, threads, notes } = engine;
  return { simd, threads, notes };
}

export const noTemplate = '--system is for a chat, and the file has no chat template';

/** Error: UsageError where the model `file` gives vectors or classes, and no text. */
export function checkWrites(file: string, { causal, features }: ModelDescription): void {
  if (causal) return;
  throw new UsageError(`${file} reads its input whole and writes no text` +
    (features > 0 ? '' : '; it gives vectors of texts: onekv serve, /v1/embeddings'));
}

/** Why a text ended, for people. */
export const endings: Readonly<Record<GenerateResult['reason'] | 'interrupted', string>> = {
  end: 'the model ended it', stop: 'ended by --stop', length: 'cut at --max-tokens',
  context: 'the context window is full', interrupted: 'interrupted',
};

/** Waits for all of stdin. (readFileSync(0) throws EAGAIN where a pipe has nothing yet.) */
export const readStdin = async (): Promise<string> => textOf(await buffer(process.stdin), 'stdin');

/** A file as text. Error: UsageError. */
export const readText = (file: string): string => textOf(readBytes(file), file);

/** Bytes as text, none of which becomes another one. Error: UsageError. */
function textOf(found: Buffer, name: string): string {
  const text = found.toString('utf8');
  if (isUtf8(found)) return text;
  const again = Buffer.from(text);
  const at = found.findIndex((byte, i) => byte !== again[i]);
  throw new UsageError(`${name}: found bytes that are not UTF-8 at ` +
    `${at < 0 ? again.length : at}, expected text`);
}

/** The same as bytes. */
export function readBytes(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const { code } = error as { code?: string };
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? missing(file)
      : code === 'EISDIR' ? 'it is a folder, expected a file'
        : error instanceof Error ? error.message : String(error);
    throw new UsageError(`${file}: ${why}`);
  }
}

/** Token ids that were typed or are in a file, between blanks or commas. */
export function parseIds(text: string): number[] {
  return text.split(/[\s,[\]]+/).filter(Boolean).map((word) => {
    if (/^\d+$/.test(word)) return Number(word);
    throw new UsageError(`token ids: found ${JSON.stringify(word)}, expected integers`);
  });
}

/** Writes to stdout, waiting while it is full. */
export async function write(text: string): Promise<void> {
  if (text === '' || process.stdout.write(text)) return;
  await new Promise<void>((resolve) => {
    process.stdout.once('drain', resolve);
  });
}

export async function writeJson(value: unknown): Promise<void> {
  await write(`${JSON.stringify(value, null, 2)}\n`);
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Faint where the stream is a terminal that wants colours; elsewhere as it is. */
export function dim(text: string, stream: NodeJS.WriteStream = process.stderr): string {
  const { NO_COLOR: refused, TERM: terminal } = process.env;
  if (stream.isTTY !== true || refused || terminal === 'dumb' || text === '') return text;
  return `\x1b[2m${text}\x1b[22m`;
}
