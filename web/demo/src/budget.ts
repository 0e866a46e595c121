// "My tab may spend N MB": what each variant gets for it.
import type { CacheType } from 'onekv';
import facts from 'virtual:facts';
import { budgets, buy, shippedShape } from './budget-math.js';
import { find, h, setPart, setText } from './dom.js';
import { bytes, count, exactBytes, ratio, roundBytes, short } from './format.js';

const shapes = [
  ...facts.paperShapes, shippedShape(facts.models['stories-qkv'], facts.models['stories-q-mqa']),
  ...facts.publishedShapes,
];
const first = budgets.indexOf(500e6);

/** Rows of the table for one choice of everything. */
function tableRows(shapeAt: number, type: CacheType, budget: number,
  withWeights: boolean): HTMLElement[] {
  const shape = shapes[shapeAt] as (typeof shapes)[number];
  const bought = shape.variants.map((variant) => buy(variant, type, budget, withWeights));
  const most = Math.max(...bought.map(({ tokens }) => tokens));
  return shape.variants.map((variant, i) => {
    const { token, tokens, conversations } = bought[i] as (typeof bought)[number];
    const isOne = variant.name.startsWith('Q-K=V') || variant.name === 'As published';
    const isTooMuch = withWeights && variant.weightBytes > budget;
    const bar = h('div', { class: `bar ${isOne ? 'one' : 'std'}` }, h('i'),
      h('span', {}, isTooMuch ? 'the weights alone do not fit' : [short(tokens),
        // On a phone this line has no head of a column above it.
        h('small', { 'aria-hidden': 'true' }, ' tokens of context')]));
    setPart(bar, most === 0 ? 0 : tokens / most);
    return h('tr', { role: 'row', 'data-variant': variant.name, 'data-tokens': tokens,
      'data-conversations': conversations },
    h('th', { scope: 'row', role: 'rowheader', class: isOne ? 'one-ink' : 'std-ink' },
      variant.name),
    h('td', { role: 'cell', class: 'num' }, exactBytes(token)),
    h('td', { role: 'cell', class: 'barred' }, bar),
    h('td', { role: 'cell', class: 'num' }, isTooMuch ? '–' : count(conversations)));
  });
}

/** What a published model's makers saved, and what a runtime makes of that. */
function whoSaved(name: string): string {
  const found = facts.published.find((model) => model.name === name);
  if (found === undefined) return '';
  const { here, llamaCpp, expanded } = found;
  const [makers, runtime] = [expanded / llamaCpp, llamaCpp / here];
  return ` Of 32,768 tokens ${makers < 1.02 ? 'llama.cpp keeps keys and values of all heads'
    : `its makers saved ${ratio(makers)} times by fewer KV heads, windows or a latent`}; ` +
    `this runtime keeps ${runtime < 1.02 ? 'as much as' : `${ratio(runtime)} times less than`} ` +
    'llama.cpp.';
}

export function startBudget(): void {
  const root = find('#budget .shown');
  const slider = h('input', { type: 'range', min: 0, max: budgets.length - 1, value: first,
    id: 'budget-bytes', 'aria-describedby': 'budget-says' });
  const value = h('output', { class: 'big', for: 'budget-bytes' });
  const shape = h('select', { id: 'budget-shape' },
    [false, true].map((published) => h('optgroup',
      { label: published ? 'Published models' : 'The paper, and this page' },
      shapes.flatMap(({ name, isPublished = false }, i) => (isPublished === published
        ? [h('option', { value: i }, name)] : [])))));
  const type = h('select', { id: 'budget-type' },
    ['f16', 'f32', 'i8', 'i4'].map((name) => h('option', { value: name }, name)));
  const weights = h('input', { type: 'checkbox', id: 'budget-weights' });
  const body = h('tbody', { role: 'rowgroup' });
  const column = (name: string, kind = '') =>
    h('th', { scope: 'col', role: 'columnheader', class: kind }, name);
  const conversationsHead = column('', 'num');
  const says = h('p', { class: 'note', id: 'budget-says' });
  const update = () => {
    const budget = budgets[Number(slider.value)] as number;
    const chosen = shapes[Number(shape.value)] as (typeof shapes)[number];
    setText(value, roundBytes(budget));
    slider.setAttribute('aria-valuetext', roundBytes(budget));
    setText(conversationsHead, `chats of ${count(chosen.context)}`);
    body.replaceChildren(...tableRows(Number(shape.value), type.value as CacheType, budget,
      weights.checked));
    setText(says, weights.checked
      ? `Weights in ${chosen.bits ?? 8} bits are subtracted first: ` +
        `${chosen.variants.map(({ name, weightBytes }) => `${name} ${bytes(weightBytes)}` +
          (weightBytes > budget ? ', more than there is' : '')).join(', ')}.`
      : 'All of it is for the cache. These figures are computed from the shapes; the meter ' +
        `above measures.${chosen.isPublished ? whoSaved(chosen.name) : ''}`);
  };
  for (const control of [slider, shape, type, weights]) control.addEventListener('input', update);
  const field = (label: string, control: HTMLElement) => h('label', { class: 'field' }, label,
    control);
  root.append(
    h('div', { class: 'budget-line' }, h('label', { for: 'budget-bytes' }, 'My tab may spend'),
      value), slider,
    h('div', { class: 'row' }, field('Shape', shape), field('Cache type', type),
      h('label', { class: 'choice' }, weights, 'count the weights too')),
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'What each gets' },
      // The roles stay when a phone lays the cells out in two lines.
      h('table', { role: 'table', class: 'budget-table' },
        h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, column('attention'),
          column('per token', 'num'), column('tokens of context', 'barred'),
          conversationsHead)), body)), says);
  update();
}
