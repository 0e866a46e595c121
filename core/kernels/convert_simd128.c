/* SIMD kernels that give the scalar bits: no sums, no fused operations, each element by the
 * same operations in the same order as in floats_scalar.c. Relaxed SIMD has nothing to add, so
 * there is one build of them. */
#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/f16.h"
#include "core/kernels/simd128_convert.h"

static void f32_add_simd128(float *x, const float *y, size_t n) {
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    wasm_v128_store(x + c, wasm_f32x4_add(wasm_v128_load(x + c), wasm_v128_load(y + c)));
  }
  for (; c < n; c++) x[c] += y[c];
}

static void f32_multiply_simd128(float *x, const float *y, size_t n) {
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    wasm_v128_store(x + c, wasm_f32x4_mul(wasm_v128_load(x + c), wasm_v128_load(y + c)));
  }
  for (; c < n; c++) x[c] *= y[c];
}

/* (a, b) -> (a cos - b sin, a sin + b cos), four pairs. */
SIMD_INLINE void rotate_pairs(v128_t *a, v128_t *b, v128_t cosines, v128_t sines) {
  v128_t first = wasm_f32x4_sub(wasm_f32x4_mul(*a, cosines), wasm_f32x4_mul(*b, sines));
  *b = wasm_f32x4_add(wasm_f32x4_mul(*a, sines), wasm_f32x4_mul(*b, cosines));
  *a = first;
}

SIMD_INLINE void rotate_pair(float a, float b, float cosine, float sine, float *u, float *v) {
  *u = a * cosine - b * sine;
  *v = a * sine + b * cosine;
}

SIMD_INLINE void rotate_row_adjacent(const float *x, const float *cosines, const float *sines,
                                     size_t n_pairs, const bool inverse, float *y) {
  size_t i = 0;
  for (; i + LANES <= n_pairs; i += LANES) {
    v128_t low = wasm_v128_load(x + 2 * i);          /* a0 b0 a1 b1 */
    v128_t high = wasm_v128_load(x + 2 * i + LANES); /* a2 b2 a3 b3 */
    v128_t a = wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
    v128_t b = wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
    v128_t sine = wasm_v128_load(sines + i);
    rotate_pairs(&a, &b, wasm_v128_load(cosines + i), inverse ? wasm_f32x4_neg(sine) : sine);
    wasm_v128_store(y + 2 * i, wasm_i32x4_shuffle(a, b, 0, 4, 1, 5));
    wasm_v128_store(y + 2 * i + LANES, wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  }
  for (; i < n_pairs; i++) {
    float sine = inverse ? -sines[i] : sines[i];
    rotate_pair(x[2 * i], x[2 * i + 1], cosines[i], sine, &y[2 * i], &y[2 * i + 1]);
  }
}

SIMD_INLINE void rotate_row_halves(const float *x, const float *cosines, const float *sines,
                                   size_t n_pairs, const bool inverse, float *y) {
  size_t i = 0;
  for (; i + LANES <= n_pairs; i += LANES) {
    v128_t a = wasm_v128_load(x + i);
    v128_t b = wasm_v128_load(x + n_pairs + i);
    v128_t sine = wasm_v128_load(sines + i);
    rotate_pairs(&a, &b, wasm_v128_load(cosines + i), inverse ? wasm_f32x4_neg(sine) : sine);
    wasm_v128_store(y + i, a);
    wasm_v128_store(y + n_pairs + i, b);
  }
  for (; i < n_pairs; i++) {
    float sine = inverse ? -sines[i] : sines[i];
    rotate_pair(x[i], x[i + n_pairs], cosines[i], sine, &y[i], &y[i + n_pairs]);
  }
}

static void f32_rotate_adjacent_simd128(const float *x, size_t n_rows, size_t stride,
                                        const float *cosines, const float *sines,
                                        size_t angle_stride, size_t n_pairs, bool inverse,
                                        float *y) {
  for (size_t r = 0; r < n_rows; r++, x += stride, y += stride) {
    rotate_row_adjacent(x, cosines, sines, n_pairs, inverse, y);
    cosines += angle_stride;
    sines += angle_stride;
  }
}

static void f32_rotate_halves_simd128(const float *x, size_t n_rows, size_t stride,
                                      const float *cosines, const float *sines,
                                      size_t angle_stride, size_t n_pairs, bool inverse,
                                      float *y) {
  for (size_t r = 0; r < n_rows; r++, x += stride, y += stride) {
    rotate_row_halves(x, cosines, sines, n_pairs, inverse, y);
    cosines += angle_stride;
    sines += angle_stride;
  }
}

/* f32_to_f16 of four lanes, each result in the low half of its lane. */
SIMD_INLINE v128_t f16_from_f32x4(v128_t x) {
  v128_t sign = wasm_v128_and(wasm_u32x4_shr(x, 16), wasm_i32x4_splat(0x8000));
  v128_t magnitude = wasm_f32x4_abs(x);
  v128_t is_nan = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7f800000));
  v128_t is_infinite = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x477fffff));
  v128_t is_subnormal = wasm_i32x4_lt(magnitude, wasm_i32x4_splat(0x38800000));
  v128_t subnormal = wasm_i32x4_sub(wasm_f32x4_add(magnitude, wasm_f32x4_splat(0.5f)),
                                    wasm_i32x4_splat(0x3f000000));
  v128_t odd = wasm_v128_and(wasm_u32x4_shr(magnitude, 13), wasm_i32x4_splat(1));
  v128_t rounded =
      wasm_i32x4_add(wasm_i32x4_sub(magnitude, wasm_i32x4_splat(0x38000000 - 0xfff)), odd);
  v128_t half = wasm_v128_bitselect(subnormal, wasm_u32x4_shr(rounded, 13), is_subnormal);
  half = wasm_v128_bitselect(wasm_i32x4_splat(0x7c00), half, is_infinite);
  half = wasm_v128_bitselect(wasm_i32x4_splat(0x7e00), half, is_nan);
  return wasm_v128_or(half, sign);
}

