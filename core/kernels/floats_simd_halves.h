/* The third part of the SIMD body: products of rows of halves, as a file or a cache has them, with
 * one token, and one query's weighted sum of them. Same rules as floats_simd.h, which includes this
 * file: a sum is that of the decoded rows in f32_matmul or f32_attend, bit for bit. Decoded rows go
 * through memory as four times their bytes, which costs one token more than the whole product; for
 * many tokens a row is decoded once.
 *
 * The quick ways of F16 and F16_NORMAL leave out the last step of decoding, the product with a
 * power of two: the other factor is multiplied instead, once for several rows or columns. So the
 * product of the two is the same number before it is rounded.
 *
 * Four rows at a time: their sums hide the latency of the multiply-add, and stay in registers with
 * the numbers that decoding needs, which are loaded (simd_hide). */
#include "core/kernels/kernels.h"
#include "core/kernels/simd128_convert.h"

#include <math.h>
#include <string.h>

enum {
  HALVES = 2 * LANES, /* in a vector */
  HALVES_ROWS = 4,
  HALVES_VECTORS = 4 /* of a weighted sum's columns, each two accumulators */
};

/* How halves are decoded: HALVES_FINITE and HALVES_QUICK are the quick ways of F16 and F16_NORMAL,
 * wrong for factors that the power of two makes infinite, and the first for halves that are not
 * finite. */
typedef enum halves_kind {
  HALVES_FINITE,
  HALVES_F16,
  HALVES_QUICK,
  HALVES_NORMAL,
  HALVES_BF16
} halves_kind;

SIMD_INLINE bool KERNEL(is_quick)(const halves_kind kind) {
  return kind == HALVES_FINITE || kind == HALVES_QUICK;
}

SIMD_INLINE void KERNEL(raise)(const f16_numbers *numbers, v128_t x[2]) {
  x[0] = wasm_f32x4_mul(x[0], numbers->scale);
  x[1] = wasm_f32x4_mul(x[1], numbers->scale);
}

/* sums[r] += products of 8 columns; x times the power of two with a quick way. */
SIMD_INLINE void KERNEL(add_halves)(const halves_kind kind, v128_t halves, const v128_t x[2],
                                    const f16_numbers *numbers, const bool has_second,
                                    v128_t *sum) {
  v128_t values[2];
  if (KERNEL(is_quick)(kind)) f32x4_place_f16(halves, numbers, values);
  if (kind == HALVES_NORMAL) f32x4_from_finite_f16(halves, numbers, values);
  if (kind == HALVES_F16) {
    values[0] = f32x4_from_f16(wasm_i32x4_extend_low_i16x8(halves));
    values[1] = f32x4_from_f16(wasm_i32x4_extend_high_i16x8(halves));
  }
  if (kind == HALVES_BF16) f32x4_from_bf16(halves, values);
  *sum = MATMUL_MULTIPLY_ADD(values[0], x[0], *sum);
  if (has_second) *sum = MATMUL_MULTIPLY_ADD(values[1], x[1], *sum);
}

