// A report as bars in an SVG: what is compared stands together, each group in its own scale.
import type { Row } from '../../src/bench/runner.js';
import type { Report } from './report.js';
import { settingOf, show } from './report.js';

const width = 900;
const left = 360;
const right = 120;
const line = 20;
const colours = ['#2563eb', '#d97706', '#059669', '#7c3aed', '#dc2626', '#0891b2', '#4d7c0f',
  '#be185d'];
/** What others are measured against. */
const grey = '#9ca3af';

const escaped = (text: string) => text.replace(/[&<>"]/g, (character) =>
  ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character] as string);

/** Suites whose rows are compared across what was measured; in the others, across models. */
const acrossNames = ['kernels', 'batch'];

function groupsOf(rows: readonly Row[]): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = acrossNames.includes(row.suite) ? `${row.suite}, ${row.unit}`
      : `${row.suite}: ${row.name}, ${row.unit}`;
    groups.set(key, [...groups.get(key) ?? [], row]);
  }
  return groups;
}

/** One row's label, bar, range and value; y is its middle. */
function barOf(row: Row, y: number, most: number, colour: string): string {
  const at = (value: number) => left + (width - left - right) * (most === 0 ? 0 : value / most);
  const name = acrossNames.includes(row.suite) ? `, ${row.name}` : '';
  const label = `${row.model}${name} (${settingOf(row)})`;
  const end = row.values.length < 2 ? row.median : row.most;
  const range = row.values.length < 2 ? '' :
    `<path d="M${at(row.least).toFixed(1)} ${y}H${at(row.most).toFixed(1)}" ` +
    'stroke="#111827" stroke-width="2"/>';
  return [
    `<text x="${left - 8}" y="${y + 4}" text-anchor="end">${escaped(label)}</text>`,
    `<rect x="${left}" y="${y - 7}" width="${Math.max(1, at(row.median) - left).toFixed(1)}" ` +
      `height="14" fill="${row.better === 'none' ? grey : colour}"/>`,
    range,
    `<text x="${(at(end) + 6).toFixed(1)}" y="${y + 4}">${escaped(show(row.median, row.unit))}` +
      `${row.computed === undefined ? '' : ' *'}</text>`,
  ].filter(Boolean).join('\n');
}

/** A whole SVG document. A colour is a model; the dark line is the range of the repetitions. */
export function chartOf(report: Report): string {
  const models = [...new Set(report.rows.filter(({ better }) => better !== 'none')
    .map(({ model }) => model))];
  const parts: string[] = [];
  let y = 30;
  for (const [title, rows] of groupsOf(report.rows)) {
    parts.push(`<text x="8" y="${y}" font-weight="bold">${escaped(title)}</text>`);
    const most = Math.max(...rows.map((row) => row.most));
    y += 4;
    for (const row of rows) {
      y += line;
      const colour = colours[models.indexOf(row.model) % colours.length] ?? grey;
      parts.push(barOf(row, y, most, colour));
    }
    y += 2 * line;
  }
  const computed = report.rows.some((row) => row.computed !== undefined) ? '; * computed' : '';
  const foot = `${report.machine.cpu}, ${report.machine.cores} cores; ${report.engine}; ` +
    `${report.date.slice(0, 10)}; dark lines: least to most${computed}`;
  parts.push(`<text x="8" y="${y}" fill="#6b7280">${escaped(foot)}</text>`);
  const height = y + line;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" ` +
      'role="img">',
    `<title>OneKV bench, ${escaped(report.date.slice(0, 10))}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...parts, '</svg>',
  ].join('\n')}\n`;
}
