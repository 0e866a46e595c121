// Whether this engine takes relaxed SIMD: one relaxed instruction makes an engine without them
// refuse a whole module, so a tiny one is asked about.

/** (func (result v128) (i32x4.relaxed_dot_i8x16_i7x16_add_s (i8x16.splat 0) ×3)) */
const relaxedModule = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
  0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b, // types: () -> v128
  0x03, 0x02, 0x01, 0x00, // functions: one of type 0
  0x0a, 0x13, 0x01, 0x11, 0x00, // code: one body of 17 bytes, no locals
  0x41, 0x00, 0xfd, 0x0f, // i32.const 0, i8x16.splat
  0x41, 0x00, 0xfd, 0x0f,
  0x41, 0x00, 0xfd, 0x0f,
  0xfd, 0x93, 0x02, // i32x4.relaxed_dot_i8x16_i7x16_add_s
  0x0b,
]);

export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(relaxedModule);
}
