/* The SIMD body: kernels whose speed or rounding depends on the multiply-add, compiled once for
 * each variant.
 *
 * The including file sets, before the include:
 *   KERNEL(name)                  the name with the variant's suffix
 *   MATMUL_MULTIPLY_ADD(a, b, c)  and ATTEND_, NORM_, EXP_: a · b + c, fused or not, for each
 *                                 kernel as measured
 *
 * Sums over columns: lane l of one accumulator takes columns l, l + 4, l + 8, ... in order, a
 * last partial vector is filled up with zeros, and lanes are added in one order. Nothing in that
 * depends on how many rows or tokens are computed together: a tile of any shape gives the bits
 * of the 1 x 1 tile. */
#include "core/kernels/kernels.h"
#include "core/kernels/floats_simd_halves.h"
#include "core/kernels/floats_simd_math.h"
#include "core/kernels/simd128.h"

#include <math.h>

/* --- matrix product ------------------------------------------------------------------------ */

/* Eight accumulators hide the latency of the multiply-add and leave registers for the operands;
 * 3 x 3 and 4 x 3 tiles are slower in V8, which has 15 registers, and so are unrolled columns
 * (GFLOP/s of one core, simd128/relaxed: 4 x 2 57/55, 3 x 3 32/56, 4 x 3 28/30). */
enum { MATMUL_ROWS = 4, MATMUL_TOKENS = 2, MATMUL_ROWS_ONE_TOKEN = 8 };

/* y[n_tokens][n_rows] of one tile. The counts are constants at every call, the loops over them
 * unroll and the accumulators stay in registers. */
SIMD_INLINE void KERNEL(matmul_tile)(const float *w, size_t w_stride, const size_t n_rows,
                                     const float *x, size_t x_stride, const size_t n_tokens,
                                     size_t n_columns, float *y, size_t y_stride) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  v128_t sums[MATMUL_TOKENS][MATMUL_ROWS_ONE_TOKEN];
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t r = 0; r < n_rows; r++) sums[t][r] = zero;
  }
  size_t c = 0;
  for (; c + LANES <= n_columns; c += LANES) {
    v128_t xs[MATMUL_TOKENS];
    for (size_t t = 0; t < n_tokens; t++) xs[t] = wasm_v128_load(x + t * x_stride + c);
    for (size_t r = 0; r < n_rows; r++) {
      v128_t row = wasm_v128_load(w + r * w_stride + c);
      for (size_t t = 0; t < n_tokens; t++) {
        sums[t][r] = MATMUL_MULTIPLY_ADD(row, xs[t], sums[t][r]);
      }
    }
  }
  if (c < n_columns) {
    for (size_t r = 0; r < n_rows; r++) {
      v128_t row = f32x4_load_partial(w + r * w_stride + c, n_columns - c, zero);
      for (size_t t = 0; t < n_tokens; t++) {
        v128_t token = f32x4_load_partial(x + t * x_stride + c, n_columns - c, zero);
        sums[t][r] = MATMUL_MULTIPLY_ADD(row, token, sums[t][r]);
      }
    }
  }
  for (size_t t = 0; t < n_tokens; t++) {
    size_t r = 0;
    for (; r + LANES <= n_rows; r += LANES) {
      v128_t *each = &sums[t][r];
      wasm_v128_store(y + t * y_stride + r, f32x4_sum_each(each[0], each[1], each[2], each[3]));
    }
    for (; r < n_rows; r++) y[t * y_stride + r] = f32x4_sum(sums[t][r]);
  }
}

