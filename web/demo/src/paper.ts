// The paper's tables with our figures beside them: each of ours is a link to the file it is from.
import facts from 'virtual:facts';
import type { LossRow, TableRow, TaskRow } from 'virtual:facts';
import { find, h } from './dom.js';
import type { Child } from './dom.js';
import { bytes, exactBytes, ratio } from './format.js';
import { paperRows } from './paper-data.js';
import type { PaperRow } from './paper-data.js';

const memoryFile = 'memory-paper.json';

const signed = (percent: number | null | undefined) => (typeof percent === 'number'
  ? `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(1)} %` : '–');

const cell = (...content: Child[]) => h('td', { class: 'num' }, ...content);
const ours = (...content: Child[]) => h('td', { class: 'num ours' }, ...content);
const head = (text: string, ...classes: string[]) =>
  h('th', { scope: 'col', class: ['num', ...classes].join(' ') }, text);
const group = (text: string, columns: number, ...classes: string[]) =>
  h('th', { colspan: columns, scope: 'colgroup', class: ['num', ...classes].join(' ') }, text);

/** A figure that leads to the file it was read from. */
const link = (file: string, text: string) =>
  h('a', { href: `results/${file}`, title: `from ${file}` }, text);

/** ' 1/32': what part of it that is. */
const part = (value: number, of: number | undefined) => (of === undefined || of === value ? ''
  : h('small', { class: 'soft' }, ` 1/${ratio(of / value)}`));

const measuredOf = (row: PaperRow | undefined) =>
  facts.memory.find(({ model }) => model === row?.model);

function measuredCell(row: PaperRow): HTMLElement {
  const found = measuredOf(row);
  if (found === undefined) return ours('–');
  return ours(link(memoryFile, bytes(found.bytes)),
    part(found.bytes, measuredOf(paperRows[0])?.bytes),
    found.computed !== undefined && h('small', {}, ' computed'));
}

/** Perplexity and its change, as we trained them. */
function trainedCells(row: TableRow | undefined): HTMLElement[] {
  if (row === undefined) return [ours('not run'), cell('–')];
  const spread = row.seeds > 1 ? ` ± ${(row.spread / 2).toFixed(2)}` : '';
  return [ours(link('table.json', row.perplexity.toFixed(2)), spread),
    cell(row.variant === 'QKV' ? '–' : signed(row.change))];
}

function languageRow(row: PaperRow): HTMLElement {
  const isOne = row.name.startsWith('Q-K=V');
  const trained = facts.table?.find(({ variant }) => variant === row.variant);
  return h('tr', { 'data-variant': row.variant },
    h('th', { scope: 'row', class: isOne ? 'one-ink' : undefined }, row.name),
    cell(row.perplexity.toFixed(2)), cell(signed(row.change)),
    cell(exactBytes(row.bytesPerToken), part(row.bytesPerToken, paperRows[0]?.bytesPerToken)),
    measuredCell(row), facts.table !== undefined && trainedCells(trained));
}

/** From the least to the most that one of them has. */
function trainedSize(): string {
  const sizes = (facts.table ?? []).map(({ parameters }) => parameters / 1e6);
  return `${Math.min(...sizes).toFixed(1)} to ${Math.max(...sizes).toFixed(1)} M`;
}

function languageTable(): HTMLElement {
  const both = facts.table !== undefined;
  return h('table', { class: 'paper-table' },
    h('caption', {}, 'Language models',
      !both && '. Our own training of these eight is not done yet'),
    h('thead', {},
      h('tr', {}, h('td'), group('the paper: 300M, SlimPajama, bf16', 3),
        group('ours: its cache, f16', 1, 'ours'),
        both && group(`ours: ${trainedSize()} parameters, stories`, 2, 'ours')),
      h('tr', {}, h('th', { scope: 'col' }, 'attention'), head('perplexity'), head('change'),
        head('cache a token'), head('32 Ki tokens', 'ours'),
        both && [head('perplexity', 'ours'), head('change')])),
    h('tbody', {}, paperRows.map(languageRow)));
}

