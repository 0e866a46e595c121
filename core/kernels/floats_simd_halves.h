/* The third part of the SIMD body: products of rows of halves, as a file has them, with one token.
 * Same rules as floats_simd.h, which includes this file: a row's sum is that of the decoded row in
 * f32_matmul, bit for bit. Decoded rows go through memory as four times the file's bytes, which
 * costs one token more than the whole product; for many tokens a row is decoded once.
 *
 * Four rows at a time: their sums hide the latency of the multiply-add, and stay in registers with
 * the numbers that decoding needs, which are loaded (simd_hide). */
#include "core/kernels/kernels.h"
#include "core/kernels/simd128_convert.h"

#include <string.h>

enum { HALVES_ROWS = 4, HALVES = 2 * LANES /* in a vector */ };

/* How halves are decoded: HALVES_FINITE is the quick way of F16, wrong for what is not finite. */
typedef enum halves_kind { HALVES_FINITE, HALVES_F16, HALVES_BF16 } halves_kind;

/* sums[r] += products of 8 columns. */
SIMD_INLINE void KERNEL(add_halves)(const halves_kind kind, v128_t halves, const v128_t x[2],
                                    const f16_numbers *numbers, const bool has_second,
                                    v128_t *sum) {
  v128_t values[2];
  if (kind == HALVES_FINITE) f32x4_from_finite_f16(halves, numbers, values);
  if (kind == HALVES_F16) {
    values[0] = f32x4_from_f16(wasm_i32x4_extend_low_i16x8(halves));
    values[1] = f32x4_from_f16(wasm_i32x4_extend_high_i16x8(halves));
  }
  if (kind == HALVES_BF16) f32x4_from_bf16(halves, values);
  *sum = MATMUL_MULTIPLY_ADD(values[0], x[0], *sum);
  if (has_second) *sum = MATMUL_MULTIPLY_ADD(values[1], x[1], *sum);
}

/* y[n_rows]; false: a half of HALVES_FINITE is not, and y is wrong. */
SIMD_INLINE bool KERNEL(halves_tile)(const halves_kind kind, const uint8_t *w, const size_t n_rows,
                                     const float *x, size_t n_columns, float *y) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  const f16_numbers numbers = f16_numbers_load();
  const size_t row_bytes = n_columns * sizeof(uint16_t);
  v128_t sums[HALVES_ROWS] = {zero, zero, zero, zero};
  v128_t largest = zero;
  size_t c = 0;
  for (; c + HALVES <= n_columns; c += HALVES) {
    v128_t xs[2] = {wasm_v128_load(x + c), wasm_v128_load(x + c + LANES)};
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
    for (size_t r = 0; r < n_rows; r++) {
      uint8_t rest[HALVES * sizeof(uint16_t)] = {0};
      memcpy(rest, w + r * row_bytes + c * sizeof(uint16_t), n_left * sizeof(uint16_t));
      v128_t halves = wasm_v128_load(rest);
      KERNEL(add_halves)(kind, halves, xs, &numbers, has_second, &sums[r]);
      if (kind == HALVES_FINITE) largest = f16_largest(largest, halves);
    }
  }
  if (n_rows == HALVES_ROWS) {
    wasm_v128_store(y, f32x4_sum_each(sums[0], sums[1], sums[2], sums[3]));
  } else {
    *y = f32x4_sum(sums[0]);
  }
  return kind != HALVES_FINITE || f16_are_finite(largest);
}

static void KERNEL(f16_row)(const uint8_t *w, const float *x, size_t n_columns, float *y) {
  KERNEL(halves_tile)(HALVES_F16, w, 1, x, n_columns, y);
}

static void KERNEL(f16_token)(const uint8_t *w, size_t n_rows, const float *x, size_t n_columns,
                              float *y) {
  const size_t row_bytes = n_columns * sizeof(uint16_t);
  for (size_t r = 0; r < n_rows; r += HALVES_ROWS) {
    const uint8_t *rows = w + r * row_bytes;
    size_t n = n_rows - r < HALVES_ROWS ? n_rows - r : HALVES_ROWS;
    if (n == HALVES_ROWS &&
        KERNEL(halves_tile)(HALVES_FINITE, rows, HALVES_ROWS, x, n_columns, y + r)) continue;
    for (size_t i = 0; i < n; i++) KERNEL(f16_row)(rows + i * row_bytes, x, n_columns, y + r + i);
  }
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
