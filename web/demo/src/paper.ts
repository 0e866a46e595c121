// The paper's tables with our figures beside them, each linked to the file it comes from.
import facts from 'virtual:facts';
import type { TableRow, TaskRow } from 'virtual:facts';
import { find, h } from './dom.js';
import type { Child } from './dom.js';
import { exactBytes, ratio } from './format.js';
import { paperRows } from './paper-data.js';

const signed = (percent: number | null | undefined) => (typeof percent === 'number'
  ? `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(1)} %` : '–');

const link = (file: string, text: string) => h('a', { href: `results/${file}` }, text);

function languageRow(row: (typeof paperRows)[number], ours: TableRow | undefined,
  standard: { paper: number; ours: number | undefined }): HTMLElement {
  const isOne = row.name.startsWith('Q-K=V');
  const cell = (...content: Child[]) => h('td', { class: 'num' }, ...content);
  const less = (bytes: number | undefined, of: number | undefined) =>
    (bytes === undefined || of === undefined || of === bytes ? ''
      : h('small', { class: 'soft' }, ` 1/${ratio(of / bytes)}`));
  const theirs = [h('th', { scope: 'row', class: isOne ? 'one-ink' : undefined }, row.name),
    cell(row.perplexity.toFixed(2)), cell(signed(row.change)),
    cell(exactBytes(row.bytesPerToken), less(row.bytesPerToken, standard.paper))];
  if (facts.table === undefined) return h('tr', {}, theirs);
  return h('tr', {}, theirs,
    h('td', { class: 'num ours' }, ours === undefined ? '–' : `${ours.perplexity.toFixed(2)}` +
      (ours.seeds > 1 ? ` ± ${(ours.spread / 2).toFixed(2)}` : '')),
    cell(ours === undefined ? '–' : signed(ours.change)),
    cell(ours === undefined ? '–' : exactBytes(ours.bytesPerToken),
      less(ours?.bytesPerToken, standard.ours)),
    cell(ours === undefined ? 'not run' : link('table.json', 'table.json')));
}

function languageTable(): HTMLElement {
  const ours = (variant: string) => facts.table?.find((row) => row.variant === variant);
  const standard = { paper: paperRows[0]?.bytesPerToken ?? 0, ours: ours('QKV')?.bytesPerToken };
  const head = (text: string, ...more: string[]) =>
    h('th', { scope: 'col', class: ['num', ...more].join(' ') }, text);
  const both = facts.table !== undefined;
  return h('table', { class: 'paper-table' },
    h('caption', {}, 'Language models', !both && ': our runs of this table are not done yet'),
    h('thead', {},
      h('tr', {}, h('td'), h('th', { colspan: 3, scope: 'colgroup', class: 'num' },
        'the paper: 300M, SlimPajama, bf16'), both && h('th', { colspan: 4, scope: 'colgroup',
        class: 'ours num' }, 'ours: 0.7 M parameters, children’s stories, f16')),
      h('tr', {}, h('th', { scope: 'col' }, 'attention'), head('perplexity'), head('change'),
        head('cache a token'), both && [head('perplexity', 'ours'), head('change'),
          head('cache a token'), head('from')])),
    h('tbody', {}, paperRows.map((row) => languageRow(row, ours(row.variant), standard))));
}

function taskTable(suite: string, rows: TaskRow[]): HTMLElement {
  const tasks = [...new Set(rows.map(({ task }) => task))];
  const variants = [...new Set(rows.map(({ variant }) => variant))];
  const cell = (variant: string, task: string) => {
    const row = rows.find((one) => one.variant === variant && one.task === task);
    if (row === undefined) return h('td', { class: 'num' }, '–');
    return h('td', { class: 'num' }, row.mean.toFixed(3), h('small', { class: 'soft' },
      ` ${row.paper === null ? '' : row.paper.toFixed(3)}`));
  };
  return h('table', { class: 'task-table' },
    h('caption', {}, `${suites[suite] ?? suite}: accuracy, ours and the paper’s, from `,
      link('tasks.json', 'tasks.json')),
    h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'attention'),
      tasks.map((task) => h('th', { scope: 'col', class: 'num' }, task)))),
    h('tbody', {}, variants.map((variant) => h('tr', {},
      h('th', { scope: 'row', class: variant.startsWith('Q-K=V') ? 'one-ink' : undefined },
        variant), tasks.map((task) => cell(variant, task))))));
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

export function startPaper(): void {
  const scroll = (table: HTMLElement, label: string) => h('div', { class: 'scroll', tabindex: 0,
    role: 'region', 'aria-label': label }, table);
  find('#paper .shown').append(scroll(languageTable(), 'Table of language models'),
    h('p', { class: 'note' }, 'Levels do not compare: other sizes, other texts. How a variant ' +
      'stands to QKV does. The paper scored padding too, which makes its changes look smaller.'),
    h('div', { class: 'task-tables' }, facts.tasks.filter(comparable).map(({ suite, rows }) =>
      scroll(taskTable(suite, rows), `Table of ${suites[suite] ?? suite}`))));
}