/* y[n_rows]; false: a quick way met what it is wrong for, and so may y be. */
SIMD_INLINE bool KERNEL(halves_tile)(const halves_kind kind, const uint8_t *w, const size_t n_rows,
                                     const float *x, size_t n_columns, float *y) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  const bool is_normal = kind == HALVES_QUICK || kind == HALVES_NORMAL;
  const f16_numbers numbers = is_normal ? f16_normal_numbers_load() : f16_numbers_load();
  const size_t row_bytes = n_columns * sizeof(uint16_t);
  v128_t sums[HALVES_ROWS] = {zero, zero, zero, zero};
  v128_t largest = zero;
  size_t c = 0;
  for (; c + HALVES <= n_columns; c += HALVES) {
    v128_t xs[2] = {wasm_v128_load(x + c), wasm_v128_load(x + c + LANES)};
    if (KERNEL(is_quick)(kind)) KERNEL(raise)(&numbers, xs);
    for (size_t r = 0; r < n_rows; r++) {
      v128_t halves = wasm_v128_load(w + r * row_bytes + c * sizeof(uint16_t));
      KERNEL(add_halves)(kind, halves, xs, &numbers, true, &sums[r]);
      if (kind == HALVES_FINITE) largest = f16_largest(largest, halves);
    }
  }
  const size_t n_left = n_columns - c;
  if (n_left > 0) {
    bool has_second = n_left > LANES;
    v128_t xs[2] = {zero, zero};
    xs[0] = n_left < LANES ? f32x4_load_partial(x + c, n_left, zero) : wasm_v128_load(x + c);
    if (has_second) xs[1] = f32x4_load_partial(x + c + LANES, n_left - LANES, zero);
    if (KERNEL(is_quick)(kind)) KERNEL(raise)(&numbers, xs);
    for (size_t r = 0; r < n_rows; r++) {
      uint8_t rest[HALVES * sizeof(uint16_t)] = {0};
      memcpy(rest, w + r * row_bytes + c * sizeof(uint16_t), n_left * sizeof(uint16_t));
      v128_t halves = wasm_v128_load(rest);
      KERNEL(add_halves)(kind, halves, xs, &numbers, has_second, &sums[r]);
      if (kind == HALVES_FINITE) largest = f16_largest(largest, halves);
    }
  }
  if (n_rows < HALVES_ROWS) {
    *y = f32x4_sum(sums[0]);
    return true;
  }
  v128_t all = f32x4_sum_each(sums[0], sums[1], sums[2], sums[3]);
  wasm_v128_store(y, all);
  if (!KERNEL(is_quick)(kind)) return true;
  /* An infinite factor has made a sum infinite or NaN. */
  v128_t is_finite = wasm_f32x4_lt(wasm_f32x4_abs(all), wasm_f32x4_splat(INFINITY));
  return f16_are_finite(largest) && wasm_i32x4_all_true(is_finite);
}

/* Rows by a quick way, and one by one where it fails and at the end. */
SIMD_INLINE void KERNEL(token_by)(const halves_kind quick, const halves_kind any, const uint8_t *w,
                                  size_t n_rows, const float *x, size_t n_columns, float *y) {
  const size_t row_bytes = n_columns * sizeof(uint16_t);
  for (size_t r = 0; r < n_rows; r += HALVES_ROWS) {
    const uint8_t *rows = w + r * row_bytes;
    size_t n = n_rows - r < HALVES_ROWS ? n_rows - r : HALVES_ROWS;
    if (n == HALVES_ROWS &&
        KERNEL(halves_tile)(quick, rows, HALVES_ROWS, x, n_columns, y + r)) continue;
    for (size_t i = 0; i < n; i++) {
      KERNEL(halves_tile)(any, rows + i * row_bytes, 1, x, n_columns, y + r + i);
    }
  }
}

static void KERNEL(f16_token)(const uint8_t *w, size_t n_rows, const float *x, size_t n_columns,
                              float *y) {
  KERNEL(token_by)(HALVES_FINITE, HALVES_F16, w, n_rows, x, n_columns, y);
}

static void KERNEL(f16_normal_token)(const uint8_t *w, size_t n_rows, const float *x,
                                     size_t n_columns, float *y) {
  KERNEL(token_by)(HALVES_QUICK, HALVES_NORMAL, w, n_rows, x, n_columns, y);
}

static void KERNEL(bf16_token)(const uint8_t *w, size_t n_rows, const float *x, size_t n_columns,
                               float *y) {
  const size_t row_bytes = n_columns * sizeof(uint16_t);
  size_t r = 0;
  for (; r + HALVES_ROWS <= n_rows; r += HALVES_ROWS) {
    KERNEL(halves_tile)(HALVES_BF16, w + r * row_bytes, HALVES_ROWS, x, n_columns, y + r);
  }
  for (; r < n_rows; r++) {
    KERNEL(halves_tile)(HALVES_BF16, w + r * row_bytes, 1, x, n_columns, y + r);
  }
}

