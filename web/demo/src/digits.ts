// Draw a digit: a Q-K=V and a QKV vision transformer answer, with probabilities.
//
// The drawing is brought into the form of the digits that the models were trained on: its box
// scaled to 20 of 28 pixels, its centre of mass in the middle.
import type { ShippedName } from 'virtual:facts';
import facts from 'virtual:facts';
import { announce } from './announce.js';
import { find, h, setPart, setText } from './dom.js';
import { explain } from './errors.js';
import { count, milliseconds } from './format.js';
import { lease } from './library.js';
import type { Lease } from './library.js';
import { digitStrokes } from './strokes.js';

const size = 28;
const box = 20;
const canvasSize = 280;

/** Grey values, 0 paper to 1 ink, [28][28]; undefined when nothing is drawn. */
function normalise(drawn: HTMLCanvasElement): Float32Array | undefined {
  const { width, height } = drawn;
  const alpha = drawn.getContext('2d')?.getImageData(0, 0, width, height).data;
  if (alpha === undefined) return undefined;
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let i = 3; i < alpha.length; i += 4) {
    if ((alpha[i] ?? 0) < 32) continue;
    const x = (i >> 2) % width;
    const y = Math.floor((i >> 2) / width);
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
  }
  if (right < 0) return undefined;
  const scale = box / Math.max(right - left + 1, bottom - top + 1);
  const [w, hgt] = [(right - left + 1) * scale, (bottom - top + 1) * scale];
  const from = [left, top, right, bottom];
  const [mx, my] = mass(draw(drawn, from, [(size - w) / 2, (size - hgt) / 2, w, hgt]));
  return draw(drawn, from,
    [(size - w) / 2 + size / 2 - mx, (size - hgt) / 2 + size / 2 - my, w, hgt]);
}

function draw(source: HTMLCanvasElement, from: readonly number[],
  to: readonly number[]): Float32Array {
  const small = h('canvas', { width: size, height: size });
  const context = small.getContext('2d', { willReadFrequently: true });
  const grey = new Float32Array(size * size);
  if (context === null) return grey;
  const [left = 0, top = 0, right = 0, bottom = 0] = from;
  const [x = 0, y = 0, w = 1, hgt = 1] = to;
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, left, top, right - left + 1, bottom - top + 1, x, y, w, hgt);
  const { data } = context.getImageData(0, 0, size, size);
  return grey.map((_, i) => (data[4 * i + 3] ?? 0) / 255);
}

/** Centre of mass, in pixels. */
function mass(grey: Float32Array): [number, number] {
  let [sum, x, y] = [0, 0, 0];
  grey.forEach((value, i) => {
    sum += value;
    x += value * (i % size + 0.5);
    y += value * (Math.floor(i / size) + 0.5);
  });
  return [x / sum, y / sum];
}

/** Ten bars of one model. */
class Answer {
  readonly element: HTMLElement;
  readonly #best = h('p', { class: 'best' }, '–');
  readonly #says = h('p', { class: 'soft' });
  readonly #bars: HTMLElement[];

  constructor(readonly name: ShippedName, kind: 'one' | 'std', readonly title: string) {
    this.#bars = Array.from({ length: 10 }, (_, digit) =>
      h('li', { class: `bar ${kind}` }, h('b', {}, digit), h('i'), h('span')));
    const { parameters } = facts.models[name];
    this.element = h('div', { class: `answer ${kind}`, 'data-model': name },
      h('h3', { class: `${kind}-ink` }, title),
      h('small', { class: 'soft' }, `${count(parameters)} parameters`),
      this.#best, h('ol', { class: 'guesses' }, this.#bars), this.#says);
  }

