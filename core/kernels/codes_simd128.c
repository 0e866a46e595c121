/* Attention over rows of bytes by products of i16. */
#include <math.h>
#include <string.h>

#include "core/kernels/codes.h"
#include "core/kernels/simd128_convert.h"

typedef struct codes_query {
  v128_t low, high; /* columns 0 to 7, and 8 to 15 */
} codes_query;

SIMD_INLINE codes_query codes_widen(v128_t q) {
  return (codes_query){wasm_i16x8_extend_low_i8x16(q), wasm_i16x8_extend_high_i8x16(q)};
}

#if !defined(__wasm_relaxed_simd__) /* that module has codes_relaxed.c's */
SIMD_INLINE v128_t codes_add(v128_t k, codes_query q, v128_t sum) {
  codes_query wide = codes_widen(k);
  return wasm_i32x4_add(sum, wasm_i32x4_add(wasm_i32x4_dot_i16x8(wide.low, q.low),
                                            wasm_i32x4_dot_i16x8(wide.high, q.high)));
}

#define KERNEL(name)         name##_simd128
#define CODES_OF(q)          codes_widen(q)
#define CODES_ADD(k, q, sum) codes_add(k, q, sum)
#define CODES_REST(q, sum)   (sum)
#include "core/kernels/codes_simd.h"
#endif

void codes_add_rest(const int8_t *keys, size_t stride, size_t n, const int8_t *query, size_t first,
                    size_t n_columns, int32_t *sums) {
  ROLLED for (size_t r = 0; r < n; r++, keys += stride) {
    ROLLED for (size_t c = first; c < n_columns; c++) sums[r] += keys[c] * query[c];
  }
}

void codes_finish(const int32_t *sums, size_t n, float query_scale, const float *key_scales,
                  bool adds, float *y) {
  const v128_t scale = wasm_f32x4_splat(query_scale);
  ROLLED for (size_t r = 0; r + LANES <= n; r += LANES) {
    v128_t scores = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_v128_load(sums + r)),
                                   wasm_f32x4_mul(scale, wasm_v128_load(key_scales + r)));
    if (adds) scores = wasm_f32x4_add(wasm_v128_load(y + r), scores);
    wasm_v128_store(y + r, scores);
  }
  if (n > 1) return;
  float score = (float)sums[0] * (query_scale * key_scales[0]);
  *y = adds ? *y + score : score;
}

static void i16_weights_simd128(float *weights, const float *scales, size_t n, int16_t *codes,
                                float *step) {
  static const float MAGIC = 12582912.0f; /* i32x4_code */
  const v128_t magic = wasm_v128_load32_splat(simd_hide(&MAGIC));
  v128_t largest = wasm_f32x4_splat(0.0f);
  size_t p = 0;
  ROLLED for (; p + LANES <= n; p += LANES) {
    v128_t products = wasm_f32x4_mul(wasm_v128_load(weights + p), wasm_v128_load(scales + p));
    wasm_v128_store(weights + p, products);
    largest = wasm_f32x4_max(largest, products);
  }
  ROLLED for (; p < n; p++) {
    weights[p] *= scales[p];
    largest = wasm_f32x4_max(largest, wasm_v128_load32_splat(weights + p));
  }
  float most = f32x4_largest(largest);
  float inverse = 32767.0f / most;
  *step = most / 32767.0f;
  if (!isfinite(inverse) || !isfinite(most)) {
    memset(codes, 0, (n + n % 2) * sizeof *codes);
    return;
  }
  const v128_t factor = wasm_f32x4_splat(inverse);
  ROLLED for (p = 0; p < n; p += LANES) {
    size_t n_lanes = n - p < LANES ? n - p : LANES;
    v128_t values = n_lanes == LANES ? wasm_v128_load(weights + p)
                                     : f32x4_load_partial(weights + p, n_lanes, factor);
    v128_t found = wasm_i32x4_sub(wasm_f32x4_add(wasm_f32x4_mul(values, factor), magic), magic);
    v128_t shorts = wasm_i16x8_narrow_i32x4(found, found);
    if (n_lanes > 2) wasm_v128_store64_lane(codes + p, shorts, 0);
    else wasm_v128_store32_lane(codes + p, shorts, 0);
  }
  if (n % 2 != 0) codes[n] = 0;
}

enum { ATTEND_QUERIES = 2, ATTEND_COLUMNS = 16, ATTEND_VECTORS = ATTEND_COLUMNS / LANES };

