/* The relaxed dot products of bytes (packed_relaxed.c), or what stands for them in native tests. */
#ifndef ONEKV_PACKED_DOT_H
#define ONEKV_PACKED_DOT_H

#include "core/kernels/simd128.h"

#if defined(__wasm_relaxed_simd__)
enum { DOT_IS_ONE_INSTRUCTION = 1, SHORTS_ARE_ONE_INSTRUCTION = 1 };
#define packed_dot_shorts(x, w) wasm_i16x8_relaxed_dot_i8x16_i7x16(x, w)
#define packed_dot_add(x, w, sum) wasm_i32x4_relaxed_dot_i8x16_i7x16_add(x, w, sum)
#else
/* For tests of this file where there is no such instruction: bytes of w are unsigned. */
enum { DOT_IS_ONE_INSTRUCTION = 0 };
SIMD_INLINE v128_t packed_dot_add(v128_t x, v128_t w, v128_t sum) {
  v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(x),
                                    wasm_u16x8_extend_low_u8x16(w));
  v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(x),
                                     wasm_u16x8_extend_high_u8x16(w));
  v128_t both = wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6),
                               wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
  return wasm_i32x4_add(both, sum);
}
#if defined(__SSSE3__)
#include <immintrin.h>
enum { SHORTS_ARE_ONE_INSTRUCTION = 1 };
#define packed_dot_shorts(x, w) ((v128_t)_mm_maddubs_epi16((__m128i)(w), (__m128i)(x)))
#else
enum { SHORTS_ARE_ONE_INSTRUCTION = 0 };
SIMD_INLINE v128_t packed_dot_shorts(v128_t x, v128_t w) {
  v128_t low = wasm_i16x8_extmul_low_i8x16(x, w);
  v128_t high = wasm_i16x8_extmul_high_i8x16(x, w);
  return wasm_i16x8_add(
      wasm_i16x8_shuffle(low, high, 0, 2, 4, 6, 8, 10, 12, 14),
      wasm_i16x8_shuffle(low, high, 1, 3, 5, 7, 9, 11, 13, 15));
}
#endif
#endif
#define PACKED_HAS_DOT 1

#endif
