// The Markdown of bench:peers results.

const speed = (x) => (x >= 100 ? x.toFixed(0) : x.toFixed(1));
const percent = (x) => `${(100 * x).toFixed(0)} %`;
const cell = (found, show = speed) =>
  (found === undefined ? '' : `${show(found.median)} ±${percent(found.spread)}`);
const megabytes = (x) => `${(x / 1e6).toFixed(0)} MB`;
const seconds = (x) => `${(x / 1000).toFixed(2)} s`;

const seen = 'decode as the page sees it';
const notRates = ['loadMs', 'peakBytes', 'wasmBytes', 'weightBytes', 'cacheBytes'];

/** Peak of the wasm memory, which never shrinks, beside what it may be: packed weights and a tenth
 * of them, the cache, and 16 MB. */
function memoryLine({ wasmBytes, weightBytes, cacheBytes }) {
  if (wasmBytes === undefined) return [];
  const most = 1.1 * weightBytes.median + cacheBytes.median + 16e6;
  return [`OneKV's wasm memory: ${megabytes(wasmBytes.median)}, of which weights ` +
    `${megabytes(weightBytes.median)} and cache ${megabytes(cacheBytes.median)}; at most ` +
    `${megabytes(most)} are aimed at.`];
}

/** The steady speed is that of the last prompt, as short as the first. */
function firstLine(onekv) {
  const share = onekv['first decode'].median / onekv['decode after 8'].median;
  return `OneKV's first decode: ${share.toFixed(2)} of the later one.`;
}

/** OneKV alone, by depth. */
function longSection({ title, threads, machine, browser, busy, commit, date, figures }) {
  const { onekv } = figures;
  const start = onekv['decode after 8'].median;
  return [
    `## ${title}, ${threads} thread${threads === 1 ? '' : 's'}, long prompts`, '',
    '| | OneKV | of the speed after 8 |', '|---|---|---|',
    ...Object.keys(onekv).filter((name) => /^(decode after|prefill) \d/.test(name)).map((name) =>
      `| ${name}, tokens/s | ${cell(onekv[name])} | ${name.startsWith('prefill') ? ''
        : (onekv[name].median / start).toFixed(2)} |`), '',
    ...memoryLine(onekv),
    `Other programs took at most ${percent(busy.others)} of the cores' time in a visit, the host ` +
      `${percent(busy.stolen)}.`,
    `${browser}, ${machine.cpu}, ${machine.cores} cores; ${commit}, ${date.slice(0, 16)}Z.`, '',
  ];
}

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
      const rate = !notRates.includes(name);
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
  const { fetchAndHashMs } = figures.fetch;
  const { loadMs } = figures.onekv;
  const names = others(result).map(([, words]) => words);
  const heads = ['', ...names, `OneKV (${onekv.simd})`, ...names.map((name) =>
    `to ${name.replace(/ [\d.]+$/, '')}`)];
  return [
    `## ${title}, ${threads} thread${threads === 1 ? '' : 's'}`, '',
    `| ${heads.join(' | ')} |`.replace('|  |', '| |'), `|${'---|'.repeat(heads.length)}`,
    ...rows(result), '',
    `Fetching and hashing the file alone: ${seconds(fetchAndHashMs.median)}; OneKV's load ` +
      `${(loadMs.median / fetchAndHashMs.median).toFixed(2)} times that.`,
    firstLine(figures.onekv),
    ...memoryLine(figures.onekv),
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
    ...results.flatMap((result) => (result.long ? longSection(result)
      : section(result)))].join('\n');
}

/** What the native build uses of the processor, off llama.cpp's own line of `NAME = 1`. */
function builtWith(line) {
  const names = [...(line ?? '').matchAll(/([A-Z0-9_]+) = 1/g)].map(([, name]) => name)
    .filter((name) => !['SSE3', 'SSSE3', 'AVX', 'LLAMAFILE', 'OPENMP', 'REPACK'].includes(name));
  return names.length === 0 ? [] : ['llama.cpp was built for', `${names.join(', ')}.`];
}

/** One section per file and thread count: a row per figure, a column per engine, and how many times
 * faster than each peer OneKV is. */
function fileSection(result) {
  const { file, fileBytes, threads, machine, browser, busy, commit, date, figures, versions,
    failures, onekv, nativeInstructions } = result;
  const words = { native: `llama.cpp (${versions.native})`, wllama: `wllama ${versions.wllama}` };
  const peers = Object.keys(words).filter((engine) => figures[engine] !== undefined);
  const heads = ['', ...peers.map((engine) => words[engine]), `OneKV (${onekv.simd})`,
    ...peers.map((engine) => `to ${engine}`)];
  const row = (name) => [`${name}, tokens/s`,
    ...[...peers, 'onekv'].map((engine) => cell(figures[engine][name])),
    ...peers.map((engine) =>
      `${(figures.onekv[name].median / figures[engine][name].median).toFixed(2)} ×`)];
  const { weightBytes, wasmBytes } = figures.onekv;
  return [
    `## ${file}, ${threads} thread${threads === 1 ? '' : 's'}`, '',
    `| ${heads.join(' | ')} |`.replace('|  |', '| |'), `|${'---|'.repeat(heads.length)}`,
    ...['decode after 8', 'prefill 256', 'first decode'].map((name) =>
      `| ${row(name).join(' | ')} |`), '',
    ...Object.entries(failures).map(([engine, message]) => `${engine} did not do it: ${message}.`),
    ...builtWith(nativeInstructions),
    ...(onekv.notes ?? []).map((note) => `OneKV's engine says: ${note}`),
    `OneKV holds ${megabytes(weightBytes.median)} of weights, ` +
      `${(weightBytes.median / fileBytes).toFixed(2)} times the file's bytes; the peak of its ` +
      `memory is ${megabytes(wasmBytes.median)}.`,
    `Other programs took at most ${percent(busy.others)} of the cores' time in a turn, the host ` +
      `${percent(busy.stolen)}.`,
    `${browser}, ${machine.cpu}, ${machine.cores} cores`,
    `(${machine.instructionSets.join(', ')}); ${commit}, ${date.slice(0, 16)}Z.`, '',
  ];
}

export function filesMarkdown(results) {
  return ['# Files of others: OneKV, wllama and native llama.cpp', '',
    'Made by `npm run bench:peers -- --file F`. Medians of turns, each a process or a browser of',
    'its own; ± is half the distance of the quartiles.', '',
    ...results.flatMap(fileSection)].join('\n');
}
