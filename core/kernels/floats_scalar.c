/* Scalar kernels of floats: the specification of their entries of the table, and the fallback.
 *
 * Written to be obviously right, not fast. Sums run in double and are rounded once: a float
 * product is exact in double, so the scalar result stands for the exact one and the tolerance of
 * a variant is a bound on the variant's own rounding alone. exp, tanh and erf are libm's. */
#include "core/kernels/kernels.h"

#include <math.h>

static void f32_matmul_scalar(const float *w, size_t w_stride, size_t n_rows, const float *x,
                              size_t x_stride, size_t n_tokens, size_t n_columns, float *y,
                              size_t y_stride) {
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t r = 0; r < n_rows; r++) {
      double sum = 0.0;
      for (size_t c = 0; c < n_columns; c++) {
        sum += (double)w[r * w_stride + c] * (double)x[t * x_stride + c];
      }
      y[t * y_stride + r] = (float)sum;
    }
  }
}

static void f32_layer_norm_scalar(const float *x, const float *gain, const float *bias,
                                  float epsilon, size_t n, float *y) {
  double mean = 0.0;
  for (size_t c = 0; c < n; c++) mean += (double)x[c];
  mean /= (double)n;
  double variance = 0.0;
  for (size_t c = 0; c < n; c++) {
    double difference = (double)x[c] - mean;
    variance += difference * difference;
  }
  variance /= (double)n;
  double factor = 1.0 / sqrt(variance + (double)epsilon);
  for (size_t c = 0; c < n; c++) {
    double value = ((double)x[c] - mean) * factor * (double)gain[c];
    y[c] = (float)(bias == NULL ? value : value + (double)bias[c]);
  }
}

static void f32_rms_norm_scalar(const float *x, const float *gain, float epsilon, size_t n,
                                float *y) {
  double sum = 0.0;
  for (size_t c = 0; c < n; c++) sum += (double)x[c] * (double)x[c];
  double factor = 1.0 / sqrt(sum / (double)n + (double)epsilon);
  for (size_t c = 0; c < n; c++) y[c] = (float)((double)x[c] * factor * (double)gain[c]);
}

static void f32_gelu_erf_scalar(float *x, size_t n) {
  const float sqrt_half = 0.70710678f;
  for (size_t c = 0; c < n; c++) x[c] = 0.5f * x[c] * erfcf(-x[c] * sqrt_half);
}

static void f32_gelu_tanh_scalar(float *x, size_t n) {
  const float sqrt_2_over_pi = 0.79788456f;
  for (size_t c = 0; c < n; c++) {
    float inner = sqrt_2_over_pi * (x[c] + 0.044715f * x[c] * x[c] * x[c]);
    x[c] = 0.5f * x[c] * (1.0f + tanhf(inner));
  }
}

static void f32_silu_scalar(float *x, size_t n) {
  for (size_t c = 0; c < n; c++) x[c] = x[c] / (1.0f + expf(-x[c]));
}

static void f32_relu_squared_scalar(float *x, size_t n) {
  for (size_t c = 0; c < n; c++) {
    float positive = x[c] < 0.0f ? 0.0f : x[c]; /* a NaN stays */
    x[c] = positive * positive;
  }
}

static void f32_add_scalar(float *x, const float *y, size_t n) {
  for (size_t c = 0; c < n; c++) x[c] += y[c];
}

static void f32_multiply_scalar(float *x, const float *y, size_t n) {
  for (size_t c = 0; c < n; c++) x[c] *= y[c];
}

/* (x, y) turned, into (*u, *v). */
static void rotate_pair(float x, float y, float cosine, float sine, float *u, float *v) {
  *u = x * cosine - y * sine;
  *v = x * sine + y * cosine;
}

static void f32_rotate_adjacent_scalar(const float *x, size_t n_rows, size_t stride,
                                       const float *cosines, const float *sines,
                                       size_t angle_stride, size_t n_pairs, bool inverse,
                                       float *y) {
  for (size_t r = 0; r < n_rows; r++, x += stride, y += stride) {
    for (size_t i = 0; i < n_pairs; i++) {
      float sine = sines[r * angle_stride + i];
      rotate_pair(x[2 * i], x[2 * i + 1], cosines[r * angle_stride + i], inverse ? -sine : sine,
                  &y[2 * i], &y[2 * i + 1]);
    }
  }
}

static void f32_rotate_halves_scalar(const float *x, size_t n_rows, size_t stride,
                                     const float *cosines, const float *sines,
                                     size_t angle_stride, size_t n_pairs, bool inverse, float *y) {
  for (size_t r = 0; r < n_rows; r++, x += stride, y += stride) {
    for (size_t i = 0; i < n_pairs; i++) {
      float sine = sines[r * angle_stride + i];
      rotate_pair(x[i], x[i + n_pairs], cosines[r * angle_stride + i], inverse ? -sine : sine,
                  &y[i], &y[i + n_pairs]);
    }
  }
}

static float f32_softmax_step_scalar(float *scores, size_t n, float *maximum, float *sum) {
  float before = *maximum;
  float after = before;
  for (size_t i = 0; i < n; i++) {
    if (scores[i] > after) after = scores[i];
  }
  /* All masked so far: -INFINITY - -INFINITY would be NaN where the weight is 0. */
  float shift = after == -INFINITY ? 0.0f : after;
  double total = 0.0;
  for (size_t i = 0; i < n; i++) {
    scores[i] = expf(scores[i] - shift);
    total += (double)scores[i];
  }
  float factor = before == after ? 1.0f : expf(before - after);
  *sum = (float)((double)*sum * (double)factor + total);
  *maximum = after;
  return factor;
}

static void f32_attend_scalar(const float *weights, size_t weights_stride, size_t n_queries,
                              const float *v, size_t v_stride, size_t n_positions, size_t n_columns,
                              const float *factors, float *out, size_t out_stride) {
  for (size_t q = 0; q < n_queries; q++) {
    for (size_t c = 0; c < n_columns; c++) {
      double sum = (double)out[q * out_stride + c] * (double)factors[q];
      for (size_t p = 0; p < n_positions; p++) {
        sum += (double)weights[q * weights_stride + p] * (double)v[p * v_stride + c];
      }
      out[q * out_stride + c] = (float)sum;
    }
  }
}

void kernels_fill_scalar(kernel_table *table) {
  table->name = "scalar";
  kernels_fill_scalar_dequantize(table);
  kernels_fill_scalar_packed(table);
  kernels_fill_scalar_convert(table);
  kernels_fill_scalar_codes(table);
  table->f32_matmul = f32_matmul_scalar;
  table->f32_layer_norm = f32_layer_norm_scalar;
  table->f32_rms_norm = f32_rms_norm_scalar;
  table->f32_activate[ONEKV_GELU_ERF] = f32_gelu_erf_scalar;
  table->f32_activate[ONEKV_GELU_TANH] = f32_gelu_tanh_scalar;
  table->f32_activate[ONEKV_SILU] = f32_silu_scalar;
  table->f32_activate[ONEKV_RELU_SQUARED] = f32_relu_squared_scalar;
  table->f32_add = f32_add_scalar;
  table->f32_multiply = f32_multiply_scalar;
  table->f32_rotate_adjacent = f32_rotate_adjacent_scalar;
  table->f32_rotate_halves = f32_rotate_halves_scalar;
  table->f32_softmax_step = f32_softmax_step_scalar;
  table->f32_attend = f32_attend_scalar;
}