static void KERNEL(f32_matmul)(const float *w, size_t w_stride, size_t n_rows, const float *x,
                               size_t x_stride, size_t n_tokens, size_t n_columns, float *y,
                               size_t y_stride) {
  size_t t = 0;
  for (; t + MATMUL_TOKENS <= n_tokens; t += MATMUL_TOKENS) {
    const float *xs = x + t * x_stride;
    float *ys = y + t * y_stride;
    size_t r = 0;
    for (; r + MATMUL_ROWS <= n_rows; r += MATMUL_ROWS) {
      KERNEL(matmul_tile)
      (w + r * w_stride, w_stride, MATMUL_ROWS, xs, x_stride, MATMUL_TOKENS, n_columns, ys + r,
       y_stride);
    }
    for (; r < n_rows; r++) {
      KERNEL(matmul_tile)
      (w + r * w_stride, w_stride, 1, xs, x_stride, MATMUL_TOKENS, n_columns, ys + r, y_stride);
    }
  }
  for (; t < n_tokens; t++) {
    const float *xs = x + t * x_stride;
    float *ys = y + t * y_stride;
    size_t r = 0;
    for (; r + MATMUL_ROWS_ONE_TOKEN <= n_rows; r += MATMUL_ROWS_ONE_TOKEN) {
      KERNEL(matmul_tile)
      (w + r * w_stride, w_stride, MATMUL_ROWS_ONE_TOKEN, xs, x_stride, 1, n_columns, ys + r,
       y_stride);
    }
    for (; r < n_rows; r++) {
      KERNEL(matmul_tile)
      (w + r * w_stride, w_stride, 1, xs, x_stride, 1, n_columns, ys + r, y_stride);
    }
  }
}

/* --- weighted sum of values ---------------------------------------------------------------- */

/* Eight accumulators again (GFLOP/s, simd128/relaxed: 2 x 4 56/56, 1 x 8 47/50, 3 x 4 30/30). */
enum { ATTEND_QUERIES = 2, ATTEND_VECTORS = 4, ATTEND_VECTORS_ONE_QUERY = 8 };

/* out[n_queries][4 · n_vectors] of one tile; the counts are constants at every call. */
SIMD_INLINE void KERNEL(attend_tile)(const float *weights, size_t weights_stride,
                                     const size_t n_queries, const float *v, size_t v_stride,
                                     size_t n_positions, const size_t n_vectors,
                                     const float *factors, float *out, size_t out_stride) {
  v128_t sums[ATTEND_QUERIES][ATTEND_VECTORS_ONE_QUERY];
  for (size_t q = 0; q < n_queries; q++) {
    v128_t factor = wasm_v128_load32_splat(factors + q);
    for (size_t i = 0; i < n_vectors; i++) {
      sums[q][i] = wasm_f32x4_mul(wasm_v128_load(out + q * out_stride + i * LANES), factor);
    }
  }
  for (size_t p = 0; p < n_positions; p++) {
    v128_t values[ATTEND_VECTORS_ONE_QUERY];
    for (size_t i = 0; i < n_vectors; i++) {
      values[i] = wasm_v128_load(v + p * v_stride + i * LANES);
    }
    for (size_t q = 0; q < n_queries; q++) {
      v128_t weight = wasm_v128_load32_splat(weights + q * weights_stride + p);
      for (size_t i = 0; i < n_vectors; i++) {
        sums[q][i] = ATTEND_MULTIPLY_ADD(weight, values[i], sums[q][i]);
      }
    }
  }
  for (size_t q = 0; q < n_queries; q++) {
    for (size_t i = 0; i < n_vectors; i++) {
      wasm_v128_store(out + q * out_stride + i * LANES, sums[q][i]);
    }
  }
}

/* The last n_columns < 4 columns of one query: the same operations in the same order. */
static void KERNEL(attend_partial)(const float *weights, const float *v, size_t v_stride,
                                   size_t n_positions, size_t n_columns, const float *factor,
                                   float *out) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  v128_t sum =
      wasm_f32x4_mul(f32x4_load_partial(out, n_columns, zero), wasm_v128_load32_splat(factor));
  for (size_t p = 0; p < n_positions; p++) {
    v128_t values = f32x4_load_partial(v + p * v_stride, n_columns, zero);
    sum = ATTEND_MULTIPLY_ADD(wasm_v128_load32_splat(weights + p), values, sum);
  }
  f32x4_store_partial(out, n_columns, sum);
}

