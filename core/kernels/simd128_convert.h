/* Vector conversions that the exact SIMD kernels share. */
#ifndef ONEKV_SIMD128_CONVERT_H
#define ONEKV_SIMD128_CONVERT_H

#include <stdbool.h>

#include "core/kernels/simd128.h"

/* f32_from_f16 (f16.h) of four halves, sign-extended to 32 bits. No subnormal float is made on the
 * way, as a product with one takes an Intel core 150 cycles: 112 more in the exponent makes
 * n = 2^-15 + h / 2 of a subnormal h, and of others what they are; 2n - 2^-14 is h there, and at
 * least n from 2^-14 on. Infinities and NaN came out from 2^16 on and get the largest exponent. */
SIMD_INLINE v128_t f32x4_from_f16(v128_t halves) {
  v128_t bits = wasm_i32x4_shl(halves, 13);
  v128_t normal = wasm_i32x4_add(wasm_v128_and(bits, wasm_i32x4_splat(0x0fffe000)),
                                 wasm_i32x4_splat(112 << 23));
  v128_t subnormal = wasm_f32x4_sub(wasm_f32x4_add(normal, normal), wasm_f32x4_splat(0x1p-14f));
  v128_t is_special = wasm_i32x4_ge(normal, wasm_i32x4_splat((127 + 16) << 23));
  v128_t value = wasm_v128_or(wasm_f32x4_pmin(normal, subnormal),
                              wasm_v128_and(is_special, wasm_i32x4_splat(0x7f800000)));
  return wasm_v128_or(value, wasm_v128_and(bits, wasm_i32x4_splat((int32_t)0x80000000u)));
}

/* The same of four halves in memory. A call, where no loop over columns has it: inline it was 3 KB
 * of the module. */
v128_t f32x4_load_f16(const uint8_t *halves);

/* What the quick way to decode halves needs, loaded once before a loop (simd_hide). */
typedef struct f16_numbers {
  v128_t high_mask, scale;
} f16_numbers;

SIMD_INLINE f16_numbers f16_numbers_load(void) {
  static const uint32_t NUMBERS[] = {0x8fff8fffu, 0x77800000u /* 2^112 */};
  const uint32_t *of = simd_hide(NUMBERS);
  return (f16_numbers){wasm_v128_load32_splat(of), wasm_v128_load32_splat(of + 1)};
}

/* The same for TENSOR_F16_NORMAL (f16.h). */
SIMD_INLINE f16_numbers f16_normal_numbers_load(void) {
  static const uint32_t NUMBERS[] = {0x8fff8fffu, 0x72800000u /* F16_NORMAL_SCALE */};
  const uint32_t *of = simd_hide(NUMBERS);
  return (f16_numbers){wasm_v128_load32_splat(of), wasm_v128_load32_splat(of + 1)};
}

/* Eight finite halves, whose bits are put in place before they are widened: exactly 2^-112 of
 * their values; subnormal floats where the halves are subnormal. Of F16_NORMAL 2^-102. */
SIMD_INLINE void f32x4_place_f16(v128_t halves, const f16_numbers *numbers, v128_t out[2]) {
  v128_t high = wasm_v128_and(wasm_i16x8_shr(halves, 3), numbers->high_mask);
  v128_t low = wasm_i16x8_shl(halves, 13);
  out[0] = wasm_i16x8_shuffle(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
  out[1] = wasm_i16x8_shuffle(low, high, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* f32x4_from_f16 of eight finite halves. */
SIMD_INLINE void f32x4_from_finite_f16(v128_t halves, const f16_numbers *numbers, v128_t out[2]) {
  f32x4_place_f16(halves, numbers, out);
  out[0] = wasm_f32x4_mul(out[0], numbers->scale);
  out[1] = wasm_f32x4_mul(out[1], numbers->scale);
}

/* Whether all were finite: the largest magnitude so far, and what it says. Without their signs
 * halves from 0x7c00 on are not finite. */
SIMD_INLINE v128_t f16_largest(v128_t largest, v128_t halves) {
  return wasm_u16x8_max(largest, wasm_i16x8_shl(halves, 1));
}

SIMD_INLINE bool f16_are_finite(v128_t largest) {
  return wasm_i16x8_all_true(wasm_u16x8_lt(largest, wasm_i16x8_splat((int16_t)0xf800)));
}

/* Eight bfloat16: the upper halves of floats. */
SIMD_INLINE void f32x4_from_bf16(v128_t halves, v128_t out[2]) {
  const v128_t zero = wasm_i16x8_splat(0);
  out[0] = wasm_i16x8_shuffle(zero, halves, 0, 8, 1, 9, 2, 10, 3, 11);
  out[1] = wasm_i16x8_shuffle(zero, halves, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* dequantize of F16 (kernels.h), which f16_decode is too. */
void f16_decode_bytes(const uint8_t *halves, size_t n, float *out);

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

/* Of the four lanes, NaN when there is a NaN. */
SIMD_INLINE float f32x4_largest(v128_t largest) {
  largest = wasm_f32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 2, 3, 0, 1));
  largest = wasm_f32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 1, 0, 3, 2));
  return wasm_f32x4_extract_lane(largest, 0);
}

#endif
