// The chart of bytes over time; before anything runs, of what core computes over tokens.
//
// uPlot: 22 KB gzipped, draws a canvas, takes new data in less than a millisecond; the libraries
// that draw SVG need several times both.
import uPlot from 'uplot';
import { find, h, setText } from './dom.js';
import { bytes, count, roundBytes } from './format.js';

/** Points beyond this are thinned to half: an hour takes no more memory than a minute. */
const pointsMax = 600;

/** A colour of the style sheets, as a canvas takes it. */
export const colourOf = (name: string) =>
  getComputedStyle(find(`[data-colour="${name}"]`)).color;

/** Elements whose colour is that of a name: a canvas cannot resolve custom properties. */
export function plantColours(): void {
  const probe = h('div', { hidden: true });
  for (const name of ['ink', 'soft', 'line', 'one', 'std', 'paper']) {
    const element = h('i', { 'data-colour': name });
    element.style.setProperty('color', `var(--${name})`);
    probe.append(element);
  }
  document.body.append(probe);
}

export class Plot {
  readonly element = h('div', { class: 'plot' });
  readonly #caption = h('p', { class: 'caption' });
  readonly #figure = h('div', { role: 'img', 'aria-label': 'No bytes yet' });
  #chart: uPlot | undefined;
  #times: number[] = [];
  #one: (number | null)[] = [];
  #std: (number | null)[] = [];
  /** What is drawn is a projection: over tokens, not seconds. */
  #isProjected = false;

  constructor() {
    this.element.append(this.#caption, this.#figure);
    new ResizeObserver(() => this.#resize()).observe(this.element);
  }

  clear(): void {
    this.#isProjected = false;
    this.#times = [];
    this.#one = [];
    this.#std = [];
    setText(this.#caption, 'Bytes of cache over time');
    this.describe('Bytes of cache over time, being measured');
    this.#draw();
  }

  /** Both caches from the first token to the last, at which they have these bytes. */
  project(tokens: number, one: number, std: number): void {
    this.#isProjected = true;
    this.#times = [0, tokens];
    this.#one = [0, one];
    this.#std = [0, std];
    setText(this.#caption, 'Bytes of cache over tokens, computed');
    this.describe(`Computed: ${bytes(one)} against ${bytes(std)} at ` +
      `${count(tokens)} tokens`);
    this.#draw();
  }

  add(seconds: number, one: number | null, std: number | null): void {
    if (this.#isProjected) this.clear();
    if (seconds <= (this.#times.at(-1) ?? -1)) return;
    this.#times.push(seconds);
    this.#one.push(one);
    this.#std.push(std);
    if (this.#times.length > pointsMax) this.#thin();
    this.#draw();
  }

  /** For those who do not see it: at the end, not while it grows. */
  describe(text: string): void {
    this.#figure.setAttribute('aria-label', text);
  }

  /** The colours may have changed. */
  restyle(): void {
    this.#chart?.destroy();
    this.#chart = undefined;
    this.#draw();
  }

  get points(): number {
    return this.#isProjected ? 0 : this.#times.length;
  }

  #thin(): void {
    const half = <T>(list: T[]) => list.filter((_, i) => i % 2 === 0 || i === list.length - 1);
    this.#times = half(this.#times);
    this.#one = half(this.#one);
    this.#std = half(this.#std);
  }

  #draw(): void {
    const data: uPlot.AlignedData = [this.#times, this.#one, this.#std];
    if (this.#chart !== undefined) this.#chart.setData(data);
    else if (this.element.clientWidth > 0) {
      this.#chart = new uPlot(this.#options(), data, this.#figure);
    }
  }

  #resize(): void {
    const width = this.element.clientWidth;
    if (width === 0) return;
    if (this.#chart === undefined) this.#draw();
    else if (this.#chart.width !== width) this.#chart.setSize({ width, height: this.#height() });
  }

  #height(): number {
    return 132;
  }

  #options(): uPlot.Options {
    const soft = colourOf('soft');
    const axis = {
      stroke: soft, font: '11px Plex, system-ui, sans-serif', ticks: { show: false },
      grid: { stroke: colourOf('line'), width: 1 },
    };
    return {
      width: this.element.clientWidth, height: this.#height(),
      legend: { show: false }, cursor: { show: false }, padding: [8, 16, 0, 0],
      scales: {
        x: { time: false, range: (_u, _min, max) => [0, max || 1] },
        y: { range: (_u, _min, max) => [0, Math.max(1000, (max || 0) * 1.05)] },
      },
      axes: [
        { ...axis, size: 22, space: 60, grid: { show: false }, values: (_u, ticks) =>
          ticks.map((tick) => (this.#isProjected ? count(tick) : `${tick} s`)) },
        { ...axis, size: 58, space: 32, values: (_u, ticks) => ticks.map(roundBytes) },
      ],
      series: [
        {},
        { stroke: colourOf('one'), width: 2.5, points: { show: false }, spanGaps: true },
        { stroke: colourOf('std'), width: 2.5, dash: [6, 3], points: { show: false },
          spanGaps: true },
      ],
    };
  }
}