/* The whole vectors of n_queries queries, in tiles of n_vectors as far as they go. */
SIMD_INLINE size_t KERNEL(attend_columns)(const float *weights, size_t weights_stride,
                                          const size_t n_queries, const float *v, size_t v_stride,
                                          size_t n_positions, size_t first, size_t n_columns,
                                          const size_t n_vectors, const float *factors, float *out,
                                          size_t out_stride) {
  size_t c = first;
  for (; c + n_vectors * LANES <= n_columns; c += n_vectors * LANES) {
    KERNEL(attend_tile)
    (weights, weights_stride, n_queries, v + c, v_stride, n_positions, n_vectors, factors, out + c,
     out_stride);
  }
  return c;
}

static void KERNEL(f32_attend)(const float *weights, size_t weights_stride, size_t n_queries,
                               const float *v, size_t v_stride, size_t n_positions,
                               size_t n_columns, const float *factors, float *out,
                               size_t out_stride) {
  size_t q = 0;
  size_t c = 0;
  for (; q + ATTEND_QUERIES <= n_queries; q += ATTEND_QUERIES) {
    const float *w = weights + q * weights_stride;
    float *o = out + q * out_stride;
    c = KERNEL(attend_columns)(w, weights_stride, ATTEND_QUERIES, v, v_stride, n_positions, 0,
                               n_columns, ATTEND_VECTORS, factors + q, o, out_stride);
    KERNEL(attend_columns)
    (w, weights_stride, ATTEND_QUERIES, v, v_stride, n_positions, c, n_columns, 1, factors + q, o,
     out_stride);
  }
  for (; q < n_queries; q++) {
    const float *w = weights + q * weights_stride;
    float *o = out + q * out_stride;
    c = KERNEL(attend_columns)(w, weights_stride, 1, v, v_stride, n_positions, 0, n_columns,
                               ATTEND_VECTORS_ONE_QUERY, factors + q, o, out_stride);
    c = KERNEL(attend_columns)(w, weights_stride, 1, v, v_stride, n_positions, c, n_columns,
                               ATTEND_VECTORS, factors + q, o, out_stride);
    KERNEL(attend_columns)
    (w, weights_stride, 1, v, v_stride, n_positions, c, n_columns, 1, factors + q, o, out_stride);
  }
  size_t n_left = n_columns % LANES;
  for (q = 0; q < n_queries && n_left > 0; q++) {
    KERNEL(attend_partial)
    (weights + q * weights_stride, v + n_columns - n_left, v_stride, n_positions, n_left,
     factors + q, out + q * out_stride + n_columns - n_left);
  }
}

/* --- norms --------------------------------------------------------------------------------- */

/* sum (x[c] - mean)²; lanes beyond n are filled with the mean and add nothing. Two accumulators
 * hide the latency of the addition. */
static float KERNEL(sum_of_squares)(const float *x, float mean, size_t n) {
  const v128_t means = wasm_f32x4_splat(mean);
  v128_t even = wasm_f32x4_splat(0.0f);
  v128_t odd = even;
  size_t c = 0;
  for (; c + 2 * LANES <= n; c += 2 * LANES) {
    v128_t first = wasm_f32x4_sub(wasm_v128_load(x + c), means);
    v128_t second = wasm_f32x4_sub(wasm_v128_load(x + c + LANES), means);
    even = NORM_MULTIPLY_ADD(first, first, even);
    odd = NORM_MULTIPLY_ADD(second, second, odd);
  }
  if (c + LANES <= n) {
    v128_t first = wasm_f32x4_sub(wasm_v128_load(x + c), means);
    even = NORM_MULTIPLY_ADD(first, first, even);
    c += LANES;
  }
  v128_t rest = wasm_f32x4_sub(f32x4_load_partial(x + c, n - c, means), means);
  return f32x4_sum(wasm_f32x4_add(even, NORM_MULTIPLY_ADD(rest, rest, odd)));
}

