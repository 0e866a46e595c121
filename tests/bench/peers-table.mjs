// The Markdown of bench:peers results.

const speed = (x) => (x >= 100 ? x.toFixed(0) : x.toFixed(1));
const percent = (x) => `${(100 * x).toFixed(0)} %`;
const cell = (found, show = speed) =>
  (found === undefined ? '' : `${show(found.median)} ±${percent(found.spread)}`);
const megabytes = (x) => `${(x / 1e6).toFixed(0)} MB`;
const seconds = (x) => `${(x / 1000).toFixed(2)} s`;

const seen = 'decode as the page sees it';

/** The others of a result, in words with their versions. */
const others = ({ figures, versions }) => [['wllama', 'wllama'], ['onnx', 'ONNX Runtime Web']]
  .filter(([engine]) => figures[engine] !== undefined)
  .map(([engine, words]) => [engine, `${words} ${versions[engine]}`]);

/** Rows of one result: name, each engine, how many times better OneKV is than each other one. */
function rows(result) {
  const { figures } = result;
  const engines = others(result).map(([engine]) => engine);
  return Object.keys(figures.onekv)
    .filter((name) => engines.some((engine) => figures[engine][name] !== undefined))
    .map((name) => {
      const rate = !['loadMs', 'peakBytes'].includes(name);
      const show = name === 'loadMs' ? seconds : name === 'peakBytes' ? megabytes : speed;
      const label = { loadMs: 'load (the others: without the download)',
        peakBytes: 'peak memory of the page' }[name] ?? `${name}, tokens/s`;
      const own = figures.onekv[name];
      const ratio = (other) => (other === undefined ? ''
        : `${(rate ? own.median / other.median : other.median / own.median).toFixed(2)} ×`);
      const found = engines.map((engine) => figures[engine][name]);
      return `| ${[label, ...found.map((one) => cell(one, show)), cell(own, show),
        ...found.map(ratio)].join(' | ')} |`;
    });
}

function section(result) {
  const { title, threads, machine, browser, onekv, busy, commit, date, figures } = result;
  const { fetchAndHashMs, loadMs } = figures.onekv;
  const names = others(result).map(([, words]) => words);
  const heads = ['', ...names, `OneKV (${onekv.simd})`, ...names.map((name) =>
    `to ${name.replace(/ [\d.]+$/, '')}`)];
  return [
    `## ${title}, ${threads} thread${threads === 1 ? '' : 's'}`, '',
    `| ${heads.join(' | ')} |`.replace('|  |', '| |'), `|${'---|'.repeat(heads.length)}`,
    ...rows(result), '',
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
  return ['# OneKV, wllama and ONNX Runtime Web on the same weights', '',
    'Made by `npm run bench:peers`. Medians of visits that take turns, each in a browser of its',
    'own; ± is half the distance of the quartiles. Of a Q-K=V model the others run the expanded',
    'form. ONNX Runtime gets the weights rounded to one scale a row for its integer products, the',
    'fastest of its forms on the CPU. All are used through their public interfaces, and timed in',
    'their workers. "First decode" follows the load directly.', '',
    ...results.flatMap(section)].join('\n');
}