static void f16_encode_simd128(const float *x, size_t n, uint16_t *out) {
  size_t c = 0;
  for (; c + 2 * LANES <= n; c += 2 * LANES) {
    v128_t low = f16_from_f32x4(wasm_v128_load(x + c));
    v128_t high = f16_from_f32x4(wasm_v128_load(x + c + LANES));
    wasm_v128_store(out + c, wasm_u16x8_narrow_i32x4(low, high));
  }
  for (; c < n; c++) out[c] = f32_to_f16(x[c]);
}

v128_t f32x4_load_f16(const uint8_t *halves) {
  return f32x4_from_f16(wasm_i32x4_load16x4(halves));
}

/* Infinities and NaN too, which the quick way below gets wrong. */
static void f16_decode_any(const uint8_t *halves, size_t n, float *out) {
  for (size_t c = 0; c < n; c += 2 * LANES, halves += 4 * LANES) {
    v128_t both = wasm_v128_load(halves);
    wasm_v128_store(out + c, f32x4_from_f16(wasm_i32x4_extend_low_i16x8(both)));
    wasm_v128_store(out + c + LANES, f32x4_from_f16(wasm_i32x4_extend_high_i16x8(both)));
  }
}

/* Caches and matrices hold finite numbers; that all were is found out on the way, and else done
 * again. */
void f16_decode_bytes(const uint8_t *halves, size_t n, float *out) {
  const f16_numbers numbers = f16_numbers_load();
  v128_t largest = wasm_i16x8_splat(0);
  size_t c = 0;
  for (; c + 2 * LANES <= n; c += 2 * LANES) {
    v128_t both = wasm_v128_load(halves + 2 * c);
    v128_t values[2];
    f32x4_from_finite_f16(both, &numbers, values);
    wasm_v128_store(out + c, values[0]);
    wasm_v128_store(out + c + LANES, values[1]);
    largest = f16_largest(largest, both);
  }
  for (size_t i = c; i < n; i++) out[i] = f32_from_f16(load_u16(halves + 2 * i));
  if (!f16_are_finite(largest)) f16_decode_any(halves, c, out);
}

static void f16_decode_simd128(const uint16_t *x, size_t n, float *out) {
  f16_decode_bytes((const uint8_t *)x, n, out);
}

/* max |x|, NaN when there is a NaN. */
static float largest_magnitude(const float *x, size_t n) {
  v128_t largest = wasm_f32x4_splat(0.0f);
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    largest = wasm_f32x4_max(largest, wasm_f32x4_abs(wasm_v128_load(x + c)));
  }
  v128_t rest = f32x4_load_partial(x + c, n - c, wasm_f32x4_splat(0.0f));
  return f32x4_largest(wasm_f32x4_max(largest, wasm_f32x4_abs(rest)));
}

/* round(x / scale) within ±127, as i32. In 1.5 · 2^23 + x the addition rounds x to the nearest
 * integer, ties to even, and leaves it in the low bits. */
SIMD_INLINE v128_t i32x4_code(v128_t x, v128_t scale) {
  const v128_t limit = wasm_f32x4_splat(127.0f);
  const v128_t magic = wasm_f32x4_splat(12582912.0f);
  v128_t code = wasm_f32x4_div(x, scale);
  code = wasm_f32x4_pmax(wasm_f32x4_pmin(code, limit), wasm_f32x4_neg(limit));
  return wasm_i32x4_sub(wasm_f32x4_add(code, magic), magic);
}

/* The rules for rows without a usable scale are those of i8_encode_scalar. */
static void i8_encode_simd128(const float *x, size_t n, int8_t *out, float *scale) {
  *scale = largest_magnitude(x, n) / 127.0f;
  bool usable = *scale > 0.0f && isfinite(*scale);
  const v128_t zero = wasm_f32x4_splat(0.0f);
  const v128_t divisor = wasm_f32x4_splat(usable ? *scale : 1.0f);
  for (size_t c = 0; c < n; c += LANES) {
    size_t n_lanes = n - c < LANES ? n - c : LANES;
    v128_t values =
        n_lanes == LANES ? wasm_v128_load(x + c) : f32x4_load_partial(x + c, n_lanes, zero);
    v128_t codes = i32x4_code(usable ? values : zero, divisor);
    v128_t shorts = wasm_i16x8_narrow_i32x4(codes, codes);
    v128_t bytes = wasm_i8x16_narrow_i16x8(shorts, shorts);
    if (n_lanes == LANES) {
      wasm_v128_store32_lane(out + c, bytes, 0);
    } else {
      int32_t last = wasm_i32x4_extract_lane(bytes, 0);
      memcpy(out + c, &last, n_lanes); /* little-endian, as the lanes of a vector are */
    }
  }
}

