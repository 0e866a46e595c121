// One line of a story: a session, its words as buttons, and the bytes that it has for itself.
import type { Session, SessionMemory } from 'onekv';
import { h, setText } from './dom.js';
import { bytes, count } from './format.js';

export interface Origin {
  name: string;
  /** Words of the origin that the branch shares. */
  at: number;
}

/** Called with the place of a chosen word. */
type Chosen = (branch: Branch, at: number) => void;

export class Branch {
  readonly element: HTMLElement;
  /** Text of each token after the prompt. */
  pieces: string[] = [];
  readonly #words = h('p', { class: 'words', role: 'toolbar' });
  readonly #facts = h('p', { class: 'facts' });
  readonly #given: HTMLElement;
  #focus = 0;

  constructor(readonly name: string, readonly session: Session, readonly prompt: string,
    readonly promptTokens: number, readonly origin: Origin | undefined, chosen: Chosen) {
    this.#given = h('span', { class: 'given' }, prompt);
    this.#words.setAttribute('aria-label', `Words of ${name}: arrows move, Enter chooses`);
    this.#words.append(this.#given);
    const from = origin === undefined ? '' : `from ${origin.name}, word ${origin.at}`;
    this.element = h('article', { class: 'branch', 'data-branch': name },
      h('header', {}, h('h3', {}, name), h('small', { class: 'soft' }, from)),
      this.#words, this.#facts);
    this.#words.addEventListener('click', (event) => {
      const at = this.#indexOf(event.target);
      if (at >= 0) chosen(this, at);
    });
    this.#words.addEventListener('keydown', (event) => this.#key(event, chosen));
  }

  #buttons(): HTMLElement[] {
    return [...this.#words.querySelectorAll<HTMLElement>('.word')];
  }

  #indexOf(target: EventTarget | null): number {
    return target instanceof HTMLElement && target.classList.contains('word')
      ? this.#buttons().indexOf(target) : -1;
  }

  /** Arrow keys move among the words, which are one stop of the Tab key. */
  #key(event: KeyboardEvent, chosen: Chosen): void {
    const at = this.#indexOf(event.target);
    if (at < 0) return;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      chosen(this, at);
      return;
    }
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8,
      ArrowUp: -8, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.focus(at + step);
  }

  focus(at: number): void {
    const buttons = this.#buttons();
    const next = Math.min(buttons.length - 1, Math.max(0, at));
    buttons[this.#focus]?.setAttribute('tabindex', '-1');
    this.#focus = next;
    buttons[next]?.setAttribute('tabindex', '0');
    buttons[next]?.focus();
  }

  add(text: string, isToken: boolean): void {
    if (!isToken) {
      const last = this.pieces.length - 1;
      if (last >= 0) this.pieces[last] += text;
      const button = this.#buttons().at(-1);
      button?.append(text);
      if (text.trim() !== '') button?.removeAttribute('aria-label');
      return;
    }
    this.#words.append(h('span', { class: 'word', role: 'button',
      tabindex: this.pieces.length === 0 ? 0 : -1,
      'aria-label': text.trim() === '' ? 'a space' : undefined }, text));
    this.pieces.push(text);
  }

  /** Words that the branch has in common with its origin are set apart. */
  markShared(words: number): void {
    this.#buttons().forEach((button, i) => button.classList.toggle('shared', i < words));
  }

  cut(at: number): void {
    for (const button of this.#buttons().slice(at)) button.remove();
    this.pieces.length = at;
    this.#focus = 0;
    this.#buttons()[0]?.setAttribute('tabindex', '0');
  }

  showMemory({ tokens, used, own, pages }: SessionMemory): void {
    this.element.dataset['own'] = String(own);
    this.element.dataset['used'] = String(used);
    this.element.dataset['tokens'] = String(tokens);
    const shared = pages - own;
    setText(this.#facts, `${count(tokens)} tokens fill ${bytes(used)} of ${bytes(pages)} in ` +
      `pages, ${shared > 0 ? `of which ${bytes(own)} are its own and ${bytes(shared)} shared.`
        : `all its own${this.origin === undefined ? '' :
          ': the cut lies before the end of the first page'}.`}`);
  }

  get text(): string {
    return this.prompt + this.pieces.join('');
  }
}
