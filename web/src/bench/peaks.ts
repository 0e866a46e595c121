// What the engine can do at most, measured by tiny modules made here byte by byte: loops of one
// SIMD instruction over independent registers, and a loop that only reads memory.
//
// Each function is called often with a short loop, because code that is entered once stays in the
// baseline compiler.
import type { SimdLevel } from '../api/description.js';

export interface Peaks {
  /** int8 multiplications and additions, in 10⁹ a second. */
  int8: number;
  /** The same where one operand has 4 bits, so that sums of eight products fit 16. */
  int4: number;
  /** f32 multiplications and additions, in 10⁹ a second. */
  f32: number;
  /** Bytes read from memory that no cache holds, in 10⁹ a second. */
  read: number;
}

const accumulators = 12;
const iterations = 4000;
const readBytes = 256 << 20; // More than one core gets of most last caches.

/** An unsigned number as LEB128. */
function leb(value: number): number[] {
  const bytes = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest & 127) | 128);
  }
}

const section = (id: number, body: number[]) => [id, ...leb(body.length), ...body];
const simd = (opcode: number) => [0xfd, ...leb(opcode)];
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const i32 = (value: number) => [0x41, value]; // Below 64: larger ones have a sign.

const loadAt = (offset: number) => [...simd(0), 4, ...leb(offset)];
const xor = simd(0x51);

// Locals: 0 iterations left, 1 address, from 2 on vectors: x, y, accumulators.
const x = 2;
const y = 3;
const firstAccumulator = 4;

/** What one pass of the loop does with one accumulator: leaves its new value on the stack. */
type Step = (accumulator: number, index: number) => number[];

/** A module with an imported memory and a function `run(iterations, address)`. */
function moduleOf(step: Step, advance: number): Uint8Array<ArrayBuffer> {
  const each = Array.from({ length: accumulators }, (_, i) => firstAccumulator + i);
  const body = [
    1, ...leb(2 + accumulators), 0x7b, // Vectors.
    ...get(1), ...loadAt(0), ...set(x), ...get(1), ...loadAt(16), ...set(y),
    0x03, 0x40, // loop
    ...each.flatMap((local, i) => [...step(local, i), ...set(local)]),
    ...get(1), 0x41, ...signed(advance), 0x6a, ...set(1),
    ...get(0), ...i32(1), 0x6b, 0x22, 0, // i32.sub, local.tee
    0x0d, 0, 0x0b, // br_if, end
    // What was computed is used: nothing of it can be left out.
    ...each.flatMap((local, i) => (i === 0 ? get(local) : [...get(local), ...xor])),
    ...simd(0x1b), 0, 0x0b, // i32x4.extract_lane 0, end
  ];
  return Uint8Array.from([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
    ...section(2, [1, 1, 0x65, 1, 0x6d, 2, 0, 1]), // import e.m, a memory of a page or more
    ...section(3, [1, 0]),
    ...section(7, [1, 3, 0x72, 0x75, 0x6e, 0, 0]), // export run
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

/** A number of at least 0 as signed LEB128. */
function signed(value: number): number[] {
  const bytes = leb(value);
  const last = bytes.at(-1) as number;
  return (last & 64) === 0 ? bytes : [...bytes.slice(0, -1), last | 128, 0];
}

/** `shorts`: products of 4-bit weights, as packed_tile.h sums them without AVX-VNNI. */
const steps: Record<SimdLevel, { f32: Step; int8: Step; shorts?: Step }> = {
  relaxed: {
    f32: (a) => [...get(a), ...get(x), ...get(y), ...simd(0x105)], // relaxed_madd
    int8: (a) => [...get(x), ...get(y), ...get(a), ...simd(0x113)], // relaxed_dot_add
    // Of the accumulator, so that none is loop-invariant: i16x8.relaxed_dot, i16x8.add.
    shorts: (a) => [...get(a), ...get(y), ...simd(0x112), ...get(a), ...simd(0x8e)],
  },
  simd128: {
    f32: (a) => [...get(a), ...get(x), ...simd(0xe6), ...get(y), ...simd(0xe4)], // a · x + y
    // Both halves' products, summed in pairs; of the accumulator, so that none is loop-invariant.
    int8: (a) => [
      ...get(a), ...get(x), ...simd(0x9c), ...simd(0x7e),
      ...get(a), ...get(x), ...simd(0x9d), ...simd(0x7e),
      ...simd(0xae), ...get(a), ...simd(0xae),
    ],
  },
};

const readStep: Step = (a, i) => [...get(a), ...get(1), ...loadAt(16 * i), ...xor];

type Run = (iterations: number, address: number) => number;

async function start(bytes: Uint8Array<ArrayBuffer>, memory: WebAssembly.Memory): Promise<Run> {
  const { instance } = await WebAssembly.instantiate(bytes, { e: { m: memory } });
  return instance.exports['run'] as Run;
}

/** The best of several calls' seconds: a peak is what is possible. */
function bestSeconds(call: () => void, calls: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < calls; i++) {
    const started = performance.now();
    call();
    best = Math.min(best, performance.now() - started);
  }
  return best / 1000;
}

async function arithmetic(step: Step, perStep: number, memory: WebAssembly.Memory):
  Promise<number> {
  const run = await start(moduleOf(step, 0), memory);
  // Clocks of pages tick coarsely: a measurement is many calls.
  const call = () => {
    for (let i = 0; i < 50; i++) run(iterations, 0);
  };
  for (let i = 0; i < 10; i++) call();
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  return 50 * iterations * accumulators * perStep / bestSeconds(call, 20) / 1e9;
}

/** Of one thread. */
export async function measurePeaks(level: SimdLevel): Promise<Peaks> {
  const small = new WebAssembly.Memory({ initial: 1 });
  // Ones: no number grows out of its range and slows the loop down.
  new Float32Array(small.buffer).fill(level === 'relaxed' ? 0.5 : 1e-3);
  const { f32, int8, shorts } = steps[level];
  const large = new WebAssembly.Memory({ initial: readBytes >> 16 });
  const advance = 16 * accumulators;
  const run = await start(moduleOf(readStep, advance), large);
  new Uint8Array(large.buffer).fill(1);
  const passes = Math.floor(readBytes / advance / iterations) - 1;
  const readAll = () => {
    for (let i = 0; i < passes; i++) run(iterations, i * iterations * advance);
  };
  readAll();
  const bytes = await arithmetic(int8, 32, small);
  return {
    f32: await arithmetic(f32, 8, small),
    int8: bytes,
    int4: Math.max(bytes, shorts ? await arithmetic(shorts, 32, small) : 0),
    read: passes * iterations * advance / bestSeconds(readAll, 6) / 1e9,
  };
}
