// What this browser lets a page do, and why it is not more.
import { OneKV } from 'onekv';
import type { Ability, Availability } from 'onekv';
import { Bench } from './bench.js';
import { find, h } from './dom.js';
import type { Child } from './dom.js';
import { explain } from './errors.js';
import { bytes } from './format.js';

function rows(able: Availability): HTMLElement[] {
  const row = <T>(name: string, ability: Ability<T>, text: (value: T) => Child) => {
    const { value, reason } = ability;
    return h('tr', { 'data-ability': name }, h('th', { scope: 'row' }, name),
      h('td', {}, text(value)), h('td', { class: 'soft' }, reason ?? ''));
  };
  return [
    row('runs here', able.available, (value) => (value ? 'yes' : 'no')),
    row('SIMD', able.simd, (value) => value),
    row('threads', able.threads, String),
    row('isolated', able.isolated, (value) => (value ? 'yes' : 'no')),
    row('memory', able.memoryBytes, (value) => `at most ${bytes(value)}`),
    row('models kept in', able.store, (value) => value),
  ];
}

export async function startMachine(): Promise<void> {
  const root = find('#machine .shown');
  const place = h('div', { class: 'scroll', id: 'abilities', tabindex: 0, role: 'region',
    'aria-label': 'What this browser can do' },
    h('p', { class: 'soft' }, 'Finding out …'));
  root.append(place, new Bench().element);
  try {
    const able = await OneKV.availability();
    place.replaceChildren(h('table', {}, h('caption', { class: 'sr' }, 'Abilities'),
      h('tbody', {}, rows(able))));
  } catch (error) {
    place.replaceChildren(h('p', { class: 'error', role: 'alert' }, explain(error)));
  }
}
