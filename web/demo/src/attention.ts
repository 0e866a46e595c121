// Attention of one head for a text, as heat maps of two models that differ in one thing: whether
// the query has a projection of its own (Q-K=V) or is the key (Q=K-V), so that scores are mutual.
//
// Both were trained on the same stories in the same order (models/study/table.py). The heads that
// are shown first were searched for when the page was built (build/heads.mjs).
import type { AttentionMap, Session } from 'onekv';
import facts from 'virtual:facts';
import type { ShippedName } from 'virtual:facts';
import { announce } from './announce.js';
import { find, h, setText } from './dom.js';
import { explain } from './errors.js';
import { asymmetry, drawMap, ownShare } from './heat.js';
import { lease } from './library.js';
import type { Lease, Progress } from './library.js';
import { colourOf } from './plot.js';

const { sentence } = facts.attention;
/** More make cells too small to see. */
const tokensMax = 96;
/** Words on an axis: more would stand on each other. */
const wordsMax = 32;
/** What is chosen where each model shows the head that the search found. */
const searched = 'search';

/** Of one head, or the mean of several. */
interface Measured {
  asymmetry: number;
  /** Of the weight, what a token keeps for itself. */
  own: number;
}

const measure = ({ scores, weights, tokens }: AttentionMap): Measured =>
  ({ asymmetry: asymmetry(scores, tokens), own: ownShare(weights, tokens) });

const says = ({ asymmetry: value, own }: Measured) =>
  `asymmetry ${value.toFixed(2)}, ${(100 * own).toFixed(0)} % on the token itself`;

/** One model with its map. */
class View {
  readonly element: HTMLElement;
  words: string[] = [];
  readonly #canvas = h('canvas', { role: 'img' });
  /** Around the row that is read out. */
  readonly #row = h('i');
  readonly #down = h('div', { class: 'axis down', 'aria-hidden': 'true' });
  readonly #across = h('div', { class: 'axis across', 'aria-hidden': 'true' });
  readonly #head = h('p');
  readonly #figures = h('p', { class: 'soft' });
  readonly #all = h('p', { class: 'soft mean' });
  #lease: Lease | undefined;
  #session: Session | undefined;
  #map: AttentionMap | undefined;

