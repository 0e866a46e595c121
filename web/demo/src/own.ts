// A visitor's own model: looked at before it is loaded, then a chat with it beside the meter.
import { OneKV } from 'onekv';
import type { Estimate, Model, ModelSource, Session } from 'onekv';
import facts from 'virtual:facts';
import { announce } from './announce.js';
import { Chat } from './chat.js';
import { find, h, setText } from './dom.js';
import { explainInParts, isAbort } from './errors.js';
import { bytes, count, exactBytes, ratio, short } from './format.js';
import { Meter } from './meter.js';

/** The suggestion is fetched from this server where it has it, else from where it was published. */
async function suggestedUrl(): Promise<string> {
  const near = new URL(`fetched/${facts.suggested.file}`, document.baseURI).href;
  const found = await fetch(near, { method: 'HEAD' }).then(({ ok }) => ok, () => false);
  return found ? near : facts.suggested.url;
}

function description(estimate: Estimate): HTMLElement {
  const { description: d, standardBytesPerToken: standard } = estimate;
  const forgets = d.windowedLayers === 0 ? ''
    : ` (${d.windowedLayers} of ${d.layers} layers keep the last ${count(d.window)} tokens only)`;
  const rows: [string, string][] = [
    ['what', `${estimate.name ?? d.architecture}, ${d.projection} ${d.heads}: ` +
      `${d.kvHeads} of ${d.queryHeads} heads`],
    ['size', `${short(estimate.parameters)} parameters, ${bytes(estimate.fileBytes)}`],
    ['per token', `${exactBytes(estimate.bytesPerToken)} of cache${forgets}; standard QKV ` +
      `${exactBytes(standard.MHA)}, ${ratio(standard.MHA / estimate.bytesPerToken)}× as much`],
    ['all its context', `${count(d.contextWindow)} tokens, ` +
      `${bytes(estimate.fullContext.used)} of cache, computed`],
  ];
  return h('dl', { class: 'facts-list' }, rows.flatMap(([name, text]) =>
    [h('dt', {}, name), h('dd', {}, text)]));
}

