// The paper's tables with our figures beside them: a table's caption leads to the file that ours
// are from. The charts above them are paper-charts.ts's.
import facts from 'virtual:facts';
import type { LossRow, TaskRow } from 'virtual:facts';
import { append, find, h } from './dom.js';
import type { Child } from './dom.js';
import { exactBytes, ratio } from './format.js';
import { costChart, peersChart, trainedSize } from './paper-charts.js';
import { paperRows } from './paper-data.js';
import type { PaperRow } from './paper-data.js';

const memoryFile = 'memory-paper.json';

const signed = (percent: number | null | undefined) => (typeof percent === 'number'
  ? `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(1)} %` : '–');

const num = (...content: Child[]) => h('td', { class: 'num' }, ...content);
const ours = (...content: Child[]) => h('td', { class: 'num ours' }, ...content);
const head = (text: string, ...classes: string[]) =>
  h('th', { scope: 'col', class: ['num', ...classes].join(' ') }, text);

/** A caption, and the file that a table's figures of ours are from: the only link of a table, so
 * that a keyboard is through with it in one step. */
const captioned = (text: string, ...files: string[]) => h('caption', {}, text, files.flatMap(
  (file, i) => [i === 0 ? ' ' : ' and ', h('a', { href: `results/${file}` }, file)]));

/** What stands beside a figure, on phones below it. */
const aside = (...content: Child[]) => h('small', { class: 'soft' }, ...content);

/** '1/32': what part of it that is. */
const part = (value: number, of: number | undefined) =>
  (of === undefined || of === value ? '1' : `1/${ratio(of / value)}`);

const measuredOf = (row: PaperRow | undefined) =>
  facts.memory.find(({ model }) => model === row?.model);

/** The cache that was counted was of so many tokens. */
const countedTokens = 32 * 1024;

function measuredCell(row: PaperRow): HTMLElement {
  const found = measuredOf(row);
  if (found === undefined) return ours('not run');
  return ours(part(found.bytes, measuredOf(paperRows[0])?.bytes), ' ',
    aside(exactBytes(found.bytes / countedTokens), found.computed !== undefined && '*'));
}

const trainedOf = (variant: string) => facts.table?.find((row) => row.variant === variant);

/** Perplexity's change, and itself, as we trained them. */
function trainedCell(variant: string): HTMLElement {
  const row = trainedOf(variant);
  if (row === undefined) return ours('not run');
  const spread = row.seeds > 1 ? ` ± ${(row.spread / 2).toFixed(2)}` : '';
  return ours(row.variant === 'QKV' ? '–' : signed(row.change), ' ',
    aside(row.perplexity.toFixed(2), spread));
}

const languageRow = (row: PaperRow) => h('tr', { 'data-variant': row.variant },
  h('th', { scope: 'row', class: row.name.startsWith('Q-K=V') ? 'one-ink' : undefined }, row.name),
  num(part(row.bytesPerToken, paperRows[0]?.bytesPerToken), ' ',
    aside(exactBytes(row.bytesPerToken))),
  measuredCell(row),
  num(signed(row.change), ' ', aside(row.perplexity.toFixed(2))),
  trainedCell(row.variant));

function languageTable(): HTMLElement {
  const group = (text: string) => h('th', { colspan: 2, scope: 'colgroup', class: 'group' }, text);
  return h('table', { class: 'paper-table' },
    captioned('Language models: what each variant saves, and what it costs. Ours from', memoryFile,
      'table.json'),
    h('thead', {},
      h('tr', {}, h('td'), group('cache'), group('perplexity against QKV')),
      h('tr', {}, h('th', { scope: 'col' }, 'attention'), head('paper'), head('ours', 'ours'),
        head('paper'), head('ours', 'ours'))),
    h('tbody', {}, paperRows.map(languageRow)));
}

/** What the small figures are, and which compare. */
const languageNote = () => h('p', { class: 'note' }, 'Cache, small: bytes per token in 16 bits, ' +
  'the paper’s computed, ours counted by the allocator at 32\u00a0Ki tokens (* computed: 4 GiB ' +
  'do not hold it). Perplexity, small: the ' +
  `paper’s 300M models on SlimPajama; ours of ${trainedSize()} parameters on stories. Other ` +
  'sizes, other texts: only the changes compare, and the paper’s look smaller, since it scored ' +
  'padding too.');

/** The file has more: these show what each kind of rounding costs. */
const isCommon = ({ weights, cache: type }: LossRow) =>
  ['f32 f32', 'shipped f16', 'shipped i8', 'shipped i4'].includes(`${weights} ${type}`);

/** What sharing and rounding cost the two models above. */
function lossTable(): HTMLElement {
  return h('table', { class: 'task-table' },
    captioned('The two models above: perplexity on held-out stories, from', 'losses.json'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'weights, cache'),
      head('standard QKV'), head('Q-K=V MQA'))),
    h('tbody', {}, facts.losses.filter(isCommon).map(({ weights, cache: type, one, std }) =>
      h('tr', {}, h('th', { scope: 'row' }, `${weights}, ${type}`),
        num(std.toFixed(2)), num(one.toFixed(2))))));
}

function taskTable(suite: string, rows: TaskRow[]): HTMLElement {
  const tasks = [...new Set(rows.map(({ task }) => task))];
  const variants = [...new Set(rows.map(({ variant }) => variant))];
  const accuracy = (variant: string, task: string) => {
    const row = rows.find((one) => one.variant === variant && one.task === task);
    if (row === undefined) return num('–');
    return num(row.mean.toFixed(3), ' ',
      row.paper !== null && aside(row.paper.toFixed(3)));
  };
  return h('table', { class: 'task-table' },
    captioned(`${suites[suite] ?? suite}: accuracy, ours and (smaller) the paper’s; from`,
      'tasks.json'),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'attention'),
      tasks.map((task) => head(taskNames[task] ?? task)))),
    h('tbody', {}, variants.map((variant) => h('tr', {},
      h('th', { scope: 'row', class: variant.startsWith('Q-K=V') ? 'one-ink' : undefined },
        variant), tasks.map((task) => accuracy(variant, task))))));
}

/** Where the paper's names are short. */
const taskNames: Record<string, string> = { sub: '9 − x', odd: 'accuracy' };

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
  return h('div', { class: 'bench-list' },
    h('ul', {}, facts.benches.map(({ file, what, engine, date, cpu }) => h('li', {},
      h('a', { href: `results/${file}` }, what),
      h('small', { class: 'soft' }, ` ${[engine, cpu, date].join(', ')}`)))),
    h('p', { class: 'note' }, 'S and M: shapes of some 15 and 110 million parameters, with ' +
      'random weights.'));
}

/** Closed until somebody wants it. */
const folded = (title: string, ...content: Child[]) =>
  h('details', { class: 'folded' }, h('summary', {}, title), ...content);

export function startPaper(): void {
  const scroll = (table: HTMLElement) => h('div', { class: 'scroll' }, table);
  append(find('#paper .shown'), costChart(), peersChart(),
    folded('The figures of the chart, the paper’s and ours', scroll(languageTable()),
      languageNote()),
    folded('What rounding costs the two models above', scroll(lossTable())),
    folded('Lists, images and digits: the paper’s other tasks', h('div', { class: 'task-tables' },
      facts.tasks.filter(comparable).map(({ suite, rows }) => scroll(taskTable(suite, rows))))),
    folded('Benchmarks that were run', benchList()));
}
