// A conversation with a model: what was said, and a field to say more.
import type { Session } from 'onekv';
import { announce } from './announce.js';
import { find, h, setText } from './dom.js';
import { explain, isAbort } from './errors.js';
import { perSecond } from './format.js';

const answerMax = 400;

export class Chat {
  readonly element: HTMLElement;
  readonly #log = h('ol', { class: 'log', tabindex: 0, 'aria-label': 'Conversation' });
  readonly #field = h('input', { type: 'text', id: 'own-say', autocomplete: 'off',
    'aria-label': 'Your message' });
  readonly #send = h('button', { type: 'submit', id: 'own-send' }, 'Send');
  readonly #speed = h('small', { class: 'soft' });
  #abort: AbortController | undefined;

  constructor(readonly session: Session) {
    const form = h('form', { class: 'row' }, this.#field, this.#send);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#abort === undefined) void this.say(this.#field.value.trim());
      else this.#abort.abort();
    });
    this.element = h('div', { class: 'chat' }, this.#log, form, this.#speed);
  }

  focus(): void {
    this.#field.focus({ preventScroll: true });
  }

  #line(who: string): HTMLElement {
    const line = h('li', { class: who }, h('b', {}, who === 'you' ? 'You' : 'Model'), h('p'));
    this.#log.append(line);
    return find('p', line);
  }

  async say(text: string): Promise<void> {
    if (text === '') return;
    this.#field.value = '';
    this.#line('you').textContent = text;
    const answer = this.#line('model');
    const { signal } = this.#abort = new AbortController();
    setText(this.#send, 'Stop');
    let [tokens, first] = [0, 0];
    try {
      for await (const part of this.session.generate(text, { maxTokens: answerMax, signal })) {
        if (part.token !== undefined) tokens += 1;
        first ||= performance.now();
        answer.append(part.text);
        this.#log.scrollTop = this.#log.scrollHeight;
        const seconds = (performance.now() - first) / 1000;
        if (tokens > 1) setText(this.#speed, `${perSecond((tokens - 1) / seconds)} tokens/s`);
      }
      announce(`The model says: ${answer.textContent ?? ''}`);
    } catch (error) {
      if (!isAbort(error)) answer.append(h('span', { class: 'error' }, explain(error)));
    } finally {
      this.#abort = undefined;
      setText(this.#send, 'Send');
    }
  }
}
