// onekv inspect: what a file holds and what it would take, from its header alone.
import { Engine, headsName, readHeader, standardGroups } from '../src/engine-entry-node.js';
import type { CacheCounter, CacheType, Metadata,
  ModelDescription } from '../src/engine-entry-node.js';
import { UsageError } from './arguments.js';
import type { Command, Values } from './arguments.js';
import { accessTo } from './downloads.js';
import { findModel } from './model-file.js';
import { cacheTypes, note, variant, write, writeJson } from './shared.js';
import { bytes, count, parseBytes, table } from './units.js';

interface CacheRow {
  /** Whose cache: this model's, or that of standard QKV attention with some KV heads. */
  name: string;
  /** Of one token, and of the file's whole context. */
  bytesPerToken: Record<CacheType, number>;
  contextBytes: Record<CacheType, number>;
  /** Tokens that the budget holds, at most the file's context. */
  budgetTokens: Record<CacheType, number> | undefined;
}

interface Report {
  model: string;
  name: string | undefined;
  fileBytes: number;
  description: ModelDescription;
  tokenizer: object | undefined;
  chatTemplate: boolean;
  parameters: number;
  weightBytes: number;
  scratchBytes: number;
  cache: CacheRow[];
  budgetBytes: number | undefined;
}

const perType = (value: (type: CacheType) => number) =>
  Object.fromEntries(cacheTypes.map((type) => [type, value(type)])) as Record<CacheType, number>;

/** The model's own cache and standard QKV with all, some and one of the heads. */
function cacheRows(d: ModelDescription, cache: CacheCounter,
  budget: number | undefined): CacheRow[] {
  const standards = [d.queryHeads, ...standardGroups(d.queryHeads),
    ...(d.queryHeads > 1 ? [1] : [])];
  const row = (name: string, standardHeads?: number): CacheRow => {
    const ask = (cacheType: CacheType) => ({ standardHeads, cacheType });
    return {
      name,
      bytesPerToken: perType((type) => cache.bytes(1, ask(type)).total),
      contextBytes: perType((type) => cache.bytes(d.contextWindow, ask(type)).total),
      budgetTokens: budget === undefined ? undefined
        : perType((type) => cache.tokens(budget, ask(type))),
    };
  };
  const kind = d.latent > 0 ? 'a latent' : `${d.projection} ${d.heads}`;
  return [row(`this model (${kind})`),
    ...standards.map((g) => row(`standard QKV ${headsName(d.queryHeads, g)}`, g))];
}

function tokenizerOf(metadata: Metadata): object | undefined {
  const tokens = metadata.strings('tokenizer.ggml.tokens');
  if (tokens === undefined) return undefined;
  const token = (key: string) => {
    const id = metadata.number(`tokenizer.ggml.${key}_token_id`);
    return id === undefined ? undefined : { id, text: tokens[id] };
  };
  return {
    model: metadata.string('tokenizer.ggml.model'),
    pre: metadata.string('tokenizer.ggml.pre'),
    tokens: tokens.length,
    bos: token('bos'),
    eos: token('eos'),
    eot: token('eot'),
    addBos: metadata.boolean('tokenizer.ggml.add_bos_token'),
  };
}

function makeReport(engine: Engine, path: string,
  budgetBytes: number | undefined): Promise<Report> {
  return readHeader(engine, path, accessTo(path, note), (loader): Report => {
    const description = loader.describe();
    return {
      model: path,
      name: loader.metadata.string('general.name'),
      fileBytes: loader.fileBytes,
      description,
      tokenizer: tokenizerOf(loader.metadata),
      chatTemplate: loader.metadata.string('tokenizer.chat_template') !== undefined,
      ...loader.estimate(),
      cache: description.causal ? cacheRows(description, loader.cache, budgetBytes) : [],
      budgetBytes,
    };
  });
}

