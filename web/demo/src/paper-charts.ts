// Two charts, drawn with elements so that their words keep their size on a phone: what a smaller
// cache costs, by the paper and by our own runs, and how fast others run the same shape.
import facts from 'virtual:facts';
import type { PeersBars, PeersRun, TableRow } from 'virtual:facts';
import { h, setPart } from './dom.js';
import { perSecond, ratio } from './format.js';
import { paperRows } from './paper-data.js';
import type { PaperRow } from './paper-data.js';

/** The right end of the cost axis, in percent of perplexity. */
const costMost = 35;

const percent = (value: number) => `+${value.toFixed(1)} %`;

/** The part of standard attention's cache that is kept. */
const share = (row: PaperRow) =>
  row.bytesPerToken / Math.max(...paperRows.map(({ bytesPerToken }) => bytesPerToken));

function dot(kind: string, cost: number): HTMLElement {
  const element = h('i', { class: `dot ${kind}` });
  setPart(element, cost / costMost);
  return element;
}

/** Our own runs: of one width, so that what shares has fewer parameters, and of equal numbers of
 * parameters, where there are such. */
const series = [['ours', 'equal width', facts.table], ['equal', 'equal parameters', facts.equal]]
  .filter((one): one is ['ours' | 'equal', string, TableRow[]] => one[2] !== undefined);

/** What each of them found: [kind, name, change]. */
const foundOf = (variant: string) => series.flatMap(([kind, name, rows]) =>
  rows.filter((row) => row.variant === variant)
    .map(({ change }) => [kind, name, change ?? 0] as const));

function costRow(row: PaperRow): HTMLElement {
  const found = foundOf(row.variant);
  const paper = row.change ?? 0;
  const kept = share(row);
  const bar = h('span', { class: 'kept-share' }, h('i'));
  setPart(bar, kept);
  const said = row.variant === 'QKV' ? 'what the others are measured against'
    : [`the paper ${percent(paper)}`, ...found.map(([kind, name, change]) =>
      `${kind === 'ours' ? 'ours' : name} ${percent(change)}`)].join(', ');
  return h('li', { 'data-variant': row.variant,
    class: row.name.startsWith('Q-K=V') ? 'one-ink' : undefined },
  h('span', { class: 'name' }, row.name),
  bar, h('span', { class: 'share' }, kept === 1 ? 'all' : `1/${ratio(1 / kept)}`),
  h('span', { class: 'track', 'aria-hidden': 'true' }, dot('paper', paper),
    found.map(([kind, , change]) => dot(kind, change))),
  h('small', {}, said));
}

/** Parameters of our runs, from the least to the most. */
export function trainedSize(rows = facts.table ?? []): string {
  const sizes = rows.map(({ parameters }) => (parameters / 1e6).toFixed(1))
    .sort((a, b) => Number(a) - Number(b));
  return `${[...new Set([sizes[0], sizes.at(-1)])].join(' to ')}\u00a0M`;
}

const key = (kind: string, text: string) =>
  h('span', {}, h('i', { class: `dot ${kind}` }), text);

/** The paper's variants by the cache that they keep, with what they cost. */
export function costChart(): HTMLElement {
  const rows = [...paperRows].sort((a, b) => b.bytesPerToken - a.bytesPerToken);
  return h('figure', { class: 'cost', id: 'cost' },
    h('figcaption', {}, h('b', {}, 'What a smaller cache costs'),
      h('span', { class: 'legend' }, key('paper', 'the paper, 300M parameters'),
        series.map(([kind, name, rows]) => key(kind, `ours, ${trainedSize(rows)}, ${name}`)))),
    h('p', { class: 'cost-head', 'aria-hidden': 'true' }, h('span', {}, 'attention'),
      h('span', {}, 'cache kept'), h('span'), h('span', {}, 'perplexity against QKV')),
    h('ul', {}, rows.map(costRow)));
}

const runtimes: Record<string, string> = {
  onekv: 'OneKV', wllama: 'wllama', onnx: 'ONNX Runtime Web', native: 'llama.cpp, native',
};

function peersBars({ what, engines }: PeersBars): HTMLElement {
  const most = Math.max(...engines.map(({ median }) => median));
  return h('div', { class: 'peers' }, h('h3', {}, what),
    h('ul', {}, engines.map(({ engine, median, version }) => {
      const bar = h('span', { class: `bar ${engine === 'onekv' ? 'one' : 'soft-bar'}` }, h('i'),
        h('span', {}, `${perSecond(median)} tokens/s`));
      setPart(bar, 0.55 * median / most);
      return h('li', {}, h('span', { class: 'name' }, runtimes[engine] ?? engine,
        version !== undefined && h('small', { class: 'soft' }, ` ${version}`)), bar);
    })));
}

const peersRun = ({ title, command, bars, file, browser, cpu, date }: PeersRun): HTMLElement =>
  h('div', {}, h('p', { class: 'legend' }, `${title}, two threads, ${browser}, ${cpu}, ${date}: `,
    h('code', {}, command), ', ', h('a', { href: `results/${file}` }, file)),
  h('div', { class: 'peers-all' }, bars.map(peersBars)));

/** The same weights in other runtimes, from the committed results. */
export const peersChart = (): HTMLElement | undefined => (facts.peers.length === 0 ? undefined
  : h('figure', { class: 'cost', id: 'peers' },
    h('figcaption', {}, h('b', {}, 'The same weights in other runtimes')),
    facts.peers.map(peersRun)));
