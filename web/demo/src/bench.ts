// The benchmark of the command line, in its short form, in this tab; its report as a file.
import type { SuiteName } from 'onekv/bench';
import { serveThreads } from 'onekv/engine';
import facts from 'virtual:facts';
import { announce } from './announce.js';
import type { BenchMessage, BenchReport } from './bench-worker.js';
import { h, setText } from './dom.js';
import { bytes, exactBytes, perSecond } from './format.js';

const suites: SuiteName[] = ['speed', 'memory'];
const repeat = 3;

type BenchRow = BenchReport['rows'][number];

function valueOf({ unit, median }: BenchRow): string {
  if (unit === 'B' || unit === 'bytes') return median < 1e6 ? exactBytes(median) : bytes(median);
  return `${perSecond(median)} ${unit}`;
}

function settingOf({ simd, threads, cacheType }: BenchRow): string {
  const count = threads === undefined ? undefined
    : `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return [simd, count, cacheType].filter(Boolean).join(', ');
}

function tableOf(rows: readonly BenchRow[]): HTMLElement {
  return h('table', { class: 'bench-table' }, h('caption', {}, 'Random weights of ' +
    'real shapes, which run as fast as any'),
  h('thead', {}, h('tr', {}, ['suite', 'model', 'measured', 'setting', 'median'].map((name, i) =>
    h('th', { scope: 'col', class: i === 4 ? 'num' : undefined }, name)))),
  h('tbody', {}, rows.map((row) => h('tr', {}, h('td', { class: 'soft' }, row.suite),
    h('td', {}, row.model), h('td', {}, row.name), h('td', { class: 'soft' },
      settingOf(row)), h('td', { class: 'num' }, valueOf(row))))));
}

/** As the command line writes it (web/cli/bench/schema.json). */
function fileOf(report: BenchReport): Blob {
  const whole = {
    format: 'onekv-bench', version: 1, date: new Date().toISOString(), package: facts.version,
    commit: facts.commit, engine: navigator.userAgent, busy: null,
    machine: { cpu: 'not told to pages', architecture: 'wasm32',
      cores: navigator.hardwareConcurrency || 1, memoryBytes: 0 },
    ...report,
  };
  return new Blob([JSON.stringify(whole, null, 1), '\n'], { type: 'application/json' });
}

export class Bench {
  readonly element: HTMLElement;
  report: BenchReport | undefined;
  readonly #button = h('button', { type: 'button', id: 'bench-run' }, 'Run the benchmark');
  readonly #says = h('p', { class: 'soft', id: 'bench-says' }, 'Seconds, or a minute on a phone.');
  readonly #place = h('div', { class: 'scroll', tabindex: 0, role: 'region',
    'aria-label': 'What was measured' });
  #worker: Worker | undefined;
  #endThreads = () => {};
  #address = '';

  constructor() {
    this.element = h('div', { class: 'bench' }, h('div', { class: 'row' }, this.#button,
      this.#says), this.#place);
    this.#button.addEventListener('click', () => {
      if (this.#worker === undefined) this.#run();
      else this.#end('Stopped.');
    });
  }

  #run(): void {
    const worker = this.#worker = new Worker(new URL('./bench-worker.ts', import.meta.url),
      { type: 'module' });
    this.#endThreads = serveThreads(worker);
    setText(this.#button, 'Stop');
    setText(this.#says, 'Starting …');
    const begun = performance.now();
    worker.onmessage = ({ data }: MessageEvent<BenchMessage>) => {
      if ('error' in data) this.#end(data.error);
      else if ('report' in data) this.#show(data.report);
      else {
        const seconds = (performance.now() - begun) / 1000;
        const left = data.done > 0 ? seconds / data.done * (data.total - data.done) : undefined;
        setText(this.#says, `${Math.floor(100 * data.done / data.total)} %: ${data.title}` +
          (left === undefined ? '' : `, ${left.toFixed(0)} s left`));
      }
    };
    worker.onerror = ({ message }) => this.#end(message || 'The worker could not be started.');
    worker.postMessage({ suites, repeat });
  }

  #end(text: string): void {
    this.#endThreads();
    this.#worker?.terminate();
    this.#worker = undefined;
    setText(this.#button, 'Run the benchmark');
    setText(this.#says, text);
    announce(text);
  }

  #show(report: BenchReport): void {
    this.report = report;
    URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(fileOf(report));
    const link = h('a', { href: this.#address, download: 'onekv-bench.json', id: 'bench-json' },
      'Download the JSON');
    this.#place.replaceChildren(h('p', {}, link), tableOf(report.rows));
    this.#end(`${report.rows.length} measurements in ${report.seconds.toFixed(0)} s. ` +
      'The same work, repeated meanwhile, took times that vary by ' +
      `${(100 * report.noise).toFixed(0)} %: smaller differences mean nothing.`);
  }
}
