// One of the sixty-four stories, whole: its cell opens it, and for the keyboard a button does, so
// that the cells are no tab stops.
import { find, h, setText } from './dom.js';

export class Reader {
  readonly button = h('button', { type: 'button', class: 'plain', id: 'many-read', disabled: true },
    'Read them');
  readonly #title = h('h3');
  readonly #text = h('p');
  readonly #dialog = h('dialog', { class: 'reader', id: 'many-reader' }, this.#title, this.#text);
  #at = 0;

  /** `cells` are there already; `textOf` gives a story as far as it has been written. */
  constructor(cells: readonly HTMLElement[], textOf: (at: number) => string) {
    const show = (at: number) => {
      this.#at = (at + cells.length) % cells.length;
      setText(this.#title, `Story ${this.#at + 1} of ${cells.length}`);
      setText(this.#text, textOf(this.#at));
      if (!this.#dialog.open) this.#dialog.showModal();
    };
    const step = (words: string, by: number) => h('button', { type: 'button', class: 'plain',
      click: () => show(this.#at + by) }, words);
    this.#dialog.append(h('div', { class: 'row' }, step('Previous', -1), step('Next', 1),
      h('button', { type: 'button', click: () => this.#dialog.close() }, 'Close')));
    find('#many .shown').append(this.#dialog);
    cells.forEach((cell, at) => cell.addEventListener('click', () => show(at)));
    this.button.addEventListener('click', () => show(0));
  }
}
