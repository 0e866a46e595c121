// Starts one of the two WebAssembly modules, with as many threads as the engine really gives.
//
// The Emscripten files onekv-*.mjs are fetched as they are and never bundled: each is the module's
// glue and the script of its threads in one. wasm-files.ts knows their addresses.
//
// Threads are workers that come up only when this thread returns to its event loop, or never (no
// cross-origin isolation, no shared memory): they are asked for, waited for with a deadline, and
// the engine goes on without those that did not report.
import { Bindings } from './bindings.js';
import type { Exports } from './bindings.js';
import { OneKVError, checkInteger, checkOneOf, reasonOf } from '../api/errors.js';
import type { NamesOf } from '../api/options.js';
import { importing, isForeign } from '../util/foreign-script.js';
import { wasmFiles } from '../wasm-files.js';
import { hasRelaxedSimd } from './simd-probe.js';
import type { SimdLevel } from '../api/description.js';

export interface EngineOptions {
  /** Default 'auto': relaxed where the engine takes it. Asking for a level that the engine lacks
   * is the error UNSUPPORTED_ENGINE. */
  simd?: 'auto' | SimdLevel | undefined;
  /** Threads that compute, the calling one included; 1 to 32. Default 'auto': as many as
   * logical cores, at most 16, of which a model uses those with which it is quickest. Getting fewer
   * than asked for is not an error: Engine.notes says why. */
  threads?: 'auto' | number | undefined;
  /** Folder that holds onekv-*.mjs and onekv-*.wasm; default: where the package has them. */
  wasmUrl?: string | URL | undefined;
  /** How long threads may take to come up, in milliseconds; default 5000. */
  threadDeadline?: number | undefined;
}

export const engineNames: NamesOf<EngineOptions> = {
  simd: true, threads: true, wasmUrl: true, threadDeadline: true,
};

/** What Emscripten's glue gives; its workers are watched and ended through PThread. */
interface Instance extends Exports {
  PThread: { runningWorkers: Worker[]; terminateAllThreads(): void };
}

interface InstanceOptions {
  wasmMemory: WebAssembly.Memory;
  locateFile(name: string): string;
  print(text: string): void;
  printErr(text: string): void;
}

export interface WasmModule {
  readonly bindings: Bindings;
  readonly simd: SimdLevel;
  readonly threads: number;
  /** What the memory can grow to. */
  readonly memoryBytesMax: number;
  /** Why simd, threads or memory are less than they could be; empty if they are not. */
  readonly notes: readonly string[];
  /** Ends the threads. The memory goes when nothing refers to the module any more. */
  terminate(): void;
}

const threadsMax = 32;
const pageBytes = 1 << 16;
/** As in CMakeLists.txt (INITIAL_MEMORY): the module refuses less. */
const initialPages = (4 << 20) / pageBytes;

function chooseSimd(asked: 'auto' | SimdLevel, notes: string[]): SimdLevel {
  if (asked === 'simd128') return asked;
  if (hasRelaxedSimd()) return 'relaxed';
  const why = 'this engine does not take relaxed SIMD' +
    (typeof process === 'object' && process.versions?.node !== undefined
      ? ' (Node 20 does with --experimental-wasm-relaxed-simd, later ones unasked)' : '');
  if (asked === 'relaxed') throw new OneKVError('UNSUPPORTED_ENGINE', why);
  notes.push(`simd128: ${why}`);
  return 'simd128';
}

/** Of 'auto': each is a worker with memory of its own, and what is read of weights at each token
 * keeps no more busy. */
const automaticMost = 16;

/** Threads that 'auto' starts on a machine of that many logical cores; loading measures how many of
 * them a model is fastest with (choose-threads.ts). */
export function automaticThreads(cores: number): number {
  return Math.max(1, Math.min(automaticMost, cores));
}

/** The largest memory that can be reserved: addresses are scarce on 32-bit systems and phones. */
function makeMemory(notes: string[]): { memory: WebAssembly.Memory; bytesMax: number } {
  for (let maximum = 65536; maximum >= 4096; maximum /= 2) {
    try {
      const memory = new WebAssembly.Memory({ initial: initialPages, maximum, shared: true });
      if (maximum < 65536) notes.push(`memory: at most ${maximum / 16} MiB could be reserved`);
      return { memory, bytesMax: maximum * pageBytes };
    } catch {
      // The next try asks for half.
    }
  }
  throw new OneKVError('OUT_OF_MEMORY', 'no shared memory of even 256 MiB could be reserved');
}

/** Why a module did not start, once: the glue says it up to three times, in several wrappings. */
function startFailure(said: readonly string[], thrown: string, glue: URL): string {
  if (/^Cannot find module/.test(thrown)) return 'there is no such file';
  const reason = (/^Aborted\((.*)\)\. Build with /s.exec(thrown)?.[1] ?? thrown)
    .replace(`: ${glue.href}`, '');
  const more = said.filter((line) => !line.includes(reason));
  const hint = /unsafe-eval|content security policy|\bCSP\b/i.test(reason)
    ? "; the page's Content-Security-Policy must allow script-src 'wasm-unsafe-eval'" : '';
  return [...more, reason.replace(/^Error: /, '')].join('; ') + hint;
}

/** Threads whose script, the glue, is of another origin are started by one of this origin. */
function lendThreads(glue: URL): void {
  const { Worker: Own } = globalThis as { Worker?: typeof Worker };
  // A thread of the page (thread-guest.ts) is started there.
  if (Own === undefined || !(Own.prototype instanceof EventTarget) || !isForeign(glue)) return;
  (globalThis as { Worker: unknown }).Worker = class extends Own {
    constructor(script: string | URL, options?: WorkerOptions) {
      super(importing(script), options);
    }
  };
}

