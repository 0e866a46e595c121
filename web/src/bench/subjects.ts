// What is measured with what: models, and the engines that they are loaded into.
import type { CacheType, SimdLevel } from '../api/description.js';
import type { ModelOptions } from '../engine/loader.js';
import { Engine } from '../engine/engine.js';
import { loadModel } from '../source/load.js';
import type { Model } from '../engine/model.js';
import { randomModel } from './random-model.js';
import { titleOf } from './shapes.js';
import type { ShapedModel } from './shapes.js';

/** A model that can be loaded again and again. */
export interface Subject {
  title: string;
  /** Of random weights: what they were made from. */
  shaped?: ShapedModel;
  load(engine: Engine, options: ModelOptions): Promise<Model>;
}

export interface Setting {
  threads: number;
  simd: SimdLevel;
  cacheType: CacheType;
}

/** A subject under a setting, opened by a Stable. */
export interface Contender {
  subject: Subject;
  setting: Setting;
}

export function shapedSubject(shaped: ShapedModel): Subject {
  return {
    title: titleOf(shaped), shaped,
    load: (engine, options) => loadModel(engine, randomModel(shaped), options),
  };
}

/** What settings have in common with a row of results. */
export const labelsOf = ({ subject, setting }: Contender) => ({
  model: subject.title, threads: setting.threads, simd: setting.simd, cacheType: setting.cacheType,
});

/** Engines and models in use; an engine serves all models of its threads and SIMD level. */
export class Stable {
  readonly #engines = new Map<string, Engine>();
  readonly #models = new Map<Contender, Model>();

  async engine({ threads, simd }: Pick<Setting, 'threads' | 'simd'>): Promise<Engine> {
    const key = `${simd} ${threads}`;
    const known = this.#engines.get(key);
    if (known !== undefined) return known;
    const engine = await Engine.open({ threads, simd });
    this.#engines.set(key, engine);
    if (engine.threads !== threads) {
      throw new Error(`not measured with ${threads} threads: ${engine.notes.join('; ')}`);
    }
    return engine;
  }

  async load(contender: Contender, options: ModelOptions = {}): Promise<Model> {
    const engine = await this.engine(contender.setting);
    const model = await contender.subject.load(engine,
      { cacheType: contender.setting.cacheType, ...options });
    this.#models.set(contender, model);
    return model;
  }

  /** Of a contender that was loaded. */
  model(contender: Contender): Model {
    const model = this.#models.get(contender);
    if (model === undefined) throw new Error(`${contender.subject.title} is not loaded`);
    return model;
  }

  /** Destroys the model, if it was loaded. */
  unload(contender: Contender): void {
    this.#models.get(contender)?.destroy();
    this.#models.delete(contender);
  }

  close(): void {
    for (const engine of this.#engines.values()) engine.destroy();
    this.#engines.clear();
    this.#models.clear();
  }
}
