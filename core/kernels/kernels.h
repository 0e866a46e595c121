/* Every loop that depends on the instruction set, behind one table.
 *
 * Each kernel has a scalar reference (floats_scalar.c), which is its specification and the
 * fallback, and a SIMD body (floats_simd.h) that is compiled for simd128 and for relaxed SIMD.
 *
 * Contracts for all: pointers may have any alignment that their element type needs; input and
 * output do not overlap unless said; nothing is read or written outside the stated extents; any
 * n >= 0 is allowed, whole blocks for block types. Sums over columns are taken in an order that
 * depends on the number of columns alone, never on n_rows or n_tokens, so that a token's result
 * has the same bits in prefill, in decode and in a batch.
 *
 * SIMD against scalar: other summation order and, for exp, tanh and erf, other polynomials.
 * Tolerances are argued in tests/native/test_kernels.c. */
#ifndef ONEKV_KERNELS_H
#define ONEKV_KERNELS_H

#include "core/kernels/packed.h"
#include "core/onekv_types.h"

typedef enum onekv_activation {
  ONEKV_GELU_ERF,  /* x · Φ(x), Φ by erf: exact GELU */
  ONEKV_GELU_TANH, /* the same by the tanh approximation of GPT-2 */
  ONEKV_SILU,      /* x / (1 + exp(-x)) */
  ONEKV_RELU_SQUARED, /* max(x, 0)²; exact: same result in all variants */
  ONEKV_ACTIVATION_COUNT
} onekv_activation;

/* Rows of bytes as a cache has them, n of them, `stride` apart, each with a scale. */
typedef struct i8_rows {
  const int8_t *codes;
  const float *scales; /* [n] */
  size_t n;
  size_t stride;
} i8_rows;

