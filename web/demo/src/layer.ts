// One attention layer, drawn: its projections, and the vectors of a token that it keeps. Choosing
// another way to attend shows which tensor disappears.
//
// The paper's variants are drawn in the shape of the two models above; the last two are layers of
// published models, whose numbers are those of their configurations (`published`).
import facts from 'virtual:facts';
import { find, h, setPart, setText } from './dom.js';
import { exactBytes, ratio } from './format.js';

/** What one way to attend keeps of a token in a layer. Widths are elements of a vector. */
interface Way {
  name: string;
  /** Whose shape it is drawn in. */
  shape: string;
  queryHeads: number;
  /** Vectors that are kept: of keys and of values; no values where a key serves as one. */
  keys: number;
  values: number;
  width: number;
  /** MLA: elements of the row that are its value. */
  valueWidth?: number;
  /** Bytes that are kept, and those of standard attention in the same shape: f16. */
  bytes: number;
  standard: number;
  says: string;
}

const twin = facts.models['stories-qkv'];
const small = facts.models['stories-q-mqa'];
const { queryHeads, headWidth } = twin.description;
const kept = twin.cache.f16.own.token / twin.description.layers;
const mqa = twin.cache.f16.standard.MQA.token / twin.description.layers;
const one = small.cache.f16.own.token / small.description.layers;

/** In the shape of the models above. */
const own = (name: string, keys: number, values: number, bytes: number, says: string): Way => ({
  name, shape: `${queryHeads} query heads of ${headWidth} elements`, queryHeads, keys, values,
  width: headWidth, bytes, standard: kept, says,
});

/** Layers of published models. */
const published = {
  // Youtu-LLM-2B: a latent of 512 with a rotated key of 64.
  mla: { heads: 16, latent: 512, rope: 64, ...facts.layers.mla },
  // Gemma 4 31B, a global layer.
  gemma: { heads: 32, kvHeads: 4, width: 512, ...facts.layers.gemma },
};

const ways: readonly Way[] = [
  own('QKV', queryHeads, queryHeads, kept, 'Each head projects a query, a key and a value. The ' +
    'query is used once; the key and the value are kept, for every token that comes later.'),
  own('Q-K=V', queryHeads, 0, facts.layers.shared.bytes, 'The value projection is gone: a head’s ' +
    'key is also its value. Half of the cache goes with it.'),
  own('QKV MQA', 1, 1, mqa, 'All query heads look at the same key and sum the same value.'),
  own('Q-K=V MQA', 1, 0, one, 'Both at once. Of a token, the layer keeps one vector: it ' +
    'is key and value of all heads.'),
  {
    name: 'MLA', shape: 'a layer of Youtu-LLM-2B, absorbed', queryHeads: published.mla.heads,
    keys: 1, values: 0, width: published.mla.latent + published.mla.rope,
    valueWidth: published.mla.latent, bytes: published.mla.bytes,
    standard: published.mla.standard,
    says: 'One row is kept: a latent, and a key that carries the position. The whole row is the ' +
      'key, its latent is also the value; what makes keys and values of it moves into the ' +
      'queries and the output.',
  },
  {
    name: 'Gemma’s K=V', shape: 'a global layer of Gemma 4 31B',
    queryHeads: published.gemma.heads, keys: published.gemma.kvHeads, values: 0,
    width: published.gemma.width, bytes: published.gemma.bytes,
    standard: published.gemma.standard,
    says: 'Key and value come from one projection. They differ in a weight and a rotation, which ' +
      'can wait until the key is read: so one tensor is kept where others keep two.',
  },
];

/** A projection and the vectors it makes. */
class Line {
  readonly element: HTMLElement;
  readonly #cells = h('span', { class: 'vectors' });
  readonly #says = h('small');

