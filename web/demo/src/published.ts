// Models that people run: what 32 Ki tokens of each take in the cache, and who saved what.
//
// A bar is the keys and values of all heads; within it lies what the model's makers left, and in
// that what is kept here and what llama.cpp keeps. All of it is from a result file.
import facts from 'virtual:facts';
import type { PublishedModel } from 'virtual:facts';
import { find, h, setPart } from './dom.js';
import { bytes, ratio, short } from './format.js';

/** Parameters as people say them: 1.2 B, 494 M. */
const size = (n: number) => (n < 999.5e6 ? short(n) : `${(n / 1e9).toFixed(1)} B`);

const most = Math.max(...facts.published.map(({ expanded }) => expanded));

function bar(kind: string, value: number): HTMLElement {
  const element = h('i', { class: kind });
  setPart(element, value / most);
  return element;
}

function row({ name, architecture, parameters, token, here, llamaCpp, expanded }:
PublishedModel): HTMLElement {
  const beside = llamaCpp / here < 1.02 ? 'the same in llama.cpp'
    : `${ratio(Number((llamaCpp / here).toFixed(llamaCpp / here < 2 ? 2 : 1)))}× in llama.cpp`;
  const heads = expanded === here ? 'all of its heads' : `${ratio(expanded / here)}× for all heads`;
  return h('li', { 'data-model': name },
    h('span', { class: 'name' }, name,
      h('small', { class: 'soft' }, ` ${architecture}, ${size(parameters)} parameters`)),
    h('span', { class: 'nested', 'aria-hidden': 'true' }, bar('expanded', expanded),
      bar('llama', llamaCpp), bar('here', here)),
    h('b', { class: 'num' }, bytes(here)),
    h('small', { class: 'soft' }, `${bytes(token)} per token; ${beside}, ${heads}`));
}

export function startPublished(): void {
  const legend = (kind: string, text: string) => [h('i', { class: `key ${kind}` }), text];
  find('#published .shown').append(
    h('figure', { class: 'published' },
      h('figcaption', { class: 'legend' }, h('span', {}, ...legend('here', 'here')),
        h('span', {}, ...legend('llama', 'llama.cpp')),
        h('span', {}, ...legend('expanded', 'keys and values of all heads'))),
      h('ul', {}, [...facts.published].sort((a, b) => a.here - b.here).map(row))),
    h('p', { class: 'note' }, 'The cache of 32,768 tokens in f16, computed: here from the shapes ' +
      'by the code that allocates it, in llama.cpp as it logs it; nothing of this was loaded in ' +
      'your tab. From all heads to llama.cpp is what a model’s makers saved: fewer KV heads, ' +
      'windows, latents. The rest is what a runtime makes of it.'));
}