export class Own {
  readonly #root = find('#own .shown');
  readonly #address = h('input', { type: 'text', inputmode: 'url', id: 'own-url',
    autocomplete: 'off', placeholder: 'https://…/model.gguf' });
  readonly #file = h('input', { type: 'file', id: 'own-file', accept: '.gguf', class: 'sr' });
  readonly #drop: HTMLElement;
  readonly #found = h('div', { class: 'found' });
  readonly #room = h('div', { class: 'room' });
  #abort: AbortController | undefined;
  #model: Model | undefined;
  #session: Session | undefined;
  #meter: Meter | undefined;
  #started = 0;

  constructor() {
    const suggestion = h('button', { type: 'button', class: 'link', id: 'own-suggested' },
      `SmolLM2-135M-Instruct (${bytes(facts.suggested.bytes)})`);
    const form = h('form', { class: 'row', submit: (event: Event) => event.preventDefault() },
      h('label', { class: 'field grow' }, 'Address', this.#address),
      h('button', { type: 'submit', id: 'own-inspect' }, 'Look at it'));
    this.#drop = h('div', { class: 'drop', id: 'own-drop' },
      h('p', {}, 'Drop a GGUF file here, or ',
        h('label', { class: 'pick' }, this.#file, h('span', {}, 'choose one')), '.'),
      h('p', { class: 'soft' }, 'No model at hand? Try ', suggestion, '.'));
    this.#root.append(this.#drop, form, this.#found, this.#room);
    form.addEventListener('submit', () => void this.inspect(this.#address.value.trim()));
    suggestion.addEventListener('click', () => void suggestedUrl().then((url) => {
      this.#address.value = url;
      return this.inspect(url, facts.suggested.sha256);
    }));
    this.#file.addEventListener('change', () => {
      const chosen = this.#file.files?.[0];
      if (chosen !== undefined) this.#take(chosen);
      this.#file.value = '';
    });
    this.#listen();
  }

  #listen(): void {
    const over = (on: boolean) => (event: DragEvent) => {
      event.preventDefault();
      this.#drop.classList.toggle('over', on);
    };
    this.#drop.addEventListener('dragover', over(true));
    this.#drop.addEventListener('dragleave', over(false));
    this.#drop.addEventListener('drop', (event) => {
      over(false)(event);
      const file = event.dataTransfer?.files[0];
      if (file !== undefined) this.#take(file);
    });
  }

  /** A file takes the place of an address. */
  #take(file: File): void {
    this.#address.value = '';
    void this.inspect(file);
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** Reads the header and says what it says. */
  async inspect(source: string | File, integrity?: string): Promise<void> {
    this.#abort?.abort();
    const { signal } = this.#abort = new AbortController();
    if (typeof source === 'string' && /^(hf:|$)/.test(source)) {
      return this.#fail(source !== ''
        ? 'Names such as hf:… work in the package and in the terminal. Here, give the https ' +
          'address of a .gguf file.'
        : 'There is no address. Give that of a .gguf file (https://… or, on this server, ' +
          '/models/…), or drop a file.');
    }
    this.#found.replaceChildren(h('p', { class: 'soft' }, 'Reading the header …'));
    try {
      const [estimate, able] = await Promise.all([
        OneKV.estimate(source, { signal }), OneKV.availability({ signal })]);
      if (!signal.aborted) this.#show(estimate, able.memoryBytes.value, source, integrity);
    } catch (error) {
      if (!isAbort(error) && !signal.aborted) this.#fail(...explainInParts(error));
    }
  }

  /** What was found is for those who made the file or run the host. */
  #fail(text: string, found?: string): void {
    this.#found.replaceChildren(h('div', { class: 'error', role: 'alert' }, text,
      found !== undefined && h('details', {}, h('summary', {}, 'Details'), found)));
  }

  #show(estimate: Estimate, memoryBytes: number, source: string | File,
    integrity: string | undefined): void {
    const tokens = estimate.contextFor(memoryBytes);
    const { contextWindow, causal } = estimate.description;
    const fits = tokens > 0;
    const most = `WebAssembly can have at most ${bytes(memoryBytes)} of memory`;
    const verdict = !causal ? 'It reads whole sequences and has no conversation to chat in.'
      : !fits ? `It does not fit: ${most}, and its weights and working memory alone take ` +
          `${bytes(estimate.weightBytes + estimate.scratchBytes)}.`
        : `It fits${tokens >= contextWindow ? ', with all of its context'
          : ` with ${count(tokens)} tokens of context`}: ${most}. A phone may have less.`;
    const load = h('button', { type: 'button', id: 'own-load', class: 'primary',
      click: () => void this.load(source, Math.min(tokens, contextWindow), integrity) },
    `Load ${bytes(estimate.fileBytes)}`);
    this.#found.replaceChildren(description(estimate),
      h('p', { class: fits && causal ? 'verdict' : 'error', id: 'own-verdict' }, verdict));
    if (fits && causal) this.#found.append(load);
    announce(verdict);
  }

  async load(source: ModelSource, contextWindow: number, integrity?: string): Promise<void> {
    const { signal } = this.#abort ?? new AbortController();
    const bar = h('progress', { 'aria-label': 'Loading the model' });
    const says = h('p', { class: 'soft' });
    const cancel = h('button', { type: 'button', class: 'plain',
      click: () => this.#abort?.abort() }, 'Cancel');
    this.#found.append(h('div', { class: 'loading' }, bar, says, cancel));
    find<HTMLButtonElement>('#own-load').disabled = true;
    try {
      await this.#close();
      this.#model = await OneKV.load(source, {
        signal, contextWindow, ...(integrity === undefined ? {} : { integrity }),
        monitor: (monitor) => monitor.addEventListener('downloadprogress', ({ loaded, total }) => {
          if (total > 0) [bar.max, bar.value] = [total, loaded];
          setText(says, `${bytes(loaded)}${total > 0 ? ` of ${bytes(total)}` : ''}`);
        }),
      });
      this.#session = await this.#model.createSession({ temperature: 0.7, topP: 0.95,
        overflow: 'slide', signal });
      this.#chat(this.#model, this.#session);
      announce('The model is loaded; you can write to it');
    } catch (error) {
      if (!isAbort(error) && !signal.aborted) this.#fail(...explainInParts(error));
    } finally {
      this.#found.querySelector('.loading')?.remove();
      const button = this.#found.querySelector<HTMLButtonElement>('#own-load');
      if (button !== null) button.disabled = false;
    }
  }

  async #close(): Promise<void> {
    await this.#model?.unload();
    this.#model = this.#session = undefined;
    this.#room.replaceChildren();
  }

  #chat(model: Model, session: Session): void {
    const { projection, heads } = model.description;
    const meterRoot = h('div', { class: 'meter', role: 'group', 'aria-label': 'Cache, measured' });
    const meter = new Meter(meterRoot, { one: `${projection} ${heads}`,
      hint: 'Write to the model to measure it.' });
    this.#meter = meter;
    this.#started = performance.now();
    const { used: full, standard: { MHA: standardFull } } = model.fullContext;
    meter.show({ one: { used: 0, tokens: 0, perToken: model.bytesPerToken, full },
      origin: 'header', std: { used: 0, tokens: 0, perToken: model.standardBytesPerToken.MHA,
        full: standardFull }, baseline: 'standard QKV',
      context: model.contextWindow });
    model.addEventListener('memory', ({ memory }) => {
      const found = memory.bySession.find((entry) => entry.session === session.id);
      if (found === undefined || found.tokens === 0 || this.#meter !== meter) return;
      const reading = (used: number, all: number) => ({ used, tokens: found.tokens,
        perToken: used / found.tokens, full: all });
      meter.show({ one: reading(found.used, full), origin: 'computed',
        std: reading(found.standard.MHA, standardFull), baseline: 'standard QKV',
        context: model.contextWindow });
      meter.plot.add((performance.now() - this.#started) / 1000, found.used, found.standard.MHA);
    });
    const chat = new Chat(session);
    this.#room.replaceChildren(chat.element, meterRoot);
    chat.focus();
  }

  restyle(): void {
    this.#meter?.plot.restyle();
  }
}
