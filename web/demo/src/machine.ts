// What this browser lets a page do, and why it is not more.
import { OneKV } from 'onekv';
import type { Ability, Availability } from 'onekv';
import { Bench } from './bench.js';
import { find, h } from './dom.js';
import type { Child } from './dom.js';
import { explain } from './errors.js';
import { bytes } from './format.js';

const storeNames: Record<string, string> = { opfs: 'a private file system',
  'cache-api': 'the browser’s cache', none: 'nothing' };

function rows(able: Availability): HTMLElement[] {
  const row = <T>(name: string, ability: Ability<T>, text: (value: T) => Child, best: string) => {
    const { value, reason } = ability;
    return h('tr', { 'data-ability': name }, h('th', { scope: 'row' }, name),
      h('td', {}, text(value)), h('td', { class: 'soft' }, reason ?? best));
  };
  return [
    row('runs here', able.available, (value) => (value ? 'yes' : 'no'),
      'WebAssembly with SIMD, and workers'),
    row('SIMD', able.simd, (value) => value, 'the faster of the two builds'),
    row('threads', able.threads, String, 'by the number of cores'),
    row('isolated', able.isolated, (value) => (value ? 'yes' : 'no'),
      'from other sites, so that threads may share memory'),
    row('memory', able.memoryBytes, (value) => `at most ${bytes(value)}`,
      'all that 32-bit WebAssembly can address'),
    row('models kept in', able.store, (value) => storeNames[value] ?? value,
      'loaded once, then there without a network'),
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
