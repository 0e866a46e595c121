// Where the WebAssembly modules lie: literal addresses, which bundlers find and carry along. They
// stand in this folder, where the bundled worker.js stands too: `../wasm/` is right in both.
import type { SimdLevel } from './api/description.js';

/** The module of grammars (wasm/grammar). */
export function grammarFile(base?: string | URL): URL {
  if (base === undefined) return new URL('../wasm/onekv-grammar.wasm', import.meta.url);
  const folder = new URL(String(base).replace(/\/?$/, '/'), globalThis.location?.href);
  return new URL('onekv-grammar.wasm', folder);
}

/** The script and the module of one SIMD level; `base`: their folder, if it is another. */
export function wasmFiles(simd: SimdLevel, base?: string | URL): { glue: URL; wasm: URL } {
  if (base !== undefined) {
    const folder = new URL(String(base).replace(/\/?$/, '/'), globalThis.location?.href);
    const name = `onekv-${simd}`;
    return { glue: new URL(`${name}.mjs`, folder), wasm: new URL(`${name}.wasm`, folder) };
  }
  return simd === 'relaxed'
    ? {
      glue: new URL('../wasm/onekv-relaxed.mjs', import.meta.url),
      wasm: new URL('../wasm/onekv-relaxed.wasm', import.meta.url),
    }
    : {
      glue: new URL('../wasm/onekv-simd128.mjs', import.meta.url),
      wasm: new URL('../wasm/onekv-simd128.wasm', import.meta.url),
    };
}
