// Suites of rates: prefill and decode by depth, sessions in one step, loading.
import type { Engine } from '../engine/engine.js';
import { loadModel } from '../source/load.js';
import type { Model } from '../engine/model.js';
import type { Session } from '../engine/session.js';
import { chooseSeconds, loadSeconds, readSeconds } from './costs.js';
import { greedy, measureDecode, measurePrefill, measureReading } from './rates.js';
import { randomIds, randomModel } from './random-model.js';
import type { Batch, Case, Outcome } from './runner.js';
import { hashBits } from './statistics.js';
import { Stable, labelsOf } from './subjects.js';
import type { Contender, Subject } from './subjects.js';

interface SpeedOptions {
  /** Tokens of a prompt that is read into a new session. */
  prefill: number;
  /** Tokens before those that are read or chosen, in rising order. */
  depths: readonly number[];
  /** Tokens that are read at each depth. */
  read: number;
  /** Tokens that are chosen in one measurement. */
  decode: number;
}

/** Snapshots of up to this many bytes save the other contenders a prefill. */
const snapshotMost = 512e6;

/** Contenders of one key differ in threads alone and have the same bits in their caches. */
const cacheKey = ({ subject, setting }: Contender) =>
  `${subject.title} ${setting.simd} ${setting.cacheType}`;

/** Sessions at each depth; their tokens are random and the same for all. */
class Depths {
  readonly #saved = new Map<string, Uint8Array[]>();
  readonly #sessions = new Map<Contender, Session[]>();

  /** `again`: a later contender has the same key. */
  prepare(stable: Stable, contender: Contender, depths: readonly number[], again: boolean): void {
    const model = stable.model(contender);
    const key = cacheKey(contender);
    const saved = this.#saved.get(key);
    if (saved !== undefined) {
      this.#sessions.set(contender, saved.map((bytes) => model.restoreSession(bytes)));
      if (!again) this.#saved.delete(key);
      return;
    }
    const deepest = depths.at(-1) ?? 0;
    const ids = randomIds(deepest, model.description.vocabulary);
    const growing = model.openSession(greedy);
    const sessions = depths.map((depth) => {
      growing.append(ids.subarray(growing.length, depth));
      return growing.clone();
    });
    growing.destroy();
    this.#sessions.set(contender, sessions);
    if (!again || 2 * model.cache.bytes(deepest).total > snapshotMost) return;
    this.#saved.set(key, sessions.map((session) => session.save()));
  }

  at(contender: Contender, index: number): Session {
    return this.#sessions.get(contender)?.[index] as Session;
  }
}

/** Loading all of them, and reading for those that differ in more than threads. */
function openSeconds(contenders: readonly Contender[], deepest: number): number {
  const threads = Math.max(...contenders.map(({ setting }) => setting.threads));
  return contenders.reduce((sum, contender) => sum + loadSeconds(contender.subject) +
    (contender.setting.threads === threads ? readSeconds(contender, deepest) : 0), 0);
}

const perSecond = { unit: 'tokens/s', better: 'more' } as const;

/** Prefill and decode of all contenders in turn. */
export function speedBatch(contenders: readonly Contender[], options: SpeedOptions): Batch {
  const stable = new Stable();
  const held = new Depths();
  const fits = (contender: Contender, tokens: number) =>
    tokens <= stable.model(contender).description.contextWindow;
  const most = Math.max(options.read, options.decode + 1);
  const cases = contenders.flatMap((contender): Case[] => {
    const labels = { suite: 'speed', ...labelsOf(contender), ...perSecond };
    const prefill: Case = {
      labels: { ...labels, name: `prefill ${options.prefill}` },
      seconds: readSeconds(contender, options.prefill),
      run: () => (fits(contender, options.prefill)
        ? measurePrefill(stable.model(contender), options.prefill) : undefined),
    };
    return [
      prefill,
      ...options.depths.map((depth, i): Case => ({
        labels: { ...labels, name: `prefill after ${depth}` },
        seconds: readSeconds(contender, depth + options.read, depth),
        run: () => (fits(contender, depth + most)
          ? measureReading(held.at(contender, i), options.read) : undefined),
      })),
      ...options.depths.map((depth, i): Case => ({
        labels: { ...labels, name: `decode after ${depth}` },
        seconds: chooseSeconds(contender, depth, options.decode),
        run: () => (fits(contender, depth + most)
          ? measureDecode(held.at(contender, i), options.decode) : undefined),
      })),
    ];
  });
  return {
    title: `speed: ${contenders.map(({ subject }) => subject.title)
      .filter((title, i, all) => all.indexOf(title) === i).join(', ')}`,
    cases,
    seconds: openSeconds(contenders, options.depths.at(-1) ?? 0),
    async open(pause) {
      for (const [i, contender] of contenders.entries()) {
        await pause(i / contenders.length);
        await stable.load(contender);
        const depths = options.depths.filter((depth) => fits(contender, depth + most));
        const again = contenders.slice(i + 1).some((one) => cacheKey(one) === cacheKey(contender));
        held.prepare(stable, contender, depths, again);
      }
    },
    close: () => stable.close(),
  };
}

