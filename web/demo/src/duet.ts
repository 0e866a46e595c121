// The first screen: two models, one question, and the meter between them.
//
// The models start together, when both are loaded. What the meter shows comes from their `memory`
// events; before the first run it shows what the headers say.
import type { CacheType, MemoryReport, Session, StandardBytes } from 'onekv';
import facts from 'virtual:facts';
import type { CacheFacts } from 'virtual:facts';
import type { ShippedName } from 'virtual:facts';
import { announce } from './announce.js';
import { find, paced, setText } from './dom.js';
import { explain, isAbort } from './errors.js';
import { bytes, ratio } from './format.js';
import { lease, storySampling } from './library.js';
import type { Lease } from './library.js';
import { Meter, hasRun } from './meter.js';
import type { Reading } from './meter.js';
import { Pane } from './pane.js';

type Baseline = keyof StandardBytes;

interface Settings {
  prompt: string;
  cacheType: CacheType;
  baseline: Baseline;
  /** Tokens to write; Infinity: to the end of the window. */
  length: number;
  slides: boolean;
  /** Tokens per second, for reading along; Infinity: as fast as possible. */
  pace: number;
  seed: number;
}

/** Tokens that are asked for at once when there is a pace. */
const burst = 4;
const meterMs = 100;

const wait = (ms: number, signal: AbortSignal) => new Promise<void>((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    reject(signal.reason);
  }, { once: true });
});