/* sums += two positions' rows of sixteen columns, each with its weights. */
SIMD_INLINE void add_pair(v128_t a, v128_t b, const int16_t *weights, size_t weights_stride,
                          const size_t n_queries, v128_t sums[ATTEND_QUERIES][ATTEND_VECTORS]) {
  v128_t low =
      wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  v128_t high =
      wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  codes_query wide[2] = {codes_widen(low), codes_widen(high)};
  for (size_t q = 0; q < n_queries; q++) {
    v128_t both = wasm_v128_load32_splat(weights + q * weights_stride);
    for (size_t i = 0; i < ATTEND_VECTORS; i++) {
      v128_t pairs = i % 2 == 0 ? wide[i / 2].low : wide[i / 2].high;
      sums[q][i] = wasm_i32x4_add(sums[q][i], wasm_i32x4_dot_i16x8(pairs, both));
    }
  }
}

/* out[n_queries][16] of one tile; the count is a constant at every call. */
SIMD_INLINE void attend_codes(const int16_t *weights, size_t weights_stride,
                              const size_t n_queries, const int8_t *v, size_t stride,
                              size_t n_positions, const float *steps, const float *factors,
                              float *out, size_t out_stride) {
  v128_t sums[ATTEND_QUERIES][ATTEND_VECTORS];
  for (size_t q = 0; q < n_queries; q++) {
    for (size_t i = 0; i < ATTEND_VECTORS; i++) sums[q][i] = wasm_i32x4_splat(0);
  }
  ROLLED for (size_t p = 0; p < n_positions; p += 2, v += 2 * stride, weights += 2) {
    /* Behind the last one of an odd number stands a weight of 0. */
    const int8_t *second = p + 1 < n_positions ? v + stride : v;
    add_pair(wasm_v128_load(v), wasm_v128_load(second), weights, weights_stride, n_queries, sums);
  }
  for (size_t q = 0; q < n_queries; q++) {
    v128_t factor = wasm_v128_load32_splat(factors + q);
    v128_t step = wasm_v128_load32_splat(steps + q);
    for (size_t i = 0; i < ATTEND_VECTORS; i++) {
      float *y = out + q * out_stride + i * LANES;
      wasm_v128_store(y, wasm_f32x4_add(
          wasm_f32x4_mul(wasm_v128_load(y), factor),
          wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sums[q][i]), step)));
    }
  }
}

/* The columns from `first` on, fewer than sixteen. */
static void attend_codes_rest(const int16_t *weights, const i8_rows *values, size_t first,
                              size_t n_columns, float step, float factor, float *out) {
  for (size_t c = first; c < n_columns; c++) {
    int32_t sum = 0;
    ROLLED for (size_t p = 0; p < values->n; p++) {
      sum += weights[p] * values->codes[p * values->stride + c];
    }
    out[c] = out[c] * factor + (float)sum * step;
  }
}

static void i8_attend_simd128(const int16_t *weights, size_t weights_stride, size_t n_queries,
                              const i8_rows *values, size_t n_columns, const float *steps,
                              const float *factors, float *out, size_t out_stride) {
  const size_t whole = n_columns / ATTEND_COLUMNS * ATTEND_COLUMNS;
  size_t n = 0;
  for (size_t q = 0; q < n_queries; q += n) {
    n = n_queries - q < ATTEND_QUERIES ? 1 : ATTEND_QUERIES;
    const int16_t *codes = weights + q * weights_stride;
    float *y = out + q * out_stride;
    for (size_t c = 0; c < whole; c += ATTEND_COLUMNS) {
      const int8_t *v = values->codes + c;
      if (n == 1) {
        attend_codes(codes, weights_stride, 1, v, values->stride, values->n, steps + q,
                     factors + q, y + c, out_stride);
      } else {
        attend_codes(codes, weights_stride, ATTEND_QUERIES, v, values->stride, values->n,
                     steps + q, factors + q, y + c, out_stride);
      }
    }
    for (size_t i = 0; i < n && whole < n_columns; i++) {
      attend_codes_rest(codes + i * weights_stride, values, whole, n_columns, steps[q + i],
                        factors[q + i], y + i * out_stride);
    }
  }
}

void kernels_fill_simd128_codes(kernel_table *table) {
#if !defined(__wasm_relaxed_simd__)
  table->i8_scores = i8_scores_simd128;
#endif
  table->i16_weights = i16_weights_simd128;
  table->i8_attend = i8_attend_simd128;
}