function shapeLines(r: Report): string[] {
  const d = r.description;
  const input = d.features > 0 ? `${d.features} features` : `${d.vocabulary} tokens`;
  return [
    `${r.name ?? r.model}: ${variant(d)}`,
    `  layers ${d.layers}, width ${d.embedding}, MLP ${d.feedForward} (${d.activation}), ` +
      `${d.queryHeads} query heads, ${d.kvHeads} KV head${d.kvHeads === 1 ? '' : 's'} of width ` +
      `${d.headWidth}, ${d.norm}` +
      `${d.qkNorm ? ', QK norm' : ''}${d.scoreMap ? ', (X)+ score map' : ''}`,
    `  input ${input}, ${d.outputs} outputs, ${d.causal ? 'causal' : 'bidirectional'}, ` +
      `context ${d.contextWindow}`,
    ...(d.windowedLayers === 0 ? [] : [`  ${d.windowedLayers} of ${d.layers} layers see and ` +
      `cache the last ${d.window} positions only`]),
    ...(d.convolutions === 0 ? [] : [`  ${d.convolutions} of ${d.layers} layers are short ` +
      `convolutions, which cache a few positions only`]),
    `  ${count(r.parameters)} parameters, file ${bytes(r.fileBytes)}, ` +
      `weights in memory ${bytes(r.weightBytes)}, working memory ${bytes(r.scratchBytes)}`,
    `  tokenizer: ${r.tokenizer === undefined ? 'none' : tokenizerLine(r.tokenizer)}` +
      `; chat template: ${r.chatTemplate ? 'yes' : 'none'}`,
  ];
}

function tokenizerLine(tokenizer: object): string {
  const t = tokenizer as { model?: string; pre?: string; tokens: number };
  return `${t.model}${t.pre === undefined ? '' : ` (${t.pre})`}, ${t.tokens} tokens`;
}

function cacheTable(r: Report, title: string,
  of: (row: CacheRow) => Record<CacheType, number>, format: (value: number) => string): string {
  const own = of(r.cache[0] as CacheRow);
  return table([
    [title, ...cacheTypes, 'against this (f16)'],
    ...r.cache.map((row) => [row.name, ...cacheTypes.map((t) => format(of(row)[t])),
      `${(of(row).f16 / own.f16).toFixed(2)}`]),
  ]);
}

/** Of one token, and of as many as the context holds, which windows make less than so many times
 * one token. */
function cacheTables(r: Report): string[] {
  return [
    cacheTable(r, 'cache per token, bytes', (row) => row.bytesPerToken, String),
    cacheTable(r, `cache of ${r.description.contextWindow} tokens`, (row) => row.contextBytes,
      bytes),
  ];
}

function budgetTable(r: Report): string {
  if (r.budgetBytes === undefined) return '';
  return table([
    [`tokens in ${bytes(r.budgetBytes)} (all: ${r.description.contextWindow}, its whole context)`,
      ...cacheTypes],
    ...r.cache.map((row) => [row.name, ...cacheTypes.map((t) => {
      const tokens = row.budgetTokens?.[t] ?? 0;
      return tokens === r.description.contextWindow ? 'all' : String(tokens);
    })]),
  ]);
}

async function run(values: Values): Promise<number> {
  const path = findModel(values.file());
  const text = values.text('budget');
  const budget = text === undefined ? undefined : parseBytes(text);
  if (text !== undefined && budget === undefined) {
    throw new UsageError(`--budget: found ${JSON.stringify(text)}, expected bytes like 64MB`);
  }
  const engine = await Engine.open({ threads: 1, simd: 'simd128' });
  try {
    const found = await makeReport(engine, path, budget);
    if (values.flag('json')) {
      await writeJson(found);
    } else {
      const parts = [shapeLines(found).join('\n'),
        ...(found.cache.length > 0 ? [...cacheTables(found), budgetTable(found)] : [])];
      await write(`${parts.filter(Boolean).join('\n\n')}\n`);
    }
    return 0;
  } finally {
    engine.destroy();
  }
}

export const inspect: Command = {
  name: 'inspect',
  summary: "show a model's shape, tokenizer, and the bytes that its cache takes",
  usage: 'FILE [options]',
  details: 'Reads the header only. The rows called standard QKV are computed for a model with ' +
    'the same layers, windows and head width, and as many KV heads as are named (GQA-8, GQA-4 ' +
    'and GQA-3 where they share the query heads evenly).',
  example: 'onekv inspect stories-q-mqa --budget 1MB',
  options: [
    { name: 'budget', value: 'BYTES', help: 'also show how many tokens this much cache holds: ' +
      '64MB, 1GiB' },
    { name: 'json', help: 'one JSON object on stdout instead of tables' },
  ],
  run,
};
