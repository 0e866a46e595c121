// The Markdown of bench:peers results.

const speed = (x) => (x >= 100 ? x.toFixed(0) : x.toFixed(1));
const percent = (x) => `${(100 * x).toFixed(0)} %`;
const cell = ({ median, spread }, show = speed) => `${show(median)} ±${percent(spread)}`;
const megabytes = (x) => `${(x / 1e6).toFixed(0)} MB`;
const seconds = (x) => `${(x / 1000).toFixed(2)} s`;

const seen = 'decode as the page sees it';

/** Rows of one result: name, wllama, OneKV, how many times better OneKV is. */
function rows({ figures: { wllama, onekv } }) {
  return Object.keys(onekv).filter((name) => wllama[name] !== undefined).map((name) => {
    const rate = !['loadMs', 'peakBytes'].includes(name);
    const show = name === 'loadMs' ? seconds : name === 'peakBytes' ? megabytes : speed;
    const label = { loadMs: 'load (wllama: without the download)',
      peakBytes: 'peak memory of the page' }[name] ?? `${name}, tokens/s`;
    const ratio = rate ? onekv[name].median / wllama[name].median
      : wllama[name].median / onekv[name].median;
    return `| ${label} | ${cell(wllama[name], show)} | ${cell(onekv[name], show)} | ` +
      `${ratio.toFixed(2)} × |`;
  });
}

function section(result) {
  const { title, threads, machine, browser, versions, onekv, busy, commit, date, figures } = result;
  const { fetchAndHashMs, loadMs } = figures.onekv;
  return [
    `## ${title}, ${threads} thread${threads === 1 ? '' : 's'}`, '',
    `| | wllama ${versions.wllama} | OneKV (${onekv.simd}) | ratio |`,
    '|---|---|---|---|', ...rows(result), '',
    `Fetching and hashing the file alone: ${seconds(fetchAndHashMs.median)}; OneKV's load ` +
      `${(loadMs.median / fetchAndHashMs.median).toFixed(2)} times that.`,
    `Decode as the page sees OneKV's: ${speed(figures.onekv[seen].median)} tokens/s.`,
    `Other programs took at most ${percent(busy.others)} of the cores' time in a visit, the host ` +
      `${percent(busy.stolen)}.`,
    `${browser}, ${machine.cpu}, ${machine.cores} cores; ${commit}, ${date.slice(0, 16)}Z.`, '',
  ];
}

/** One section a result. */
export function peersMarkdown(results) {
  return ['# OneKV and wllama on the same files', '',
    'Made by `npm run bench:peers`. Medians of visits that take turns, each in a browser of its',
    'own; ± is half the distance of the quartiles. Of a Q-K=V model wllama runs the expanded form.',
    'Both are used through their public interfaces and measured by their own timings, which each',
    'takes in its worker. "First decode" follows the load directly.', '',
    ...results.flatMap(section)].join('\n');
}
