// Numbers for people.

/** Bytes with three digits: 980 B, 18.9 KB, 604 KB, 1.20 MB (powers of 1000). */
export function bytes(count: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : digits(value)} ${units[unit]}`;
}

/** Three significant digits, none of them lost before the point. */
export function digits(value: number): string {
  if (value >= 99.95) return value.toFixed(0);
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** 3.66 M, 135 M, 1.20 G. */
export function count(value: number): string {
  if (value >= 1e9) return `${digits(value / 1e9)} G`;
  if (value >= 1e6) return `${digits(value / 1e6)} M`;
  return value >= 1e4 ? `${digits(value / 1e3)} K` : String(value);
}

/** "1 token", "5 tokens". */
export const plural = (value: number, word: string): string =>
  `${value} ${word}${value === 1 ? '' : 's'}`;

/** Bytes as people write them: 64MB, 1.5GiB, 4096. undefined for anything else. */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b?)?\s*$/i.exec(text);
  if (match === null) return undefined;
  const [, number, prefix = '', binary] = match;
  const base = binary ? 1024 : 1000;
  return Math.floor(Number(number) * base ** ' kmgt'.indexOf(prefix.toLowerCase() || ' '));
}

/** Columns as wide as their widest cell; all but the first are numbers and end together. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) => row.map((cell, i) =>
    (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ').trimEnd())
    .join('\n');
}