static void i8_decode_simd128(const int8_t *x, size_t n, float scale, float *out) {
  const v128_t scales = wasm_f32x4_splat(scale);
  size_t c = 0;
  for (; c + 16 <= n; c += 16) f32x4_store_scaled(wasm_v128_load(x + c), scales, out + c);
  for (; c < n; c++) out[c] = (float)x[c] * scale;
}

/* The scale of a whole group, by the rules of i4_encode_group; largest of a -0 is 0. */
static uint16_t i4_scale_simd128(const float *x) {
  v128_t most = wasm_f32x4_splat(0.0f);
  v128_t least = most;
  for (size_t c = 0; c < I4_GROUP; c += LANES) {
    most = wasm_f32x4_max(most, wasm_v128_load(x + c));
    least = wasm_f32x4_max(least, wasm_f32x4_neg(wasm_v128_load(x + c)));
  }
  float above = f32x4_largest(most);
  float below = f32x4_largest(least);
  if (isnan(above)) return 0x7e00;
  return f32_to_f16(above > below ? above : 0.0f - below);
}

/* Codes of eight elements, as i16. */
SIMD_INLINE v128_t i16x8_i4_codes(const float *x, v128_t step) {
  const int8_t *values = PACKED_VALUES[VALUES_IQ4];
  v128_t twice = wasm_i16x8_shl(
      wasm_i16x8_narrow_i32x4(i32x4_code(wasm_v128_load(x), step),
                              i32x4_code(wasm_v128_load(x + LANES), step)), 1);
  v128_t codes = wasm_i16x8_splat(0);
  ROLLED for (size_t k = 0; k < 15; k++) {
    v128_t middle = wasm_i16x8_splat((int16_t)(values[k] + values[k + 1]));
    codes = wasm_i16x8_sub(codes, wasm_i16x8_gt(twice, middle));
  }
  return codes;
}

static void i4_encode_simd128(const float *x, size_t n, uint8_t *codes, uint16_t *scales) {
  for (; n >= I4_GROUP; n -= I4_GROUP, x += I4_GROUP, codes += I4_GROUP / 2, scales++) {
    *scales = i4_scale_simd128(x);
    float step = f32_from_f16(*scales) * I4_STEP;
    if (step == 0.0f || !isfinite(step)) {
      memset(codes, 0, I4_GROUP / 2);
      continue;
    }
    v128_t steps = wasm_f32x4_splat(step);
    v128_t low = wasm_u8x16_narrow_i16x8(i16x8_i4_codes(x, steps), i16x8_i4_codes(x + 8, steps));
    v128_t high =
        wasm_u8x16_narrow_i16x8(i16x8_i4_codes(x + 16, steps), i16x8_i4_codes(x + 24, steps));
    wasm_v128_store(codes, wasm_v128_or(low, wasm_i8x16_shl(high, 4)));
  }
  if (n > 0) i4_encode_group(x, n, codes, scales);
}

static void i4_decode_simd128(const uint8_t *codes, const uint16_t *scales, size_t n,
                              float *out) {
  const v128_t values = wasm_v128_load(simd_hide(PACKED_VALUES[VALUES_IQ4]));
  for (; n >= I4_GROUP; n -= I4_GROUP, out += I4_GROUP, codes += I4_GROUP / 2, scales++) {
    v128_t step = wasm_f32x4_splat(f32_from_f16(*scales) * I4_STEP);
    v128_t bytes = wasm_v128_load(codes);
    v128_t low = wasm_v128_and(bytes, wasm_i8x16_splat(15));
    f32x4_store_scaled(wasm_i8x16_swizzle(values, low), step, out);
    f32x4_store_scaled(wasm_i8x16_swizzle(values, wasm_u8x16_shr(bytes, 4)), step, out + 16);
  }
  if (n > 0) i4_decode_group(codes, *scales, n, out);
}

void kernels_fill_simd128_exact(kernel_table *table) {
  table->f32_add = f32_add_simd128;
  table->f32_multiply = f32_multiply_simd128;
  table->f32_rotate_adjacent = f32_rotate_adjacent_simd128;
  table->f32_rotate_halves = f32_rotate_halves_simd128;
  table->f16_encode = f16_encode_simd128;
  table->f16_decode = f16_decode_simd128;
  table->i8_encode = i8_encode_simd128;
  table->i8_decode = i8_decode_simd128;
  table->i4_encode = i4_encode_simd128;
  table->i4_decode = i4_decode_simd128;
}
