// A run's results as a document (schema.json), as a table for the terminal and as Markdown.
import type { Results, Row } from '../../src/bench/runner.js';
import { paperBytes, paperCaches } from '../../src/bench/paper.js';
import { bytes, digits, table } from '../units.js';

export interface Report extends Results {
  format: 'onekv-bench';
  version: 1;
  /** ISO 8601, UTC. */
  date: string;
  /** Of the package; and of the checkout, "+" behind it when there are changes, or null. */
  package: string;
  commit: string | null;
  machine: { cpu: string; architecture: string; cores: number; memoryBytes: number };
  /** "Node v24.1.0", "Chromium 140". */
  engine: string;
  options: Record<string, unknown>;
  models: { title: string; hash: string; parameters: number }[];
  seconds: number;
  /** Of all cores' time during the run; null where it cannot be told. */
  busy: { own: number; others: number } | null;
}

/** A value with its unit, as people read it. */
export function show(value: number, unit: string): string {
  if (unit === 'bytes') return bytes(value);
  if (unit === 'per token' || unit === 'bits') return value.toFixed(4);
  if (unit === 'ms') return value >= 1000 ? `${digits(value / 1000)} s` : `${digits(value)} ms`;
  if (unit === 'tokens') return String(value);
  return `${digits(value)} ${unit}`;
}

const percent = (share: number) => `±${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** "2t relaxed f16". */
export const settingOf = (row: Row) => [
  ...(row.threads === undefined ? [] : [`${row.threads}t`]), row.simd, row.cacheType,
].filter(Boolean).join(' ');

const cellOf = (row: Row | undefined) => (row === undefined ? '' : show(row.median, row.unit) +
  (row.computed === undefined ? '' : ' *') +
  (row.values.length > 1 ? ` ${percent(row.spread)}` : ''));

/** The rate that all rows have, said once above them; undefined: each says its own. */
function commonUnit(rows: readonly Row[]): string | undefined {
  const [unit, other] = new Set(rows.map((row) => row.unit));
  return other === undefined && unit?.endsWith('/s') === true ? unit : undefined;
}

/** "speed, tokens/s". */
function headingOf(suite: string, rows: readonly Row[]): string {
  const unit = commonUnit(rows);
  return unit === undefined ? suite : `${suite}, ${unit}`;
}

/** Heading, then one line per model and setting with all that was measured of it. */
function rowsOf(rows: readonly Row[]): string[][] {
  const unit = commonUnit(rows);
  const names = [...new Set(rows.map(({ name }) => name))];
  const lines = new Map<string, Row[]>();
  for (const row of rows) {
    const key = JSON.stringify([row.model, settingOf(row)]);
    lines.set(key, [...lines.get(key) ?? [], row]);
  }
  return [
    ['model', 'setting', ...names],
    ...[...lines].map(([key, line]) => [...JSON.parse(key) as string[],
      ...names.map((name) => cellOf(line.find((row) => row.name === name))
        .replace(unit === undefined ? '' : ` ${unit}`, ''))]),
  ];
}

function bySuite(rows: readonly Row[]): Map<string, Row[]> {
  const suites = new Map<string, Row[]>();
  for (const row of rows) suites.set(row.suite, [...suites.get(row.suite) ?? [], row]);
  return suites;
}

/** Bytes that were measured for the paper's variants at f16, beside what the paper prints. */
export function paperRows(rows: readonly Row[]): string[][] {
  const measured = (model: string, name: string) => rows.find((row) => row.model === model &&
    row.name === name && row.cacheType === 'f16')?.median;
  const lines = paperCaches.flatMap((cache) => {
    const { shape, projection, kvHeads, name, printed } = cache;
    const heads = paperCaches.find((other) => other.shape === shape)?.kvHeads;
    const words = kvHeads === heads ? 'MHA' : kvHeads === 1 ? 'MQA' : `GQA-${kvHeads}`;
    const model = `${shape} ${projection} ${words} q8_0`;
    const short = measured(model, 'cache of 2048');
    const long = measured(model, 'cache of 32768');
    const token = measured(model, 'a token');
    if (short === undefined || long === undefined || token === undefined) return [];
    const means = paperBytes(cache);
    return [[`${shape} ${name}`, String(token), bytes(short), bytes(long), printed,
      Number.isNaN(means) ? '' : bytes(means)]];
  });
  return lines.length === 0 ? [] : [
    ['16 bits an element', 'B a token', 'at 2048', 'at 32768', 'paper prints', 'which is'],
    ...lines,
  ];
}

function footnotes({ rows, notes, noise, complete, machine, engine, busy, commit, seconds }:
  Report): string[] {
  const computed = [...new Set(rows.map((row) => row.computed).filter(Boolean))];
  return [
    ...computed.map((how) => `* computed ${how}`),
    ...notes,
    ...(complete ? [] : ['Interrupted: this is what there was.']),
    `${machine.cpu}, ${machine.cores} cores; ${engine}`,
    `${commit ?? 'no checkout'}; ${Math.round(seconds)} s; noise of a fixed piece of work ` +
      percent(noise) +
      (busy === null ? '' : `; others took ${(100 * busy.others).toFixed(0)} % of the cores`),
  ];
}

/** For a terminal. */
export function textOf(report: Report): string {
  const parts = [...bySuite(report.rows)].map(([suite, rows]) =>
    `${headingOf(suite, rows)}\n${table(rowsOf(rows))}`);
  const paper = paperRows(report.rows);
  if (paper.length > 0) parts.push(`the paper's cache\n${table(paper)}`);
  return `${[...parts, footnotes(report).join('\n')].join('\n\n')}\n`;
}

function markdownTable(rows: readonly (readonly string[])[]): string {
  const [heading = [], ...rest] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(heading), `|${heading.map((_, i) => (i < 1 ? '---|' : '--:|')).join('')}`,
    ...rest.map(line)].join('\n');
}

/** A command as code, on several lines where it is long. */
function commandText(command: string): string {
  const lines: string[] = [];
  for (const word of command.split(' ')) {
    const longer = `${lines.at(-1) ?? ''} ${word}`;
    if (lines.length > 0 && longer.length < 90) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return `    ${lines.join(' \\\n      ')}`;
}

export function markdownOf(report: Report, command: string): string {
  const parts = [...bySuite(report.rows)].map(([suite, rows]) =>
    `## ${headingOf(suite, rows)}\n\n${markdownTable(rowsOf(rows))}`);
  const paper = paperRows(report.rows);
  if (paper.length > 0) parts.push(`## The paper's cache\n\n${markdownTable(paper)}`);
  const notes = footnotes(report).map((note) => `- ${note.replace(/^\* /, '\\* ')}`).join('\n');
  const made = `Made on ${report.date.slice(0, 10)} by`;
  return `${['# OneKV bench', made, commandText(command), ...parts,
    notes].join('\n\n')}\n`;
}