/** One model with its pane. */
class Side {
  readonly pane: Pane;
  session: Session | undefined;
  report: MemoryReport | undefined;
  changed: () => void = () => {};
  #lease: Lease | undefined;
  readonly #listen = ({ memory }: { memory: MemoryReport }) => {
    this.report = memory;
    this.changed();
  };

  constructor(readonly name: ShippedName, pane: HTMLElement, hint: string) {
    this.pane = new Pane(pane, hint);
  }

  async load(cacheType: CacheType): Promise<void> {
    if (this.#lease?.lost === false && this.#lease.model.cacheType === cacheType) return;
    const taken = await lease(this.name, cacheType, (loaded, total) =>
      this.pane.loading(this.name, loaded, total));
    this.pane.loaded();
    this.#lease?.model.removeEventListener('memory', this.#listen);
    this.#lease?.release();
    this.#lease = taken;
    this.session = undefined;
    taken.model.addEventListener('memory', this.#listen);
  }

  get model() {
    if (this.#lease === undefined) throw new Error(`${this.name} is not loaded`);
    return this.#lease.model;
  }

  /** What the allocator counts for this side's session. */
  get reading(): Reading | undefined {
    const found = this.report?.bySession.find(({ session }) => session === this.session?.id);
    if (found === undefined || found.tokens === 0) return undefined;
    return { used: found.used, tokens: found.tokens, perToken: found.used / found.tokens,
      full: this.model.fullContext.used };
  }

  /** The same tokens in this model's layers if its heads shared, computed. */
  standard(baseline: Baseline): Reading | undefined {
    const found = this.report?.bySession.find(({ session }) => session === this.session?.id);
    if (found === undefined || found.tokens === 0) return undefined;
    const used = found.standard[baseline];
    const full = this.model.fullContext.standard[baseline];
    if (typeof used !== 'number' || typeof full !== 'number') return undefined;
    return { used, tokens: found.tokens, perToken: used / found.tokens, full };
  }

  async write(settings: Settings, signal: AbortSignal): Promise<void> {
    const { model } = this;
    await this.session?.destroy();
    this.report = undefined;
    // A story that is to go on and on must not come to its end.
    const ends = settings.slides ? (await model.vocabulary({ signal })).ends : [];
    const session = await model.createSession({
      chat: false, ...storySampling, seed: settings.seed, signal,
      overflow: settings.slides ? 'slide' : 'error',
      logitBias: Object.fromEntries(ends.map((token) => [token, -Infinity])),
    });
    this.session = session;
    this.pane.begin(settings.prompt);
    await this.#write(session, settings, signal);
    this.report = await model.memory({ signal });
  }

  /** With a pace the tokens are asked for in bursts, each when its time has come: the cache must
   * not grow ahead of the text that is shown. */
  async #write(session: Session, { prompt, length, slides, pace }: Settings,
    signal: AbortSignal): Promise<void> {
    const total = Math.min(length, slides ? Infinity : session.contextWindow);
    const isPaced = pace < Infinity;
    const started = performance.now();
    for (let written = 0, more = true; more && written < total;) {
      const generation = session.generate(written === 0 ? prompt : { tokens: [] },
        { maxTokens: Math.min(total - written, isPaced ? burst : Infinity), signal });
      for await (const part of generation) this.pane.add(part.text, part.token !== undefined);
      const { tokens, reason } = await generation.result;
      written += tokens.length;
      more = reason === 'length';
      if (more && isPaced) {
        await wait(started + 1000 * written / pace - performance.now(), signal);
      }
    }
  }
}

const names: Record<Baseline, string> = {
  MHA: 'standard QKV', 'GQA-8': 'QKV GQA-8', 'GQA-4': 'QKV GQA-4', 'GQA-3': 'QKV GQA-3',
  MQA: 'QKV MQA',
};

export class Duet {
  readonly meter = new Meter(find('#meter'), { one: 'Q-K=V MQA',
    hint: 'Run both to measure it.' });
  readonly one = new Side('stories-q-mqa', find('#pane-one'),
    'One tensor serves as key and as value, and one head of it serves every query head. Its ' +
    'story appears here.');
  readonly std = new Side('stories-qkv', find('#pane-std'),
    'Every head keeps a key and a value of its own: attention as it was invented. Its story ' +
    'appears here.');
  readonly #settings = find<HTMLFormElement>('#settings');
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();
  #started = 0;
  #hasRun = false;
  /** Seed and beginning of the last story that was asked for. */
  #told = '';
  /** Runs begun so far. */
  runs = 0;

  constructor() {
    find('#ask').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#nextSeed();
      void this.run();
      // On a small screen the button is there and the stories are not.
      this.one.pane.reveal();
    });
    find('#stop').addEventListener('click', () => this.#abort?.abort());
    this.#settings.addEventListener('submit', (event) => event.preventDefault());
    this.#settings.addEventListener('change', (event) => this.#changed(event.target as Element));
    this.one.changed = this.std.changed = paced(meterMs, () => this.#show());
    this.#show();
  }

  /** Who presses the button again wants another story, not the same once more. */
  #nextSeed(): void {
    const { seed, prompt } = this.settings;
    const told = `${seed} ${prompt}`;
    if (told === this.#told) {
      find<HTMLInputElement>('#seed').value = String((seed + 1) % 1_000_000);
    }
    this.#told = `${this.settings.seed} ${prompt}`;
  }

  get settings(): Settings {
    const data = new FormData(this.#settings);
    const length = find<HTMLSelectElement>('#length').value;
    const chosen = Number(length);
    return {
      prompt: find<HTMLInputElement>('#prompt').value.trim() || 'Once upon a time',
      cacheType: data.get('cache') as CacheType,
      baseline: data.get('baseline') as Baseline,
      length: length === 'full' ? Infinity : chosen,
      slides: chosen >= 10_000,
      pace: chosen >= 10_000 ? Infinity : Number(find<HTMLSelectElement>('#pace').value),
      seed: Math.max(0, Math.floor(Number(find<HTMLInputElement>('#seed').value) || 0)),
    };
  }

  #changed(target: Element): void {
    if (target.getAttribute('name') === 'cache') {
      this.one.report = this.std.report = undefined;
      if (this.#hasRun) void this.run();
    }
    this.#show();
    if (target.getAttribute('name') === 'baseline') this.#redraw();
  }

  /** One curve is of one baseline: a run's goes on with the new one, a finished one's gives way to
   * what the new one comes to. */
  #redraw(): void {
    const { plot, state } = this.meter;
    if (this.#isRunning) plot.clear();
    else if (state !== undefined) {
      plot.project(state.context, state.one.full, state.std.full);
    }
  }

  get #isRunning(): boolean {
    return find('#duet').dataset['state'] === 'running';
  }

  /** Runs both from the beginning; a run that is on its way ends first. */
  async run(): Promise<void> {
    // What is taken is shown, where something else was typed.
    find<HTMLInputElement>('#prompt').value = this.settings.prompt;
    find<HTMLInputElement>('#seed').value = String(this.settings.seed);
    this.#abort?.abort();
    const abort = this.#abort = new AbortController();
    await this.#running;
    if (abort.signal.aborted) return;
    this.#running = this.#work(abort).finally(() => this.#buttons(false));
    await this.#running;
  }

  async #work({ signal }: AbortController): Promise<void> {
    const { settings } = this;
    this.#buttons(true);
    this.runs += 1;
    this.#hasRun = true;
    announce('Loading both models');
    const failed = await this.#together((side) => side.load(settings.cacheType));
    if (failed || signal.aborted) return;
    this.#sayEngine();
    announce('Both are writing');
    this.meter.plot.clear();
    this.#started = performance.now();
    const stopped = await this.#together((side) => side.write(settings, signal)
      .finally(() => side.pane.end()));
    this.#show();
    this.#started = Infinity;   // the curve is over
    this.#conclude(stopped || signal.aborted);
  }

  /** Does both sides' work; true if one failed, which its pane says. */
  async #together(work: (side: Side) => Promise<void>): Promise<boolean> {
    const results = await Promise.all([this.one, this.std].map(async (side) => {
      try {
        await work(side);
        return false;
      } catch (error) {
        if (!isAbort(error)) {
          const text = explain(error);
          side.pane.fail(text);
          announce(text);
          this.#abort?.abort();
        }
        return true;
      }
    }));
    return results.includes(true);
  }

  #buttons(running: boolean): void {
    find<HTMLButtonElement>('#stop').disabled = !running;
    setText(find('#run'), running ? 'Start again' : 'Run both');
    find('#duet').dataset['state'] = running ? 'running' : this.#hasRun ? 'done' : 'idle';
  }

  #show(): void {
    const { baseline, cacheType } = this.settings;
    const one = this.one.reading;
    const twin = baseline === 'MHA';
    const std = twin ? this.std.reading : this.std.standard(baseline);
    const context = facts.models['stories-q-mqa'].description.contextWindow;
    if (one === undefined || std === undefined) {
      this.meter.show({ ...headers(cacheType, baseline), origin: twin ? 'header' : 'promised',
        baseline: names[baseline], context });
      return;
    }
    this.meter.show({ one, std, origin: twin ? 'measured' : 'computed',
      baseline: names[baseline], context });
    if (this.#isRunning) {
      this.meter.plot.add((performance.now() - this.#started) / 1000, one.used, std.used);
    }
  }

  #sayEngine(): void {
    const { simd, threads, isolated } = this.one.model.engine;
    setText(find('#engine-note'), `Each model runs in a worker of its own: ${simd} SIMD, ` +
      `${threads} ${threads === 1 ? 'thread' : 'threads'} each` +
      `${isolated ? '' : ', not isolated'}. The tokens in a cache are those of the beginning and ` +
      'those written, but for the last one, which nothing has looked back at yet.');
  }

  #conclude(stopped: boolean): void {
    const { state } = this.meter;
    if (state === undefined || !hasRun(state)) return;
    const text = `${bytes(state.one.used)} against ${bytes(state.std.used)}: ` +
      `${ratio(state.std.perToken / state.one.perToken)} times less per token.`;
    this.meter.plot.describe(`Bytes of cache over time, growing evenly. At the end ${text}`);
    announce(`${stopped ? 'Stopped' : 'Both are done'}. ${text}`);
  }
}

/** What the files' headers promise, for the meter before anything runs. */
function headers(cacheType: CacheType, baseline: Baseline): { one: Reading; std: Reading } {
  const { own } = facts.models['stories-q-mqa'].cache[cacheType];
  const twin = facts.models['stories-qkv'].cache[cacheType];
  const std = baseline === 'MHA' ? twin.own : twin.standard[baseline];
  const reading = ({ token, full }: CacheFacts) => ({ used: 0, tokens: 0, perToken: token, full });
  return { one: reading(own), std: reading(std) };
}