static float KERNEL(sum)(const float *x, size_t n) {
  v128_t even = wasm_f32x4_splat(0.0f);
  v128_t odd = even;
  size_t c = 0;
  for (; c + 2 * LANES <= n; c += 2 * LANES) {
    even = wasm_f32x4_add(even, wasm_v128_load(x + c));
    odd = wasm_f32x4_add(odd, wasm_v128_load(x + c + LANES));
  }
  if (c + LANES <= n) {
    even = wasm_f32x4_add(even, wasm_v128_load(x + c));
    c += LANES;
  }
  v128_t rest = f32x4_load_partial(x + c, n - c, wasm_f32x4_splat(0.0f));
  return f32x4_sum(wasm_f32x4_add(even, wasm_f32x4_add(odd, rest)));
}

/* y[c] = (x[c] - mean) · factor · gain[c] + bias[c] */
SIMD_INLINE v128_t KERNEL(scale)(v128_t x, v128_t mean, v128_t factor, v128_t gain, v128_t bias) {
  v128_t normal = wasm_f32x4_mul(wasm_f32x4_sub(x, mean), factor);
  return NORM_MULTIPLY_ADD(normal, gain, bias);
}

static void KERNEL(scale_row)(const float *x, float mean, float factor, const float *gain,
                              const float *bias, size_t n, float *y) {
  const v128_t zero = wasm_f32x4_splat(0.0f);
  const v128_t means = wasm_f32x4_splat(mean);
  const v128_t factors = wasm_f32x4_splat(factor);
  size_t c = 0;
  for (; c + LANES <= n; c += LANES) {
    v128_t offset = bias == NULL ? zero : wasm_v128_load(bias + c);
    v128_t value = wasm_v128_load(x + c);
    wasm_v128_store(y + c, KERNEL(scale)(value, means, factors, wasm_v128_load(gain + c), offset));
  }
  v128_t offset = bias == NULL ? zero : f32x4_load_partial(bias + c, n - c, zero);
  v128_t value = f32x4_load_partial(x + c, n - c, zero);
  v128_t gains = f32x4_load_partial(gain + c, n - c, zero);
  f32x4_store_partial(y + c, n - c, KERNEL(scale)(value, means, factors, gains, offset));
}

static void KERNEL(f32_layer_norm)(const float *x, const float *gain, const float *bias,
                                   float epsilon, size_t n, float *y) {
  if (n == 0) return;
  float mean = KERNEL(sum)(x, n) / (float)n;
  float variance = KERNEL(sum_of_squares)(x, mean, n) / (float)n;
  KERNEL(scale_row)(x, mean, 1.0f / sqrtf(variance + epsilon), gain, bias, n, y);
}

static void KERNEL(f32_rms_norm)(const float *x, const float *gain, float epsilon, size_t n,
                                 float *y) {
  if (n == 0) return;
  float square = KERNEL(sum_of_squares)(x, 0.0f, n) / (float)n;
  KERNEL(scale_row)(x, 0.0f, 1.0f / sqrtf(square + epsilon), gain, NULL, n, y);
}

static void KERNEL(fill)(kernel_table *table) {
  table->f32_matmul = KERNEL(f32_matmul);
  table->token_matmul[TENSOR_F16] = KERNEL(f16_token);
  table->token_matmul[TENSOR_F16_NORMAL] = KERNEL(f16_normal_token);
  table->token_matmul[TENSOR_BF16] = KERNEL(bf16_token);
  table->f32_layer_norm = KERNEL(f32_layer_norm);
  table->f32_rms_norm = KERNEL(f32_rms_norm);
  table->f32_activate[ONEKV_GELU_ERF] = KERNEL(f32_gelu_erf);
  table->f32_activate[ONEKV_GELU_TANH] = KERNEL(f32_gelu_tanh);
  table->f32_activate[ONEKV_SILU] = KERNEL(f32_silu);
  table->f32_softmax_step = KERNEL(f32_softmax_step);
  table->f32_attend = KERNEL(f32_attend);
  table->f16_attend = KERNEL(f16_attend);
}
