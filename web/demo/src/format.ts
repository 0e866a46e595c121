// Numbers as people read them. Bytes are decimal (KB = 1000), as in the command line.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const units = ['B', 'KB', 'MB', 'GB', 'TB'];

export const count = (value: number) => whole.format(value);

/** Three significant digits and a unit: 29.8 KB. */
export function bytes(value: number): string {
  let unit = 0;
  let scaled = value;
  while (scaled >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  if (unit === 0) return `${count(scaled)} B`;
  return `${scaled.toFixed(scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** For an axis: 500 KB, 1.5 MB. */
export const roundBytes = (value: number) => bytes(value).replace(/\.0+ |(\.\d*?)0+ /, '$1 ');

/** To the byte: 29,760 B. */
export const exactBytes = (value: number) => `${count(value)} B`;

/** 32, 2.7, 0.9: as many decimals as tell something. */
export function ratio(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return value >= 100 ? count(value) : String(Number(value.toFixed(value < 10 ? 2 : 1)));
}

export const perSecond = (value: number) =>
  (Number.isFinite(value) ? value.toFixed(value < 100 ? 1 : 0) : '–');

export function milliseconds(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return value < 1000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`;
}

/** 1.2 M tokens, 340 tokens. */
export function short(value: number): string {
  if (value < 10_000) return count(Math.floor(value));
  if (value < 999_500) return `${(value / 1e3).toFixed(value < 99_500 ? 1 : 0)} K`;
  if (value < 999_500_000) return `${(value / 1e6).toFixed(value < 99.5e6 ? 1 : 0)} M`;
  return `${(value / 1e9).toFixed(1)} G`;
}
