/* The WebAssembly SIMD intrinsics, from the compiler or, natively, from SIMDe, and the few
 * helpers that every vector loop needs.
 *
 * A partial vector is loaded and stored lane by lane: no kernel touches a byte outside the
 * extents it was given. */
#ifndef ONEKV_SIMD128_H
#define ONEKV_SIMD128_H

#include <stddef.h>

#ifdef __wasm__
#include <wasm_simd128.h>
#else
#include <simde/wasm/simd128.h>
#endif

#if defined(__GNUC__)
#define SIMD_INLINE static inline __attribute__((always_inline))
#else
#define SIMD_INLINE static inline
#endif

enum { LANES = 4 }; /* floats in a vector */

SIMD_INLINE v128_t f32x4_multiply_add(v128_t a, v128_t b, v128_t c) {
  return wasm_f32x4_add(wasm_f32x4_mul(a, b), c);
}

/* a · b + c, rounded once where the instruction set can and twice where not. Browsers compile
 * it to the fused instruction wherever the processor has one, so that is what native builds do. */
#if defined(__wasm_relaxed_simd__)
#define f32x4_relaxed_multiply_add(a, b, c) wasm_f32x4_relaxed_madd(a, b, c)
#elif defined(__FMA__)
#include <immintrin.h>
SIMD_INLINE v128_t f32x4_relaxed_multiply_add(v128_t a, v128_t b, v128_t c) {
  return (v128_t)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
}
#elif defined(__ARM_NEON) && defined(__aarch64__)
SIMD_INLINE v128_t f32x4_relaxed_multiply_add(v128_t a, v128_t b, v128_t c) {
  return (v128_t)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
#define f32x4_relaxed_multiply_add(a, b, c) f32x4_multiply_add(a, b, c)
#endif

/* The same address, but the compiler does not know what is there. Constants that a loop needs are
 * loaded from it once before the loop: V8 builds a v128.const anew, by three or four instructions,
 * every time it comes by. */
SIMD_INLINE const void *simd_hide(const void *constants) {
  __asm__("" : "+r"(constants));
  return constants;
}

/* The first n < LANES floats at x; the other lanes from `fill`. */
SIMD_INLINE v128_t f32x4_load_partial(const float *x, size_t n, v128_t fill) {
  if (n == 1) return wasm_v128_load32_lane(x, fill, 0);
  if (n == 2) return wasm_v128_load64_lane(x, fill, 0);
  if (n == 3) return wasm_v128_load32_lane(x + 2, wasm_v128_load64_lane(x, fill, 0), 2);
  return fill;
}

SIMD_INLINE void f32x4_store_partial(float *x, size_t n, v128_t value) {
  if (n == 1) wasm_v128_store32_lane(x, value, 0);
  if (n >= 2) wasm_v128_store64_lane(x, value, 0);
  if (n == 3) wasm_v128_store32_lane(x + 2, value, 2);
}

/* (0 + 1) + (2 + 3): the one order in which lanes are summed. */
SIMD_INLINE float f32x4_sum(v128_t a) {
  return (wasm_f32x4_extract_lane(a, 0) + wasm_f32x4_extract_lane(a, 1)) +
         (wasm_f32x4_extract_lane(a, 2) + wasm_f32x4_extract_lane(a, 3));
}

/* The sums of four vectors, each in the order of f32x4_sum. */
SIMD_INLINE v128_t f32x4_sum_each(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab_low = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5);  /* a0 b0 a1 b1 */
  v128_t ab_high = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7); /* a2 b2 a3 b3 */
  v128_t cd_low = wasm_i32x4_shuffle(c, d, 0, 4, 1, 5);
  v128_t cd_high = wasm_i32x4_shuffle(c, d, 2, 6, 3, 7);
  v128_t lane_0 = wasm_i32x4_shuffle(ab_low, cd_low, 0, 1, 4, 5);
  v128_t lane_1 = wasm_i32x4_shuffle(ab_low, cd_low, 2, 3, 6, 7);
  v128_t lane_2 = wasm_i32x4_shuffle(ab_high, cd_high, 0, 1, 4, 5);
  v128_t lane_3 = wasm_i32x4_shuffle(ab_high, cd_high, 2, 3, 6, 7);
  return wasm_f32x4_add(wasm_f32x4_add(lane_0, lane_1), wasm_f32x4_add(lane_2, lane_3));
}

/* In front of a loop that is to stay rolled, or, of a constant length, that must not. */
#if defined(__clang__)
#define ROLLED _Pragma("clang loop unroll(disable)")
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define ROLLED _Pragma("GCC unroll 1")
#define UNROLLED _Pragma("GCC unroll 16")
#endif

#endif
