// Sixty-four stories from one prompt: it is read once, cloned, and all clones advance together.
import type { Model, Session } from 'onekv';
import facts from 'virtual:facts';
import { announce } from './announce.js';
import { find, h, setText } from './dom.js';
import { explain, isAbort } from './errors.js';
import { bytes, exactBytes, ratio } from './format.js';
import { lease, storySampling } from './library.js';
import type { Lease } from './library.js';
import { Reader } from './many-reader.js';

const stories = 64;
/** At least; a story ends where a page does, so that no page is half empty. */
const tokensEach = 72;
/** More than two pages, which all have in common. */
const prompt = 'Once upon a time there was a little girl who lived with her mother in a small ' +
  'house near a big forest. She had a red ball, a blue hat and a brown dog, and she loved all of ' +
  'them very much. Every day they went out to play under the big tree. One day they went into ' +
  'the garden and saw';

/** What attention alone saves of a token's cache; the rest is what sharing the prompt adds. */
const { own, standard: others } = facts.models['stories-q-mqa'].cache.f16;
const byAttention = others.MHA.token / own.token;

/** Tokens to write after that many. */
const fill = (before: number, pageTokens: number) =>
  Math.ceil((before + tokensEach) / pageTokens) * pageTokens - before;

class Tile {
  readonly element = h('li', { class: 'tile' });
  text = '';
  tokens = 0;
  /** Being written: the newest words are in sight, else the beginning. */
  isGrowing = false;
  #dirty = false;

  add(text: string, isToken: boolean): void {
    this.text += text;
    if (isToken) this.tokens += 1;
    this.#dirty = true;
  }

  draw(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.element.textContent = this.text.trimStart();
    this.#scroll();
  }

  end(): void {
    this.isGrowing = false;
    this.#scroll();
  }

  #scroll(): void {
    this.element.scrollTop = this.isGrowing ? this.element.scrollHeight : 0;
  }

  clear(): void {
    this.text = '';
    this.tokens = 0;
    this.isGrowing = true;
    this.#dirty = true;
    this.draw();
  }
}

export class Many {
  readonly tiles = Array.from({ length: stories }, () => new Tile());
  readonly #button = h('button', { type: 'button', id: 'many-run' }, `Start ${stories} stories`);
  readonly #stop = h('button', { type: 'button', class: 'plain', id: 'many-stop', disabled: true },
    'Stop');
  readonly #cells = {
    cache: h('dd', { id: 'many-cache' }, '–'), standard: h('dd', { id: 'many-standard' }, '–'),
    ratio: h('dd', { id: 'many-ratio' }, '–'), written: h('dd', { id: 'many-written' }, '–'),
  };
  readonly #split = h('p', { class: 'note', id: 'many-split' });
  readonly #reader: Reader;
  readonly #problem = h('div');
  readonly #grid = h('ol', { class: 'tiles idle', 'aria-label': `${stories} stories` });
  #abort: AbortController | undefined;

  constructor() {
    const { cache, standard, ratio: times, written } = this.#cells;
    const total = (label: string, value: HTMLElement) => h('div', {}, h('dt', {}, label), value);
    this.#reader = new Reader(this.tiles.map(({ element }) => element),
      (at) => `${prompt}${this.tiles[at]?.text ?? ''}`);
    find('#many .shown').prepend(
      h('div', { class: 'row' }, this.#button, this.#stop, this.#reader.button),
      h('dl', { class: 'totals' }, total('cache of all 64', cache),
        total('the same in standard QKV', standard), total('times less', times),
        total('tokens of each story', written)),
      this.#split,
      h('p', { class: 'many-prompt' }, prompt, ' …'),
      this.#grid, this.#problem);
    this.#grid.append(...this.tiles.map(({ element }) => element));
    this.#button.addEventListener('click', () => void this.run());
    this.#stop.addEventListener('click', () => this.#abort?.abort());
  }

  async run(): Promise<void> {
    const { signal } = this.#abort = new AbortController();
    this.#button.disabled = true;
    this.#stop.disabled = false;
    this.#reader.button.disabled = false;
    this.#problem.replaceChildren();
    let taken: Lease | undefined;
    const sessions: Session[] = [];
    try {
      taken = await lease('stories-q-mqa', 'f16', (loaded, of) =>
        setText(this.#cells.written, `loading ${Math.round(100 * loaded / (of || 1))} %`));
      setText(this.#cells.written, 'reading …');
      await this.#clone(taken.model, sessions, signal);
      announce(`${stories} stories are being written`);
      await this.#write(taken.model, sessions, signal);
      announce(`${stories} stories are done: ${this.#cells.cache.textContent ?? ''} of cache, ` +
        `standard QKV would hold ${this.#cells.standard.textContent ?? ''}`);
    } catch (error) {
      if (sessions.length < stories) setText(this.#cells.written, '–');
      if (!isAbort(error)) {
        this.#problem.append(h('p', { class: 'error', role: 'alert' }, explain(error)));
      }
    } finally {
      await Promise.allSettled(sessions.map((session) => session.destroy()));
      taken?.release();
      this.#button.disabled = false;
      this.#stop.disabled = true;
    }
  }

  async #clone(model: Model, sessions: Session[], signal: AbortSignal): Promise<void> {
    this.#grid.classList.remove('idle');
    for (const tile of this.tiles) tile.clear();
    const base = await model.createSession({ chat: false, ...storySampling, seed: 1 });
    sessions.push(base);
    await base.append(prompt, { signal });
    for (let i = 1; i < stories; i += 1) sessions.push(await base.clone({ signal }));
    await Promise.all(sessions.map((session, i) =>
      session.setSampling({ ...storySampling, seed: i + 1 })));
  }

  async #write(model: Model, sessions: Session[], signal: AbortSignal): Promise<void> {
    const each = fill(sessions[0]?.contextUsage ?? 0, model.pageTokens);
    const draw = () => {
      for (const tile of this.tiles) tile.draw();
      // Of the stories that have not come to their end, all are as far.
      const at = Math.max(...this.tiles.map(({ tokens }) => tokens));
      setText(this.#cells.written, `${at} of ${each}`);
    };
    const listen = ({ memory }: { memory: Awaited<ReturnType<Model['memory']>> }) => {
      const ours = new Set(sessions.map(({ id }) => id));
      const standard = memory.bySession.filter(({ session }) => ours.has(session))
        .reduce((sum, session) => sum + session.standard.MHA, 0);
      for (const [name, value] of [['cache', memory.cacheUsed], ['standard', standard]] as const) {
        setText(this.#cells[name], bytes(value));
        this.#cells[name].title = exactBytes(value);
        this.#cells[name].dataset['bytes'] = String(value);
      }
      const times = standard / memory.cacheUsed;
      setText(this.#cells.ratio, ratio(times));
      setText(this.#split, `Of that, ${ratio(byAttention)} times is attention’s doing, and ` +
        `${ratio(times / byAttention)} times that the prompt’s pages are there once.`);
    };
    model.addEventListener('memory', listen);
    const timer = setInterval(draw, 100);
    try {
      const parts = model.batch(sessions).promptStreaming({ tokens: [] },
        { maxTokens: each, signal });
      for await (const { index, text, token } of parts) {
        this.tiles[index]?.add(text, token !== undefined);
      }
    } finally {
      clearInterval(timer);
      draw();
      for (const tile of this.tiles) tile.end();
      listen({ memory: await model.memory() });
      model.removeEventListener('memory', listen);
    }
  }
}