typedef struct kernel_table {
  const char *name; /* "scalar", "simd128", "relaxed" */

  /* out[n] = the n elements of a row of blocks of that type (NULL for types that do not exist;
   * TENSOR_F16_NORMAL does; F32 copies). n is a multiple of the type's block. Exact: same result in
   * all variants. */
  void (*dequantize[TENSOR_TYPE_END])(const uint8_t *blocks, size_t n, float *out);

  /* y[t][r] = sum_c w[r][c] · x[t][c], for t < n_tokens, r < n_rows, c < n_columns.
   * Strides in floats between rows of w, x and y. */
  void (*f32_matmul)(const float *w, size_t w_stride, size_t n_rows, const float *x,
                     size_t x_stride, size_t n_tokens, size_t n_columns, float *y,
                     size_t y_stride);

  /* y[r] = sum_c w[r][c] · x[c] for n_rows rows of that type, not packed, at any address:
   * the bits of dequantize and f32_matmul. NULL where those two are as quick. */
  void (*token_matmul[TENSOR_TYPE_END])(const uint8_t *w, size_t n_rows, const float *x,
                                        size_t n_columns, float *y);

  /* Rounds the activations x[n_columns] of one token into its rows of `out`; packed.h has the
   * arrays' shapes. A block with a NaN or an infinity gets that as its scale and zeros as values.
   * Exact: same result in all variants. */
  void (*packed_encode)(const float *x, size_t token, const packed_activations *out);
  bool packed_has_slabs; /* the rows' slabs are worth their memory */

  /* y[t][r] = w[r] · x[t] for n_rows rows of activations and the 16 rows of a strip, block after
   * block:
   *   y = y + float(sum scale[r][part] · (value - middle) · x) · (d[r] · x.scale)
   *   y = y + m[r] · (float(sum minimum[r][part] · x) · x.scale), in the types that have minima;
   * the sums are exact integers. Never fused: same result in all variants. y_stride in floats. */
  void (*packed_matmul[PACKED_FORM_COUNT])(const uint8_t *strip, const packed_activations *x,
                                           size_t n_rows, float *y, size_t y_stride);

  /* y[c] = (x[c] - mean) / sqrt(variance + epsilon) · gain[c] + bias[c]; bias may be NULL.
   * y may be x. */
  void (*f32_layer_norm)(const float *x, const float *gain, const float *bias, float epsilon,
                         size_t n, float *y);

  /* y[c] = x[c] / sqrt(mean(x²) + epsilon) · gain[c]. y may be x. */
  void (*f32_rms_norm)(const float *x, const float *gain, float epsilon, size_t n, float *y);

  /* x[c] = act(x[c]); onekv_activation has the formulas. */
  void (*f32_activate[ONEKV_ACTIVATION_COUNT])(float *x, size_t n);

  /* x[c] += y[c];  x[c] *= y[c]. Exact: same result in all variants. */
  void (*f32_add)(float *x, const float *y, size_t n);
  void (*f32_multiply)(float *x, const float *y, size_t n);

  /* y[r] = x[r] with n_pairs pairs rotated, for r < n_rows; y may be x; what follows the pairs of a
   * row is not touched. Row r turns by the angles whose cosines and sines [n_pairs] each stand at
   * r · angle_stride (0: all rows by the same): (a, b) -> (a cos - b sin, a sin + b cos).
   * adjacent: pair i is (x[2i], x[2i+1]); halves: pair i is (x[i], x[i + n_pairs]). `inverse`
   * negates the sines. */
  void (*f32_rotate_adjacent)(const float *x, size_t n_rows, size_t stride, const float *cosines,
                              const float *sines, size_t angle_stride, size_t n_pairs,
                              bool inverse, float *y);
  void (*f32_rotate_halves)(const float *x, size_t n_rows, size_t stride, const float *cosines,
                            const float *sines, size_t angle_stride, size_t n_pairs,
                            bool inverse, float *y);

  /* One online-softmax step over a tile of n >= 1 scores of one query (Milakov & Gimelshein
   * 2018): with m' = max(*maximum, max(scores)): scores[i] = exp(scores[i] - m'),
   * *sum = *sum · f + sum_i scores[i], *maximum = m', and returns f = exp(*maximum - m')
   * (1 when the maximum did not change, 0 on the first tile where *maximum is -INFINITY).
   * A score of -INFINITY is masked: it becomes 0, also where all scores so far are masked. */
  float (*f32_softmax_step)(float *scores, size_t n, float *maximum, float *sum);

  /* out[q][c] = out[q][c] · factors[q] + sum_p weights[q][p] · v[p][c], for q < n_queries,
   * p < n_positions, c < n_columns, summed in the order of p. */
  void (*f32_attend)(const float *weights, size_t weights_stride, size_t n_queries,
                     const float *v, size_t v_stride, size_t n_positions, size_t n_columns,
                     const float *factors, float *out, size_t out_stride);

  /* f32_attend of one query and rows of halves [n_positions][n_columns], weights below 2^15: the
   * bits of f16_decode and f32_attend. NULL where those two are as quick. */
  void (*f16_attend)(const float *weights, const uint16_t *v, size_t n_positions,
                     size_t n_columns, float factor, float *out);

  /* Attention over rows of i8, in integers: the same result in all variants, and however many
   * queries come at once. Codes are those of i8_encode; products are never fused with sums.
   *   i8_scores: y[q][p] = float(sum_c key[p][c] · query[q][c]) · (query scale[q] · key scale[p]),
   *     or with `adds` that more than it was. y_stride in floats.
   *   i16_weights: the weights, which are not negative, become their products with the values'
   *     scales, and codes[n] those times 32767 / max, rounded to nearest even; *step = max / 32767.
   *     Where a product is not finite, that is the step and all codes are 0. n is at most 512; for
   *     an odd n codes[n] = 0.
   *   i8_attend: out[q][c] = out[q][c] · factors[q] + float(sum_p code[q][p] · v[p][c]) · steps[q];
   *     the values' scales are not looked at. */
  void (*i8_scores)(const i8_rows *keys, const i8_rows *queries, size_t n_columns, bool adds,
                    float *y, size_t y_stride);
  void (*i16_weights)(float *weights, const float *scales, size_t n, int16_t *codes, float *step);
  void (*i8_attend)(const int16_t *weights, size_t weights_stride, size_t n_queries,
                    const i8_rows *values, size_t n_columns, const float *steps,
                    const float *factors, float *out, size_t out_stride);

  /* Cache rows. f16: round to nearest even, overflow to infinity, subnormals kept. */
  void (*f16_encode)(const float *x, size_t n, uint16_t *out);
  void (*f16_decode)(const uint16_t *x, size_t n, float *out);
  /* i8: *scale = max|x| / 127, out[c] = round(x[c] / scale) to nearest even; 0 for a zero row. */
  void (*i8_encode)(const float *x, size_t n, int8_t *out, float *scale);
  void (*i8_decode)(const int8_t *x, size_t n, float scale, float *out);
  /* i4: groups of I4_GROUP elements, the last may be shorter, each with a scale s in f16, its
   * element of the largest magnitude: out[c] = V[code] · (s / -127), V the values of IQ4_NL
   * (packed.h), code that of the value nearest to x[c] / (s / -127). In a group of m the codes of
   * elements 0 to h - 1, h = ⌈m/2⌉, are the low halves of its h bytes, those from h on the high
   * ones; a half without an element is 0. A group with a NaN, or whose largest does not fit f16,
   * has a scale that is not finite. codes [i4_code_bytes(n)], scales [i4_groups(n)]. Exact. */
  void (*i4_encode)(const float *x, size_t n, uint8_t *codes, uint16_t *scales);
  void (*i4_decode)(const uint8_t *codes, const uint16_t *scales, size_t n, float *out);
} kernel_table;

