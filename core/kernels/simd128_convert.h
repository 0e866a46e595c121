/* Vector conversions that the exact SIMD kernels share. */
#ifndef ONEKV_SIMD128_CONVERT_H
#define ONEKV_SIMD128_CONVERT_H

#include "core/kernels/simd128.h"

/* f32_from_f16 (f16.h) of four halves, sign-extended to 32 bits: sign, exponent and fraction
 * move to their places, and the product puts the exponent right; it is exact, for subnormals
 * too. Infinities and NaN came out at 2^16 and above and get the largest exponent. */
SIMD_INLINE v128_t f32x4_from_f16(v128_t halves) {
  v128_t bits = wasm_v128_and(wasm_i32x4_shl(halves, 13), wasm_i32x4_splat((int32_t)0x8fffe000));
  v128_t value = wasm_f32x4_mul(bits, wasm_f32x4_splat(0x1p112f));
  v128_t is_special = wasm_f32x4_ge(wasm_f32x4_abs(value), wasm_f32x4_splat(65536.0f));
  return wasm_v128_or(value, wasm_v128_and(is_special, wasm_i32x4_splat(0x7f800000)));
}

/* The 16 signed bytes as floats in four vectors. */
SIMD_INLINE void f32x4_from_i8x16(v128_t bytes, v128_t out[4]) {
  v128_t low = wasm_i16x8_extend_low_i8x16(bytes);
  v128_t high = wasm_i16x8_extend_high_i8x16(bytes);
  out[0] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(low));
  out[1] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(low));
  out[2] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(high));
  out[3] = wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(high));
}

/* out[16] = bytes · scale */
SIMD_INLINE void f32x4_store_scaled(v128_t bytes, v128_t scale, float *out) {
  v128_t values[4];
  f32x4_from_i8x16(bytes, values);
  for (size_t i = 0; i < 4; i++) wasm_v128_store(out + 4 * i, wasm_f32x4_mul(values[i], scale));
}

/* out[16] = bytes · scale + offset, rounded twice as the scalar code does. */
SIMD_INLINE void f32x4_store_scaled_offset(v128_t bytes, v128_t scale, v128_t offset, float *out) {
  v128_t values[4];
  f32x4_from_i8x16(bytes, values);
  for (size_t i = 0; i < 4; i++) {
    wasm_v128_store(out + 4 * i, f32x4_multiply_add(values[i], scale, offset));
  }
}

#endif
