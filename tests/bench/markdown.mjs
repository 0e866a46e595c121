// How tables in Markdown and figures in them are written.

/** Three digits, and no more than were measured. */
export const rate = (x) => (x >= 99.95 ? Math.round(x) : x.toFixed(1));

export const bytes = (x) => (x < 1e3 ? `${x} B` : x < 1e6 ? `${(x / 1e3).toPrecision(3)} KB`
  : x < 1e9 ? `${(x / 1e6).toPrecision(3)} MB` : `${(x / 1e9).toPrecision(3)} GB`);

/** Lines of a table whose first column is text and whose others are figures. */
export const table = (heads, rows) => [`| ${heads.join(' | ')} |`,
  `|${heads.map((_, i) => (i === 0 ? '---' : '--:')).join('|')}|`,
  ...rows.map((row) => `| ${row.join(' | ')} |`)];