enum { I4_GROUP = 32 };
#define I4_STEP (-1.0f / 127.0f) /* of a scale: the largest element is V[0] = -127 of them */

static inline size_t i4_groups(size_t n) { return (n + I4_GROUP - 1) / I4_GROUP; }
static inline size_t i4_code_bytes(size_t n) { return (n + 1) / 2; }

/* One group of n <= I4_GROUP elements, by scalar code: also the short one behind a SIMD loop. */
void i4_encode_group(const float *x, size_t n, uint8_t *codes, uint16_t *scale);
void i4_decode_group(const uint8_t *codes, uint16_t scale, size_t n, float *out);

/* Fills *table with the scalar kernels, then overwrites from the weakest level to `level`, as
 * far as this build has them. table->name tells the level reached. */
void kernels_select(kernel_table *table, onekv_level level);

/* The variants' own fill-in functions; a build lacks those it has no instructions for. */
void kernels_fill_scalar(kernel_table *table);
void kernels_fill_scalar_dequantize(kernel_table *table);  /* dequantize_scalar.c */
void kernels_fill_scalar_packed(kernel_table *table);      /* packed_scalar.c */
void kernels_fill_scalar_convert(kernel_table *table);     /* convert_scalar.c */
void kernels_fill_scalar_codes(kernel_table *table);       /* codes_scalar.c */
void kernels_fill_simd128(kernel_table *table);
void kernels_fill_simd128_codes(kernel_table *table);      /* codes_simd128.c */
void kernels_fill_simd128_exact(kernel_table *table);      /* convert_simd128.c */
void kernels_fill_simd128_dequantize(kernel_table *table); /* dequantize_simd128.c */
void kernels_fill_simd128_packed(kernel_table *table);     /* packed_simd128.c */
void kernels_fill_relaxed(kernel_table *table);
void kernels_fill_relaxed_floats(kernel_table *table);
void kernels_fill_relaxed_codes(kernel_table *table);      /* codes_relaxed.c */
void kernels_fill_relaxed_packed(kernel_table *table);     /* packed_relaxed.c: the better of */
void kernels_fill_packed_shorts(kernel_table *table);      /* one way, if it is exact here, */
void kernels_fill_packed_dot(kernel_table *table);         /* and the other */

#endif