/* out[n_vectors · 8] of one query, the count a constant at every call; false: a half is not finite,
 * and out is as it was. */
SIMD_INLINE bool KERNEL(attend_finite)(const float *weights, const uint8_t *v, size_t row_bytes,
                                       size_t n_positions, const size_t n_vectors, float factor,
                                       float *out) {
  const f16_numbers numbers = f16_numbers_load();
  const v128_t factors = wasm_f32x4_splat(factor);
  v128_t sums[2 * HALVES_VECTORS];
  v128_t largest = wasm_i16x8_splat(0);
  for (size_t i = 0; i < 2 * n_vectors; i++) {
    sums[i] = wasm_f32x4_mul(wasm_v128_load(out + i * LANES), factors);
  }
  for (size_t p = 0; p < n_positions; p++, v += row_bytes) {
    v128_t weight = wasm_f32x4_mul(wasm_v128_load32_splat(weights + p), numbers.scale);
    for (size_t i = 0; i < n_vectors; i++) {
      v128_t halves = wasm_v128_load(v + i * sizeof(v128_t));
      v128_t values[2];
      f32x4_place_f16(halves, &numbers, values);
      sums[2 * i] = ATTEND_MULTIPLY_ADD(weight, values[0], sums[2 * i]);
      sums[2 * i + 1] = ATTEND_MULTIPLY_ADD(weight, values[1], sums[2 * i + 1]);
      largest = f16_largest(largest, halves);
    }
  }
  if (!f16_are_finite(largest)) return false;
  for (size_t i = 0; i < 2 * n_vectors; i++) wasm_v128_store(out + i * LANES, sums[i]);
  return true;
}

/* The same for any halves and any number of columns. */
static void KERNEL(attend_any)(const float *weights, const uint8_t *v, size_t row_bytes,
                               size_t n_positions, size_t n_columns, float factor, float *out) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  for (size_t c = 0; c < n_columns; c += LANES) {
    size_t n = n_columns - c < LANES ? n_columns - c : LANES;
    v128_t sum = n < LANES ? f32x4_load_partial(out + c, n, zero) : wasm_v128_load(out + c);
    sum = wasm_f32x4_mul(sum, wasm_f32x4_splat(factor));
    for (size_t p = 0; p < n_positions; p++) {
      uint16_t halves[HALVES] = {0};
      memcpy(halves, v + p * row_bytes + c * sizeof *halves, n * sizeof *halves);
      v128_t values = f32x4_from_f16(wasm_i32x4_extend_low_i16x8(wasm_v128_load(halves)));
      sum = ATTEND_MULTIPLY_ADD(wasm_v128_load32_splat(weights + p), values, sum);
    }
    if (n < LANES) f32x4_store_partial(out + c, n, sum);
    else wasm_v128_store(out + c, sum);
  }
}

static void KERNEL(f16_attend)(const float *weights, const uint16_t *v, size_t n_positions,
                               size_t n_columns, float factor, float *out) {
  enum { MANY = HALVES_VECTORS * HALVES };
  const size_t row_bytes = n_columns * sizeof *v;
  for (size_t c = 0, n = 0; c < n_columns; c += n) {
    const uint8_t *from = (const uint8_t *)(v + c);
    size_t n_left = n_columns - c;
    n = n_left >= MANY ? MANY : n_left >= HALVES ? HALVES : n_left;
    if (n == MANY && KERNEL(attend_finite)(weights, from, row_bytes, n_positions, HALVES_VECTORS,
                                           factor, out + c)) continue;
    if (n == HALVES &&
        KERNEL(attend_finite)(weights, from, row_bytes, n_positions, 1, factor, out + c)) continue;
    KERNEL(attend_any)(weights, from, row_bytes, n_positions, n, factor, out + c);
  }
}
