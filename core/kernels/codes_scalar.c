/* Scalar kernels of attention over rows of bytes: the specification, whose bits all variants
 * give. */
#include "core/kernels/kernels.h"

#include <math.h>

static void i8_scores_scalar(const i8_rows *keys, const i8_rows *queries, size_t n_columns,
                             bool adds, float *y, size_t y_stride) {
  for (size_t q = 0; q < queries->n; q++) {
    for (size_t p = 0; p < keys->n; p++) {
      int32_t sum = 0;
      for (size_t c = 0; c < n_columns; c++) {
        sum += keys->codes[p * keys->stride + c] * queries->codes[q * queries->stride + c];
      }
      float score = (float)sum * (queries->scales[q] * keys->scales[p]);
      y[q * y_stride + p] = adds ? y[q * y_stride + p] + score : score;
    }
  }
}

static void i16_weights_scalar(float *weights, const float *scales, size_t n, int16_t *codes,
                               float *step) {
  float most = 0.0f;
  for (size_t p = 0; p < n; p++) {
    weights[p] *= scales[p];
    if (weights[p] > most || isnan(weights[p])) most = weights[p];
  }
  float inverse = 32767.0f / most; /* infinite where all weights are 0, or nearly */
  bool usable = isfinite(inverse) && isfinite(most);
  *step = most / 32767.0f;
  for (size_t p = 0; p < n; p++) {
    codes[p] = usable ? (int16_t)fminf(rintf(weights[p] * inverse), 32767.0f) : 0;
  }
  if (n % 2 != 0) codes[n] = 0;
}

static void i8_attend_scalar(const int16_t *weights, size_t weights_stride, size_t n_queries,
                             const i8_rows *values, size_t n_columns, const float *steps,
                             const float *factors, float *out, size_t out_stride) {
  for (size_t q = 0; q < n_queries; q++) {
    for (size_t c = 0; c < n_columns; c++) {
      int32_t sum = 0;
      for (size_t p = 0; p < values->n; p++) {
        sum += weights[q * weights_stride + p] * values->codes[p * values->stride + c];
      }
      float *y = &out[q * out_stride + c];
      *y = *y * factors[q] + (float)sum * steps[q];
    }
  }
}

void kernels_fill_scalar_codes(kernel_table *table) {
  table->i8_scores = i8_scores_scalar;
  table->i16_weights = i16_weights_scalar;
  table->i8_attend = i8_attend_scalar;
}