/** One step with that many sessions, each of them 8 tokens long, again and again. */
function measureSessions(sessions: readonly Session[], steps: number): Outcome {
  const copies = sessions.map((session) => session.clone());
  try {
    const { model } = copies[0] as Session;
    const tokens: number[] = [];
    const started = performance.now();
    for (let i = 0; i < steps; i++) {
      tokens.push(...model.advance(copies).map(({ token }) => token));
    }
    const seconds = (performance.now() - started) / 1000;
    return { value: steps * copies.length / seconds, hash: hashBits(Int32Array.from(tokens)) };
  } finally {
    for (const copy of copies) copy.destroy();
  }
}

/** Tokens per second of sessions that are advanced together. */
export function sessionsBatch(contender: Contender, counts: readonly number[],
  steps: number): Batch {
  const stable = new Stable();
  const sessions: Session[] = [];
  const most = Math.max(...counts);
  return {
    title: `batch: ${contender.subject.title}`,
    cases: counts.map((count): Case => ({
      labels: { suite: 'batch', ...labelsOf(contender), ...perSecond,
        name: `${count} session${count === 1 ? '' : 's'}` },
      seconds: Math.max(readSeconds(contender, count * steps),
        chooseSeconds(contender, 8, steps)),
      run: () => measureSessions(sessions.slice(0, count), steps),
    })),
    seconds: loadSeconds(contender.subject) + readSeconds(contender, 8 * most),
    async open() {
      const model = await stable.load(contender, { batch: most });
      const { vocabulary } = model.description;
      for (let i = 0; i < most; i++) {
        const session = model.openSession(greedy);
        session.append(randomIds(8, vocabulary, i + 1));
        sessions.push(session);
      }
    },
    close: () => stable.close(),
  };
}

/** The subject with its bytes at hand, so that loading makes no random numbers. */
async function withBytes(subject: Subject): Promise<Subject> {
  if (subject.shaped === undefined) return subject;
  const chunks: Uint8Array[] = [];
  const { totalBytes, name, chunks: made } = randomModel(subject.shaped);
  for await (const chunk of made) chunks.push(chunk);
  async function* again(): AsyncGenerator<Uint8Array> {
    yield* chunks;
  }
  return { ...subject, load: (engine, options) =>
    loadModel(engine, { chunks: again(), totalBytes, name }, options) };
}

interface Loaded {
  engine: Engine;
  model: Model;
  milliseconds: number;
}

/** How long a model takes to load into a new engine, and what memory that takes at its peak. */
export function loadBatch({ subject, setting }: Contender): Batch {
  const labels = { suite: 'load', ...labelsOf({ subject, setting }), better: 'less' } as const;
  let ready = subject;
  // Without making the weights, and not for the first time.
  const packing = 0.1 + loadSeconds(subject) / 2;
  const load = async <T>(use: (loaded: Loaded) => T): Promise<T> => {
    const stable = new Stable();
    try {
      const engine = await stable.engine(setting);
      const started = performance.now();
      const model = await stable.load({ subject: ready, setting });
      return use({ engine, model, milliseconds: performance.now() - started });
    } finally {
      stable.close();
    }
  };
  const bytes = (name: string, value: (loaded: Loaded) => number): Case => ({
    labels: { ...labels, name, unit: 'bytes' },
    exact: true,
    seconds: packing,
    run: async () => ({ value: await load(value) }),
  });
  return {
    title: `load: ${subject.title}`,
    seconds: loadSeconds(subject),
    cases: [
      {
        labels: { ...labels, name: 'load', unit: 'ms' },
        seconds: packing,
        run: async () => ({ value: await load(({ milliseconds }) => milliseconds) }),
      },
      bytes('weights in memory', ({ model }) => model.memory().weights),
      bytes('peak of all kinds', ({ model }) => model.memory().peak),
      bytes('wasm memory', ({ engine }) => engine.memoryBytes),
    ],
    open: async () => {
      ready = await withBytes(subject);
    },
    close: () => {
      ready = subject;
    },
  };
}