  constructor(kind: 'q' | 'k' | 'v', letter: string) {
    this.element = h('div', { class: `line line-${kind}` },
      h('span', { class: 'weight' }, h('b', {}, 'W'), h('sub', {}, letter)),
      h('span', { class: 'arrow', 'aria-hidden': 'true' }), this.#cells, this.#says);
  }

  /** Vectors that are there, of as many as there could be; `part` of one is marked. */
  show(count: number, most: number, says: string, part = 0): void {
    this.element.classList.toggle('gone', count === 0);
    this.#cells.replaceChildren(...Array.from({ length: most }, (_, i) => {
      const cell = h('i', { class: i < count ? 'there' : '' });
      if (part > 0) setPart(cell, part);
      return cell;
    }));
    this.#cells.classList.toggle('row-wide', most === 1);
    this.#cells.classList.toggle('parted', part > 0);
    setText(this.#says, says);
  }
}

const counted = (count: number, width: number) =>
  `${count} ${count === 1 ? 'vector' : 'vectors'} of ${width}`;

class Layer {
  readonly #q = new Line('q', 'Q');
  readonly #k = new Line('k', 'K');
  readonly #v = new Line('v', 'V');
  readonly #says = h('p', { class: 'layer-says' });
  readonly #shape = h('p', { class: 'soft' });
  readonly #bytes = h('output', { class: 'big', id: 'layer-bytes' });
  readonly #ratio = h('p', { class: 'soft', id: 'layer-ratio' });
  readonly #bar = h('div', { class: 'bar one', 'aria-hidden': 'true' }, h('i'));

  constructor() {
    const choices = ways.map(({ name }, i) => h('label', {},
      h('input', { type: 'radio', name: 'layer-way', value: i, checked: i === 3 }),
      h('span', {}, name)));
    const form = h('form', { class: 'settings', id: 'layer-ways' },
      h('fieldset', {}, h('legend', { class: 'sr' }, 'Attention'), choices));
    const drawing = h('figure', { class: 'layer', id: 'layer-drawing' },
      h('div', { class: 'token' }, 'a token'),
      h('div', { class: 'lines' }, this.#q.element,
        h('div', { class: 'kept-box' }, h('span', { class: 'kept-label' }, 'the cache'),
          this.#k.element, this.#v.element)),
      h('figcaption', {}, this.#shape));
    find('#layer .shown').append(form, drawing, h('div', { class: 'layer-sum' },
      h('div', {}, this.#bytes, this.#bar, this.#ratio), this.#says));
    form.addEventListener('change', ({ target }) =>
      this.show(ways[Number((target as HTMLInputElement).value)] as Way));
    form.addEventListener('submit', (event) => event.preventDefault());
    this.show(ways[3] as Way);
  }

  show(way: Way): void {
    const most = way.queryHeads;
    this.#q.show(most, most, `${most} queries, used at once and forgotten`);
    if (way.valueWidth === undefined) {
      this.#k.show(way.keys, most, `${counted(way.keys, way.width)}: ` +
        (way.values === 0 ? 'keys and values' : way.keys === 1 ? 'the key' : 'keys'));
      this.#v.show(way.values, most, way.values === 0 ? 'gone: the value is the key'
        : `${counted(way.values, way.width)}: ${way.values === 1 ? 'the value' : 'values'}`);
    } else {
      this.#k.show(1, 1, `one row of ${way.width}: the key`, way.valueWidth / way.width);
      this.#v.show(0, 1, `gone: the row’s first ${way.valueWidth} elements are the value`);
    }
    setText(this.#shape, `Drawn: ${way.shape}; the bytes are computed.`);
    setText(this.#bytes, exactBytes(way.bytes));
    setPart(this.#bar, way.bytes / way.standard);
    setText(this.#ratio, way.bytes === way.standard
      ? 'of every token, in this layer, as 16-bit floats'
      : `of every token, in this layer, as 16-bit floats: ${ratio(way.standard / way.bytes)} ` +
        `times less than the ${exactBytes(way.standard)} of ` +
        (way.name === 'MLA' ? 'expanded heads' : way.name.startsWith('Gemma')
          ? 'two tensors' : 'QKV'));
    setText(this.#says, way.says);
    find('#layer-drawing').dataset['way'] = way.name;
  }
}

export function startLayer(): void {
  new Layer();
}
