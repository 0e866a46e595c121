// One of the two panes: the story as it comes, time to the first token, tokens written.
//
// No tokens per second: two models that run at once, or in bursts, measure each other. How fast
// this machine is, the benchmark at the end of the page says.
import { find, h, paced, setText } from './dom.js';
import { bytes, count, milliseconds } from './format.js';

/** Longer text is cut at its beginning: an endless story takes no more memory than a long one. */
const charactersMax = 6_000;
/** The beginning is one's own: of a long one, so much is shown. */
const givenMax = 600;
const flushMs = 80;

export class Pane {
  readonly #root: HTMLElement;
  readonly #first = h('dd', {}, '–');
  readonly #tokens = h('dd', {}, '–');
  readonly #story: HTMLElement;
  readonly #given = h('span', { class: 'given' });
  readonly #written = document.createTextNode('');
  #waiting = '';
  #started = 0;
  #count = 0;

  constructor(root: HTMLElement, hint: string) {
    this.#root = root;
    const name = find('h2', root).textContent ?? '';
    this.#story = h('div', { class: 'story', tabindex: 0, role: 'region',
      'aria-label': `Story of ${name}` }, h('p', { class: 'hint' }, hint));
    const stat = (label: string, value: HTMLElement) => h('div', {}, h('dt', {}, label), value);
    root.append(h('dl', { class: 'stats' }, stat('first token after', this.#first),
      stat('tokens written', this.#tokens)), this.#story);
  }

  /** Tokens written so far. */
  get count(): number {
    return this.#count;
  }

  get text(): string {
    return this.#written.data + this.#waiting;
  }

  loading(name: string, loaded: number, total: number): void {
    let bar = this.#story.querySelector('progress');
    if (bar === null) {
      bar = h('progress', { 'aria-label': `Loading ${name}` });
      this.#story.replaceChildren(h('p', { class: 'hint' }), bar);
    }
    bar.max = total || 1;
    bar.value = loaded;
    setText(find('.hint', this.#story),
      `Loading ${name}: ${bytes(loaded)} of ${bytes(total)}`);
  }

  /** In the progress bar's place: a story need not follow. */
  loaded(): void {
    this.#story.replaceChildren(h('p', { class: 'hint' }, 'The model is loaded.'));
  }

  begin(prompt: string): void {
    this.#given.textContent = prompt.length <= givenMax ? prompt
      : `${prompt.slice(0, givenMax)} … `;
    this.#written.data = '';
    this.#waiting = '';
    this.#count = 0;
    this.#started = performance.now();
    for (const value of [this.#first, this.#tokens]) setText(value, '–');
    this.#story.replaceChildren(this.#given, this.#written);
    this.#story.classList.add('running');
  }

  add(text: string, isToken: boolean): void {
    if (isToken) {
      this.#count += 1;
      if (this.#count === 1) {
        setText(this.#first, milliseconds(performance.now() - this.#started));
      }
    }
    this.#waiting += text;
    this.#flushSoon();
  }

  readonly #flushSoon = paced(flushMs, () => this.#flush());

  /** Writes what has come since the last time. */
  #flush(): void {
    if (this.#count === 0) return;
    const story = this.#story;
    const atEnd = story.scrollHeight - story.scrollTop - story.clientHeight < 40;
    this.#written.appendData(this.#waiting);
    this.#waiting = '';
    const over = this.#written.length - charactersMax;
    if (over > 0) {
      this.#written.deleteData(0, over + charactersMax / 4);
      this.#given.textContent = '… ';
    }
    if (atEnd) story.scrollTop = story.scrollHeight;
    setText(this.#tokens, count(this.#count));
  }

  /** Moves the page no further than it takes to see the story. */
  reveal(): void {
    this.#story.scrollIntoView({ block: 'nearest' });
  }

  /** A story that is done is read from its beginning. */
  end(): void {
    this.#flush();
    this.#story.scrollTop = 0;
    this.#story.classList.remove('running');
  }

  /** Above the story: what follows a long beginning is out of sight. */
  fail(text: string): void {
    this.end();
    if (this.#story.querySelector('progress') !== null) this.#story.replaceChildren();
    this.#story.prepend(h('p', { class: 'hint error', role: 'alert' }, text));
    this.#root.dataset['failed'] = 'yes';
  }
}