async function instantiate(simd: SimdLevel, base: string | URL | undefined,
  memory: WebAssembly.Memory): Promise<Instance> {
  const { glue, wasm } = wasmFiles(simd, base);
  const said: string[] = [];
  const options: InstanceOptions = {
    wasmMemory: memory,
    locateFile: () => wasm.href,
    print: (text) => said.push(text),
    printErr: (text) => said.push(text),
  };
  lendThreads(glue);
  try {
    const loaded = await import(/* webpackIgnore: true */ /* @vite-ignore */ glue.href) as
      { default(options: InstanceOptions): Promise<Instance> };
    return await loaded.default(options);
  } catch (error) {
    throw new OneKVError('WASM_FAILED', `${glue.href} could not be started: ` +
      startFailure(said, reasonOf(error), glue), { cause: error });
  }
}

/** Asks for threads; false if they cannot be asked for. Threads must not be open yet. */
function openThreads(bindings: Bindings, threads: number): boolean {
  try {
    bindings.check(bindings.exports._js_threads_open(threads));
    return true;
  } catch (error) {
    if (error instanceof OneKVError) throw error;
    return false; // Worker or postMessage refused: a DOMException that went through the module.
  }
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => {
  setTimeout(resolve, milliseconds);
});

/**
 * Counts the workers whose script does not load (a policy, a server's headers). The glue's own
 * handler would make an uncaught error of each. `restore` gives the handlers back.
 */
function watchWorkers(workers: readonly Worker[]): { failed: number; restore(): void } {
  const handlers = workers.map((worker) => worker.onerror);
  const watch = {
    failed: 0,
    restore: () => workers.forEach((worker, i) => { worker.onerror = handlers[i] ?? null; }),
  };
  for (const worker of workers) {
    worker.onerror = () => {
      watch.failed += 1;
    };
  }
  return watch;
}

/** Starts threads and gives the number that can be used. */
async function startThreads(bindings: Bindings, { PThread }: Instance, asked: number,
  deadline: number, notes: string[]): Promise<number> {
  const { exports } = bindings;
  if (asked > 1 && typeof SharedArrayBuffer === 'undefined') {
    notes.push(`1 thread: SharedArrayBuffer is not there ${globalThis.crossOriginIsolated
      ? '(this engine has none)'
      : '(works, but slower; headers COOP and COEP mend it: web/docs/threads-and-headers.md)'}`);
    asked = 1;
  }
  if (!openThreads(bindings, asked)) {
    notes.push('1 thread: the engine does not let workers share memory');
    if (!openThreads(bindings, 1)) throw new OneKVError('WASM_FAILED', 'the thread pool failed');
    asked = 1;
  }
  const watch = watchWorkers([...PThread.runningWorkers]);
  const end = performance.now() + deadline;
  const alive = () => bindings.address(exports._js_threads_alive());
  while (alive() < asked - watch.failed && performance.now() < end) await pause(1);
  const threads = bindings.address(exports._js_threads_use(asked));
  // A worker that is still on its way may fail later, and is not needed any more.
  if (threads === asked) watch.restore();
  else {
    notes.push(`${threads} of ${asked} threads: ${watch.failed > 0
      ? 'the script of the others could not be loaded'
      : `the others did not start within ${deadline} ms`}`);
  }
  return threads;
}

/**
 * Loads and starts a module. Errors: INVALID_ARGUMENT, UNSUPPORTED_ENGINE, WASM_FAILED,
 * OUT_OF_MEMORY.
 */
export async function startModule(options: EngineOptions, cores: number): Promise<WasmModule> {
  const notes: string[] = [];
  const simdAsked = checkOneOf('simd', options.simd ?? 'auto', ['auto', 'relaxed', 'simd128']);
  const deadline = checkInteger('threadDeadline', options.threadDeadline ?? 5000, 0, 600_000);
  const asked = options.threads === undefined || options.threads === 'auto'
    ? automaticThreads(cores) : checkInteger('threads', options.threads, 1, threadsMax);
  const simd = chooseSimd(simdAsked, notes);
  const { memory, bytesMax: memoryBytesMax } = makeMemory(notes);
  // In Node the glue puts its own Worker there, which other code would take for a browser's.
  const globals = globalThis as { Worker?: unknown };
  const had = Object.hasOwn(globals, 'Worker');
  const worker = globals.Worker;
  try {
    const instance = await instantiate(simd, options.wasmUrl, memory);
    const bindings = new Bindings(instance, memory);
    const threads = await startThreads(bindings, instance, asked, deadline, notes);
    const terminate = () => {
      instance.PThread.terminateAllThreads();
      // A pending Atomics.waitAsync of the runtime would keep the memory: js_end says more.
      if (bindings.isBroken) return;
      const end = bindings.address(bindings.exports._js_end());
      Atomics.notify(new Int32Array(memory.buffer), end >>> 2);
      // V8 does not count shared memories when it decides whether to collect: an ordinary buffer of
      // the size, which is never touched and so takes no memory itself, makes it look.
      if (typeof process === 'object') void new ArrayBuffer(memory.buffer.byteLength);
    };
    return { bindings, simd, threads, memoryBytesMax, notes, terminate };
  } finally {
    if (had) globals.Worker = worker;
    else delete globals.Worker;
  }
}
