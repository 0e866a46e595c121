// What changed from one report to another, and whether that is more than noise.
import type { Row } from '../../src/bench/runner.js';
import { table } from '../units.js';
import type { Report } from './report.js';
import { show } from './report.js';

type Verdict = 'better' | 'worse' | 'other' | 'same' | 'new' | 'gone';

interface Change {
  name: string;
  before: Row | undefined;
  after: Row | undefined;
  /** after / before of the medians. */
  ratio: number | undefined;
  /** What a ratio may be off 1 by noise alone. */
  noise: number;
  verdict: Verdict;
}

const nameOf = (row: Row) => [row.suite, row.model, row.name, row.threads === undefined ? ''
  : `${row.threads}t`, row.simd ?? '', row.cacheType ?? ''].filter(Boolean).join(', ');

/**
 * Three times what the two rows' repetitions are off by, together, and never less than the
 * noisier run's fixed work. Exact figures have no noise.
 */
function noiseOf(before: Row, after: Row, runs: number): number {
  if (before.values.length === 1 && after.values.length === 1) return 0;
  return Math.max(3 * Math.hypot(before.spread, after.spread), runs, 0.01);
}

function compareRows(name: string, before: Row, after: Row, runs: number): Change {
  const ratio = after.median / before.median;
  const noise = noiseOf(before, after, runs);
  const same = before.median === after.median || Math.abs(ratio - 1) <= noise;
  const up: Verdict = after.better === 'none' ? 'other'
    : after.better === 'more' ? 'better' : 'worse';
  const down: Verdict = up === 'other' ? 'other' : up === 'better' ? 'worse' : 'better';
  return { name, before, after, ratio, noise, verdict: same ? 'same' : ratio > 1 ? up : down };
}

/** Every row of either report, in the order of the second. */
export function compareReports(before: Report, after: Report): Change[] {
  const old = new Map(before.rows.map((row) => [nameOf(row), row]));
  const runs = Math.max(before.noise, after.noise);
  const changes = after.rows.map((row): Change => {
    const name = nameOf(row);
    const other = old.get(name);
    old.delete(name);
    return other === undefined
      ? { name, before: undefined, after: row, ratio: undefined, noise: 0, verdict: 'new' }
      : compareRows(name, other, row, runs);
  });
  return [...changes, ...[...old].map(([name, row]): Change =>
    ({ name, before: row, after: undefined, ratio: undefined, noise: 0, verdict: 'gone' }))];
}

/** A table of what is not the same, then one line of sums. */
export function comparisonText(before: Report, after: Report): string {
  const changes = compareReports(before, after);
  const cell = (row: Row | undefined) => (row === undefined ? '' : show(row.median, row.unit));
  const rows = changes.filter(({ verdict }) => verdict !== 'same').map((change) => [
    change.name, cell(change.before), cell(change.after),
    change.ratio === undefined ? '' : `${change.ratio.toFixed(3)} ×`,
    `±${(100 * change.noise).toFixed(1)} %`, change.verdict,
  ]);
  const count = (verdict: Verdict) =>
    changes.filter((change) => change.verdict === verdict).length;
  const machines = before.machine.cpu === after.machine.cpu && before.engine === after.engine
    ? [] : [`Not the same machine or engine: ${before.machine.cpu}, ${before.engine}; ` +
      `${after.machine.cpu}, ${after.engine}`];
  const verdicts: Verdict[] = ['better', 'worse', 'other', 'same', 'new', 'gone'];
  return `${[
    ...(rows.length === 0 ? []
      : [table([['measured', 'before', 'after', 'ratio', 'noise', ''], ...rows])]),
    ...machines,
    verdicts.filter((verdict) => count(verdict) > 0)
      .map((verdict) => `${count(verdict)} ${verdict}`).join(', ') || 'nothing to compare',
  ].join('\n')}\n`;
}
