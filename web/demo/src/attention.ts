// Attention of one head for a sentence, as heat maps: the head as it is, and what it would see if
// its keys were its queries too, which is all that Q=K-V has.
import type { AttentionMap, Session } from 'onekv';
import facts from 'virtual:facts';
import { announce } from './announce.js';
import { find, h, setText } from './dom.js';
import { explain } from './errors.js';
import { asymmetry, drawMap, ownShare } from './heat.js';
import { lease } from './library.js';
import type { Lease } from './library.js';
import { colourOf } from './plot.js';

const sentence = 'The little dog saw a big cat, and the cat ran away because it was scared.';
/** More make cells too small to see. */
const tokensMax = 96;

class MapView {
  readonly element: HTMLElement;
  readonly #canvas = h('canvas', { role: 'img' });
  readonly #says = h('p');
  map: AttentionMap | undefined;

  constructor(readonly kind: 'one' | 'std', readonly title: string, what: string) {
    this.element = h('figure', { class: 'map', 'data-map': kind },
      h('h3', { class: `${kind}-ink` }, title), this.#canvas,
      h('figcaption', {}, h('small', { class: 'soft' }, what), this.#says));
  }

  show(map: AttentionMap): void {
    this.map = map;
    const value = asymmetry(map.scores, map.tokens);
    const own = ownShare(map.weights, map.tokens);
    this.element.dataset['asymmetry'] = String(value);
    this.draw();
    setText(this.#says, `Asymmetry of the scores ${value.toFixed(2)}; ` +
      `${(100 * own).toFixed(0)} % of the weight on the token itself.`);
    this.#canvas.setAttribute('aria-label', `${this.title}, ${map.tokens} tokens: ` +
      `asymmetry ${value.toFixed(2)}`);
  }

  draw(): void {
    if (this.map === undefined) return;
    drawMap(this.#canvas, this.map.weights, this.map.tokens, colourOf(this.kind));
  }

  /** What a token looks at most: three others, with their shares. */
  top(words: readonly string[], row: number): string {
    if (this.map === undefined) return '';
    const { weights, tokens } = this.map;
    return [...weights.subarray(row * tokens, row * tokens + row + 1).entries()]
      .sort(([, a], [, b]) => b - a).slice(0, 3)
      .map(([j, weight]) => `“${words[j]?.trim() ?? ''}” ${(100 * weight).toFixed(0)} %`)
      .join(', ');
  }
}

export class Attention {
  readonly #text = h('input', { type: 'text', id: 'attention-text', value: sentence,
    maxlength: 400 });
  readonly #layer = this.#pick('attention-layer', 'layers', 2);
  readonly #head = this.#pick('attention-head', 'queryHeads', 0);
  readonly #row = h('input', { type: 'range', id: 'attention-row', min: 0, max: 0, value: 0 });
  readonly #readout = h('p', { class: 'note', id: 'attention-says' });
  readonly #views = [new MapView('one', 'Q-K=V, as trained', 'The shipped model’s own queries.'),
    new MapView('std', 'Q=K-V, from the same keys', 'The same head with keys as queries: not a ' +
      'model trained so, but what symmetry does to its scores.')];
  readonly #maps: HTMLElement;
  #lease: Lease | undefined;
  #session: Session | undefined;
  #words: string[] = [];
  #latest = 0;

  constructor() {
    const field = (label: string, control: HTMLElement, grow = '') =>
      h('label', { class: `field ${grow}` }, label, control);
    const form = h('form', { class: 'row' }, field('Text', this.#text, 'grow'),
      field('Layer', this.#layer), field('Head', this.#head),
      h('button', { type: 'submit', id: 'attention-run' }, 'Show'));
    this.#maps = h('div', { hidden: true }, h('div', { class: 'maps' },
      this.#views.map(({ element }) => element)), field('Token', this.#row));
    find('#attention .shown').append(form, this.#maps, this.#readout);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#do(() => this.#read());
    });
    for (const select of [this.#layer, this.#head]) {
      select.addEventListener('change', () => {
        if (this.#session !== undefined) void this.#do(() => this.#show());
      });
    }
    this.#row.addEventListener('input', () => this.#say());
  }

  #pick(id: string, of: 'layers' | 'queryHeads', first: number): HTMLSelectElement {
    const { [of]: count } = facts.models['stories-q-mqa'].description;
    return h('select', { id }, Array.from({ length: count }, (_, i) =>
      h('option', { value: i, selected: i === first }, String(i + 1))));
  }

  async #do(work: () => Promise<void>): Promise<void> {
    try {
      this.#readout.classList.remove('error');
      await work();
    } catch (error) {
      this.#readout.classList.add('error');
      setText(this.#readout, explain(error));
    }
  }

  /** A new text: a session that holds its first tokens. */
  async #read(): Promise<void> {
    const latest = this.#latest += 1;
    this.#lease ??= await lease('stories-q-mqa', 'f16', (loaded, total) =>
      setText(this.#readout, `Loading ${Math.round(100 * loaded / (total || 1))} %`));
    const { model } = this.#lease;
    const session = await model.createSession({ chat: false });
    await session.append(this.#text.value.trim() || sentence);
    if (session.contextUsage > tokensMax) await session.truncate(tokensMax);
    const ids = [...await session.tokens()];
    const words = await Promise.all(ids.map((id) => model.detokenize([id])));
    if (latest !== this.#latest) return session.destroy();
    await this.#session?.destroy();
    this.#session = session;
    this.#words = words;
    this.#row.max = String(ids.length - 1);
    this.#row.value = String(ids.length - 1);
    return this.#show();
  }

  async #show(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const [layer, head] = [Number(this.#layer.value), Number(this.#head.value)];
    const [own, keys] = await Promise.all([session.attention({ layer, head }),
      session.attention({ layer, head, queries: 'keys' })]);
    this.#maps.hidden = false;
    this.#views[0]?.show(own);
    this.#views[1]?.show(keys);
    this.#say();
    announce(this.#views.map(({ title, element }) =>
      `${title}: asymmetry ${Number(element.dataset['asymmetry']).toFixed(2)}`).join('; '));
  }

  #say(): void {
    const row = Number(this.#row.value);
    const word = this.#words[row]?.trim() ?? '';
    this.#row.setAttribute('aria-valuetext', word);
    const [one, std] = this.#views.map((view) => view.top(this.#words, row));
    setText(this.#readout, `“${word}” looks at ${one ?? ''}. With keys as queries: ${std ?? ''}.`);
  }

  restyle(): void {
    for (const view of this.#views) view.draw();
  }
}
