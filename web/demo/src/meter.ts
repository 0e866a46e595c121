// The meter between two caches: the ratio, bars to scale, numbers, bytes over time.
//
// It computes nothing but quotients of what it is given; `origin` says where that comes from, and
// what is computed is called so.
import { find, h, setPart, setText } from './dom.js';
import { count, bytes, exactBytes, ratio } from './format.js';
import { Plot } from './plot.js';

/** One cache: bytes in use, by how many tokens. */
export interface Reading {
  used: number;
  tokens: number;
  /** Of one token, and of the model's full context: computed by core. */
  perToken: number;
  full: number;
}

interface MeterState {
  one: Reading;
  std: Reading;
  /** Before a run, 'header': from the files; 'promised': the same, of what no run will measure.
   * 'measured': from two allocators; 'computed': one is counted, and the tokens of the other in
   * attention of that kind are computed. */
  origin: 'header' | 'promised' | 'measured' | 'computed';
  /** What the other is called: 'standard QKV'. */
  baseline: string;
  /** The model's full context. */
  context: number;
}

const source = {
  header: 'by the files’ headers.',
  promised: 'computed from the files’ headers.',
  measured: 'measured while both allocators fill it.',
  computed: 'the latter computed.',
};

/** Whether tokens have been counted. */
export const hasRun = ({ origin }: MeterState): boolean =>
  origin === 'measured' || origin === 'computed';

const rows = ['Cache in use', 'Tokens in it', 'Per token', ''] as const;

export class Meter {
  readonly plot = new Plot();
  state: MeterState | undefined;
  readonly #number = h('span', { class: 'ratio-number' }, '–');
  readonly #says = h('p', { class: 'ratio-says' });
  readonly #bars: Record<'one' | 'std', HTMLElement>;
  readonly #cells: [HTMLElement, HTMLElement][] = [];
  readonly #heads: HTMLElement[] = [];
  readonly #projected = h('th', { scope: 'row' });

  /** hint: what to do for a measurement. */
  constructor(root: HTMLElement, readonly names: { one: string; hint: string }) {
    const bar = (name: string) => h('div', { class: `bar ${name}` }, h('i'), h('span'));
    this.#bars = { one: bar('one'), std: bar('std') };
    const output = h('output', { 'aria-live': 'off' }, this.#number,
      h('span', { class: 'times' }, '×'));
    root.append(
      h('div', { class: 'lead' }, h('p', { class: 'ratio' }, output), this.#says,
        h('div', { class: 'bars', 'aria-hidden': 'true' }, this.#bars.one, this.#bars.std)),
      this.#table(names.one), this.plot.element);
  }

  #table(one: string): HTMLElement {
    this.#heads.push(h('th', { scope: 'col', class: 'num one-ink' }, one),
      h('th', { scope: 'col', class: 'num std-ink' }));
    const body = rows.map((name, i) => {
      const cells: [HTMLElement, HTMLElement] = [h('td', { class: 'num' }, '–'),
        h('td', { class: 'num' }, '–')];
      this.#cells.push(cells);
      const head = i === rows.length - 1 ? this.#projected : h('th', { scope: 'row' }, name);
      return h('tr', { class: i === rows.length - 1 ? 'projected' : undefined }, head, cells);
    });
    return h('table', { class: 'figures' },
      h('caption', { class: 'sr' }, 'Bytes of cache of both models'),
      h('thead', {}, h('tr', {}, h('td'), this.#heads)), h('tbody', {}, body));
  }

  show(state: MeterState): void {
    this.state = state;
    const { one, std, context } = state;
    const times = std.perToken / one.perToken;
    setText(this.#number, ratio(times));
    // What two stories take in all has another quotient: they are not equally long.
    setText(this.#says, `${times > 1 ? 'less' : 'as much'} cache per token ${times > 1 ? 'than'
      : 'as'} ${state.baseline}: ${exactBytes(one.perToken)} for ${exactBytes(std.perToken)}, ` +
      source[state.origin] +
      (state.origin === 'header' ? ` ${this.names.hint}` : ''));
    setText(this.#heads[1] as HTMLElement, state.baseline);
    setText(this.#projected, `At ${count(context)} tokens, computed`);
    const running = hasRun(state);
    if (!running) this.plot.project(context, one.full, std.full);
    [one, std].forEach((reading, side) => {
      const texts = [running ? exactBytes(reading.used) : '–',
        running ? count(reading.tokens) : '–', exactBytes(reading.perToken),
        bytes(reading.full)];
      texts.forEach((text, i) => setText(this.#cells[i]?.[side] as HTMLElement, text));
    });
    const size = (reading: Reading) => (running ? reading.used : reading.perToken);
    for (const [name, reading] of [['one', one], ['std', std]] as const) {
      setPart(this.#bars[name], size(reading) / Math.max(size(one), size(std)));
      setText(find('span', this.#bars[name]), running
        ? `${bytes(reading.used)}, ${count(reading.tokens)} tokens`
        : `${exactBytes(reading.perToken)} per token`);
    }
  }
}