  constructor(readonly kind: 'one' | 'std', readonly name: ShippedName, readonly title: string,
    what: string) {
    this.element = h('figure', { class: 'map', 'data-map': kind },
      h('h3', { class: `${kind}-ink` }, title), h('small', { class: 'soft' }, what),
      h('div', { class: 'axes' }, this.#across, this.#down,
        h('div', { class: 'grid' }, this.#canvas, this.#row)),
      h('figcaption', {}, this.#head, h('details', {}, h('summary', {}, 'In figures'),
        this.#figures, this.#all)));
  }

  async load(progress: Progress): Promise<void> {
    if (this.#lease?.lost !== false) this.#lease = await lease(this.name, 'f16', progress);
  }

  /** A session that holds the text's first tokens. */
  async read(text: string): Promise<void> {
    const { model } = this.#lease as Lease;
    const session = await model.createSession({ chat: false });
    await session.append(text);
    if (session.contextUsage > tokensMax) await session.truncate(tokensMax);
    const ids = [...await session.tokens()];
    this.words = await Promise.all(ids.map((id) => model.detokenize([id])));
    this.#label();
    await this.#session?.destroy();
    this.#session = session;
  }

  /** Every word on both axes, or, of many, some. */
  #label(): void {
    const { length } = this.words;
    const step = Math.ceil(length / wordsMax);
    for (const axis of [this.#down, this.#across]) {
      axis.replaceChildren(...this.words.flatMap((word, i) => {
        if (i % step !== 0) return [];
        const label = h('span', {}, word.trim() || '·');
        label.style.setProperty('--at', String((i + 0.5) / length));
        return [label];
      }));
    }
  }

  /** A head, counted through all layers; without one, the head that was searched for. */
  async show(chosen: number | undefined): Promise<void> {
    const { queryHeads } = facts.models[this.name].description;
    const { layer, head } = chosen === undefined ? facts.attention[this.kind]
      : { layer: Math.floor(chosen / queryHeads), head: chosen % queryHeads };
    const map = await this.#session?.attention({ layer, head });
    if (map === undefined) return;
    this.#map = map;
    const found = measure(map);
    this.element.dataset['asymmetry'] = String(found.asymmetry);
    this.draw();
    const { heads } = facts.attention[this.kind];
    setText(this.#head, `Layer ${layer + 1}, head ${head + 1}, one of ${heads}.`);
    setText(this.#figures, `This head: ${says(found)}.`);
    this.#canvas.setAttribute('aria-label', `${this.title}, ${map.tokens} tokens: ${says(found)}`);
  }

  /** The mean over all heads, for which one head may not be typical. */
  async showAll(): Promise<Measured | undefined> {
    const session = this.#session;
    if (session === undefined) return undefined;
    const { layers, queryHeads } = facts.models[this.name].description;
    const sum: Measured = { asymmetry: 0, own: 0 };
    for (let i = 0; i < layers * queryHeads; i += 1) {
      const map = await session.attention({ layer: Math.floor(i / queryHeads),
        head: i % queryHeads });
      const { asymmetry: value, own } = measure(map);
      sum.asymmetry += value / (layers * queryHeads);
      sum.own += own / (layers * queryHeads);
    }
    if (session !== this.#session) return undefined;
    setText(this.#all, `Mean of all ${layers * queryHeads} heads: ${says(sum)}.`);
    this.element.dataset['mean'] = String(sum.asymmetry);
    return sum;
  }

  draw(): void {
    if (this.#map === undefined) return;
    drawMap(this.#canvas, this.#map.weights, this.#map.tokens, colourOf(this.kind));
  }

  /** Marks a row; gives what its token looks at most: three, with their shares. */
  mark(row: number): string {
    if (this.#map === undefined) return '';
    const { weights, tokens } = this.#map;
    this.#row.style.setProperty('--row', String(row / tokens));
    this.#row.style.setProperty('--rows', String(tokens));
    return [...weights.subarray(row * tokens, row * tokens + row + 1).entries()]
      .sort(([, a], [, b]) => b - a).slice(0, 3)
      .map(([j, weight]) => `“${this.words[j]?.trim() ?? ''}” ${(100 * weight).toFixed(0)} %`)
      .join(', ');
  }
}

export class Attention {
  readonly #text = h('input', { type: 'text', id: 'attention-text', value: sentence,
    maxlength: 400 });
  readonly #head = this.#pick();
  readonly #row = h('input', { type: 'range', id: 'attention-row', min: 0, max: 0, value: 0 });
  readonly #readout = h('p', { class: 'note', id: 'attention-says' }, `Two models of ` +
    `${(facts.models['table-qk-v'].parameters / 1e6).toFixed(2)} M parameters, which have read ` +
    'the same stories; they are loaded when you press Show.');
  readonly #one = new View('one', 'table-q-kv', 'Q-K=V', 'A token asks with a query of its own.');
  readonly #std = new View('std', 'table-qk-v', 'Q=K-V',
    'A token asks with its key: looks are mutual.');
  readonly #views = [this.#one, this.#std];
  readonly #story = h('button', { type: 'button', class: 'plain', id: 'attention-story',
    hidden: true }, 'The story above');
  readonly #maps: HTMLElement;
  #busy: Promise<void> = Promise.resolve();

  constructor() {
    const field = (label: string, control: HTMLElement, grow = '') =>
      h('label', { class: `field ${grow}` }, label, control);
    const form = h('form', { class: 'row' }, field('Text', this.#text, 'grow'),
      field('Head', this.#head),
      h('button', { type: 'submit', id: 'attention-run' }, 'Show'), this.#story);
    this.#maps = h('div', { hidden: true }, h('div', { class: 'maps' },
      this.#views.map(({ element }) => element)), field('Row', this.#row, 'row-pick'));
    find('#attention .shown').append(form, this.#maps, this.#readout);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#do(() => this.#read());
    });
    this.#story.addEventListener('click', () => {
      this.#text.value = this.#story.value;
      this.#do(() => this.#read());
    });
    this.#head.addEventListener('change', () => {
      if (!this.#maps.hidden) this.#do(() => this.#show());
    });
    this.#row.addEventListener('input', () => this.#say());
  }

  #pick(): HTMLSelectElement {
    const { layers, queryHeads } = facts.models['table-qk-v'].description;
    const option = (layer: number, head: number) =>
      h('option', { value: layer * queryHeads + head }, `Layer ${layer + 1}, head ${head + 1}`);
    return h('select', { id: 'attention-head' },
      h('option', { value: searched, selected: true }, 'Found by a search'),
      Array.from({ length: layers }, (_, layer) => h('optgroup', { label: `Layer ${layer + 1}` },
        Array.from({ length: queryHeads }, (_, head) => option(layer, head)))));
  }

  /** One thing after the other. */
  #do(work: () => Promise<void>): void {
    this.#busy = this.#busy.then(work).then(() => this.#readout.classList.remove('error'),
      (error: unknown) => {
        this.#readout.classList.add('error');
        setText(this.#readout, explain(error));
      });
  }

  async #read(): Promise<void> {
    const text = this.#text.value.trim() || sentence;
    this.#readout.classList.remove('error');
    const loads = this.#views.map((view) => view.load((loaded, total) =>
      setText(this.#readout, `Loading ${Math.round(100 * loaded / (total || 1))} %`)));
    // What still loads would write over the other's error.
    await Promise.allSettled(loads);
    await Promise.all(loads);
    setText(this.#readout, 'Computing …');
    await Promise.all(this.#views.map((view) => view.read(text)));
    this.#row.max = String(this.#one.words.length - 1);
    const { asks } = facts.attention;
    const first = text === sentence ? this.#one.words.findIndex((word) => word.trim() === asks)
      : -1;
    this.#row.value = first < 0 ? this.#row.max : String(first);
    await this.#show();
    const [one, std] = await Promise.all(this.#views.map((view) => view.showAll()));
    if (one !== undefined && std !== undefined) {
      announce(`Mean of all heads. ${this.#one.title}: ${says(one)}. ${this.#std.title}: ` +
        `${says(std)}`);
    }
  }

  async #show(): Promise<void> {
    const chosen = this.#head.value === searched ? undefined : Number(this.#head.value);
    await Promise.all(this.#views.map((view) => view.show(chosen)));
    this.#maps.hidden = false;
    this.#say();
  }

  #say(): void {
    const row = Number(this.#row.value);
    const word = this.#one.words[row]?.trim() ?? '';
    this.#row.setAttribute('aria-valuetext', word);
    setText(this.#readout, `“${word}” looks at ${this.#one.mark(row)}. Where looks are mutual: ` +
      `${this.#std.mark(row)}.`);
  }

  /** A text of this page that can be chosen instead; none if it is empty. */
  offer(text: string): void {
    // A field has one line.
    this.#story.value = text.replace(/\s+/g, ' ').slice(0, this.#text.maxLength);
    this.#story.hidden = text === '';
  }

  restyle(): void {
    for (const view of this.#views) view.draw();
  }
}