/** The file has more: these show what each kind of rounding costs. */
const isCommon = ({ weights, cache: type }: LossRow) =>
  ['f32 f32', 'q8_0 f16', 'q8_0 i8', 'q4_0 i8'].includes(`${weights} ${type}`);

/** What sharing and rounding cost the two models above. */
function lossTable(): HTMLElement {
  return h('table', { class: 'task-table' },
    h('caption', {}, 'The two models above: perplexity on held-out stories'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'weights, cache'),
      head('standard QKV'), head('Q-K=V + MQA'))),
    h('tbody', {}, facts.losses.filter(isCommon).map(({ weights, cache: type, one, std }) =>
      h('tr', {}, h('th', { scope: 'row' }, `${weights}, ${type}`),
        cell(link('losses.json', std.toFixed(2))), cell(link('losses.json', one.toFixed(2)))))));
}

function taskTable(suite: string, rows: TaskRow[]): HTMLElement {
  const tasks = [...new Set(rows.map(({ task }) => task))];
  const variants = [...new Set(rows.map(({ variant }) => variant))];
  const accuracy = (variant: string, task: string) => {
    const row = rows.find((one) => one.variant === variant && one.task === task);
    if (row === undefined) return cell('–');
    return cell(link('tasks.json', row.mean.toFixed(3)), h('small', { class: 'soft' },
      row.paper === null ? '' : ` ${row.paper.toFixed(3)}`));
  };
  return h('table', { class: 'task-table' },
    h('caption', {}, `${suites[suite] ?? suite}: accuracy, ours and (smaller) the paper’s`),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'attention'), tasks.map((t) => head(t)))),
    h('tbody', {}, variants.map((variant) => h('tr', {},
      h('th', { scope: 'row', class: variant.startsWith('Q-K=V') ? 'one-ink' : undefined },
        variant), tasks.map((task) => accuracy(variant, task))))));
}

const suites: Record<string, string> = {
  'lists-16': 'Lists of 16 digits', 'lists-64': 'Lists of 64 digits',
  'lists-16-50k': 'Lists of 16 digits, longer training', odd: 'The odd one of ten images',
  'lists-64-50k': 'Lists of 64 digits, longer training', digits: 'Digits',
  fashion: 'Fashion-MNIST',
};

/** Suites that have a name here and in which several variants were run. */
const comparable = ({ suite, rows }: { suite: string; rows: TaskRow[] }) =>
  suite in suites && new Set(rows.map(({ variant }) => variant)).size > 2;

/** All benchmarks that were run, by what they ran in. */
function benchList(): HTMLElement {
  return h('div', { class: 'bench-list' }, h('h3', {}, 'Benchmarks that were run'),
    h('ul', {}, facts.benches.map(({ file, what, engine, date, cpu }) => h('li', {},
      h('a', { href: `results/${file}` }, file),
      h('small', { class: 'soft' }, ` ${[what, engine, cpu, date].filter(Boolean).join(', ')}`)))));
}

export function startPaper(): void {
  const scroll = (table: HTMLElement) => h('div', { class: 'scroll', tabindex: 0, role: 'region',
    'aria-label': table.querySelector('caption')?.textContent ?? 'Table' }, table);
  find('#paper .shown').append(scroll(languageTable()),
    h('p', { class: 'note' }, 'Perplexities do not compare across the line: other sizes, other ' +
      'texts. How a variant stands to QKV does. The paper scored padding too, which makes its ' +
      'changes look smaller. Our bytes were counted by the allocator, with all pages taken.'),
    h('div', { class: 'task-tables' }, facts.losses.length > 0 && scroll(lossTable()),
      facts.tasks.filter(comparable).map(({ suite, rows }) => scroll(taskTable(suite, rows))),
      benchList()));
}
