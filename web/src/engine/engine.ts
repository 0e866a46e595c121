// Engine: a module with its threads, and what it owns.
//
// These classes are synchronous but for Engine.open: Node uses them as they are, a page through a
// worker. Handles of the module are raw addresses, so every object knows whether it was destroyed
// and refuses to be used after that.
import { Loader, modelNames } from './loader.js';
import type { ModelOptions } from './loader.js';
import type { Bindings } from './bindings.js';
import type { SimdLevel } from '../api/description.js';
import { OneKVError } from '../api/errors.js';
import { checkOptions } from '../api/options.js';
import { engineNames, startModule } from './module.js';
import type { EngineOptions, WasmModule } from './module.js';

function coreCount(): number {
  const cores = globalThis.navigator?.hardwareConcurrency ??
    globalThis.process?.getBuiltinModule?.('node:os').availableParallelism();
  return cores ?? 2;
}

export class Engine {
  readonly #module: WasmModule;
  readonly #choosesThreads: boolean;
  readonly #owned = new Set<{ destroy(): void }>();
  #destroyed = false;

  private constructor(module: WasmModule, choosesThreads: boolean) {
    this.#module = module;
    this.#choosesThreads = choosesThreads;
  }

  /**
   * Starts a module with its threads; options have defaults. An engine serves any number of
   * models, one call at a time. Errors: INVALID_ARGUMENT, UNSUPPORTED_ENGINE (simd: 'relaxed'
   * where it is not there), WASM_FAILED, OUT_OF_MEMORY.
   */
  static async open(options: EngineOptions = {}): Promise<Engine> {
    checkOptions('Engine.open', options, engineNames);
    const module = await startModule(options, coreCount());
    return new Engine(module, (options.threads ?? 'auto') === 'auto');
  }

  /** Instructions in use. */
  get simd(): SimdLevel {
    return this.#module.simd;
  }

  /** Threads in use, the calling one included. */
  get threads(): number {
    return this.#module.threads;
  }

  /** Each model finds out by itself how many of the threads to use. */
  get choosesThreads(): boolean {
    return this.#choosesThreads;
  }

  /** Why simd, threads or memory are less than they could be; empty when they are not. */
  get notes(): readonly string[] {
    return this.#module.notes;
  }

  /** Bytes of the wasm memory. It grows and never shrinks. */
  get memoryBytes(): number {
    return this.bindings.memoryBytes;
  }

  /** What the wasm memory can grow to. */
  get memoryBytesMax(): number {
    return this.#module.memoryBytesMax;
  }

  /** The module trapped, or the engine was destroyed: nothing works any more. */
  get isBroken(): boolean {
    return this.#destroyed || this.#module.bindings.isBroken;
  }

  /** The module, for the other classes. @internal */
  get bindings(): Bindings {
    if (this.#destroyed) throw new OneKVError('DESTROYED', 'the engine was destroyed');
    return this.#module.bindings;
  }

  /** Takes the bytes of one file. The loader is the caller's to finish or destroy. */
  openLoader(options: ModelOptions = {}): Loader {
    return new Loader(this, checkOptions('openLoader', options, modelNames));
  }

  /** Destroys all models and loaders and ends the threads. The memory goes with the last
   * reference to the engine. A second call does nothing. */
  destroy(): void {
    if (this.#destroyed) return;
    for (const owned of [...this.#owned]) owned.destroy();
    this.#destroyed = true;
    this.#module.terminate();
  }

  /** @internal */
  own(object: { destroy(): void }): void {
    this.#owned.add(object);
  }

  /** @internal */
  disown(object: { destroy(): void }): void {
    this.#owned.delete(object);
  }
}