  show(probabilities: Float32Array, best: number, took: number): void {
    setText(this.#best, String(best));
    this.element.dataset['best'] = String(best);
    probabilities.forEach((probability, digit) => {
      const bar = this.#bars[digit] as HTMLElement;
      setPart(bar, probability);
      setText(find('span', bar), `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`);
    });
    setText(this.#says, `in ${milliseconds(took)}`);
  }

  /** What it is about. */
  says(text: string): void {
    setText(this.#says, text);
  }

  clear(): void {
    this.says('');
    setText(this.#best, '–');
    delete this.element.dataset['best'];
    for (const bar of this.#bars) {
      setPart(bar, 0);
      setText(find('span', bar), '');
    }
  }
}

export class Digits {
  readonly canvas = h('canvas', { width: canvasSize, height: canvasSize, id: 'digit',
    'aria-label': 'Drawing field. The buttons below draw a digit for you.', role: 'img' });
  readonly #context = this.canvas.getContext('2d', { willReadFrequently: true });
  readonly #answers = [new Answer('digits-keqv', 'one', 'Q-K=V'),
    new Answer('digits-qkv', 'std', 'QKV')];
  readonly #problem = h('div');
  readonly #leases = new Map<ShippedName, Promise<Lease>>();
  #pending = false;
  #running = false;

  constructor() {
    const samples = digitStrokes.map((_, digit) => h('button', { type: 'button', class: 'plain',
      'aria-label': `Draw a ${digit}`, click: () => this.drawSample(digit) }, digit));
    find('#digits .shown').append(h('div', { class: 'drawing' },
      h('div', { class: 'easel' }, this.canvas,
        h('div', { class: 'samples', role: 'group', 'aria-label': 'Digits to draw' }, samples),
        h('button', { type: 'button', class: 'plain', id: 'digit-clear',
          click: () => this.clear() }, 'Clear')),
      this.#answers.map(({ element }) => element)), this.#problem);
    this.#listen();
  }

  #pen(): CanvasRenderingContext2D {
    const context = this.#context as CanvasRenderingContext2D;
    context.lineWidth = 22;
    context.lineCap = context.lineJoin = 'round';
    context.strokeStyle = getComputedStyle(this.canvas).color;
    return context;
  }

  #listen(): void {
    const { canvas } = this;
    const at = (event: PointerEvent) => {
      const { left, top, width } = canvas.getBoundingClientRect();
      const scale = canvasSize / width;
      return [(event.clientX - left) * scale, (event.clientY - top) * scale] as const;
    };
    let last: readonly [number, number] | undefined;
    canvas.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      last = at(event);
      this.#line(last, last);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (last === undefined) return;
      const next = at(event);
      this.#line(last, next);
      last = next;
    });
    const end = () => {
      if (last !== undefined) void this.ask();
      last = undefined;
    };
    canvas.addEventListener('pointerup', end);
    canvas.addEventListener('pointercancel', end);
  }

  #line([x, y]: readonly [number, number], [toX, toY]: readonly [number, number]): void {
    const pen = this.#pen();
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(toX + 0.01, toY);
    pen.stroke();
  }

  clear(): void {
    this.#context?.clearRect(0, 0, canvasSize, canvasSize);
    for (const answer of this.#answers) answer.clear();
  }

  drawSample(digit: number): void {
    this.clear();
    const pen = this.#pen();
    for (const stroke of digitStrokes[digit] ?? []) {
      pen.beginPath();
      stroke.forEach(([x, y], i) => (i === 0 ? pen.moveTo(x * canvasSize, y * canvasSize)
        : pen.lineTo(x * canvasSize, y * canvasSize)));
      pen.stroke();
    }
    void this.ask();
  }

  /** One question at a time; what was drawn meanwhile is asked about next. */
  async ask(): Promise<void> {
    this.#pending = true;
    if (this.#running) return;
    this.#running = true;
    this.#problem.replaceChildren();
    try {
      while (this.#pending) {
        this.#pending = false;
        const data = normalise(this.canvas);
        if (data !== undefined) await Promise.all(this.#answers.map((a) => this.#show(a, data)));
      }
      announce(this.#answers.map(({ title, element }) =>
        `${title} says ${element.dataset['best'] ?? 'nothing'}`).join(', '));
    } catch (error) {
      this.#problem.append(h('p', { class: 'error', role: 'alert' }, explain(error)),
        h('button', { type: 'button', click: () => void this.ask() }, 'Try again'));
    } finally {
      this.#running = false;
    }
  }

  async #show(answer: Answer, data: Float32Array): Promise<void> {
    const { name } = answer;
    const taken = this.#leases.get(name) ?? lease(name, 'f16', (loaded, of) =>
      answer.says(`Loading ${Math.round(100 * loaded / (of || 1))} %`));
    this.#leases.set(name, taken);
    try {
      const { model } = await taken;
      answer.says('Reading …');
      const begun = performance.now();
      const { probabilities, best } = await model.classify({ width: size, height: size, data });
      answer.show(probabilities, best, performance.now() - begun);
    } catch (error) {
      this.#leases.delete(name);
      answer.clear();
      throw error;
    }
  }
}
