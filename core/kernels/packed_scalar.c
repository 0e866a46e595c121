/* Integer products, scalar: the specification. Integer sums are exact and the float operations are
 * few and in a fixed order, so that every variant gives these bits. */
#include <math.h>
#include <string.h>

#include "core/kernels/kernels.h"

static void packed_encode_scalar(const float *x, size_t n_columns, int limit, int16_t *values,
                                 float *scales, int32_t *sums) {
  for (size_t b = 0; b < n_columns / PACKED_COLUMNS; b++, x += PACKED_COLUMNS) {
    float largest = 0.0f;
    for (size_t c = 0; c < PACKED_COLUMNS; c++) {
      float magnitude = fabsf(x[c]);
      if (magnitude > largest || isnan(magnitude)) largest = magnitude;
      if (isnan(largest)) break;
    }
    float scale = largest / (float)limit;
    /* As for cache rows: what is not finite shows in the scale and so in every product. */
    bool usable = scale > 0.0f && isfinite(scale);
    scales[b] = scale;
    sums[b] = 0;
    for (size_t c = 0; c < PACKED_COLUMNS; c++) {
      /* Only a subnormal scale, which has few digits, can give more than the largest code. */
      float code = usable ? rintf(x[c] / scale) : 0.0f;
      code = fminf(fmaxf(code, -(float)limit), (float)limit);
      size_t place = c % 4 == 1 ? c + 1 : c % 4 == 2 ? c - 1 : c;
      values[b * PACKED_COLUMNS + place] = (int16_t)code;
      sums[b] += (int32_t)code;
    }
  }
}

/* Value of a row's column in a block's half, and where its scale stands. */
static int packed_value(packed_form form, const uint8_t *values, size_t row, size_t column) {
  if (form == PACKED_U4 || form == PACKED_U4_MIN) {
    uint8_t both = values[column % 16 / 4 * 4 * PACKED_ROWS + row * 4 + column % 4];
    return column < 16 ? both & 15 : both >> 4;
  }
  return (int8_t)values[column / 4 * 4 * PACKED_ROWS + row * 4 + column % 4];
}

static float read_float(const uint8_t *bytes, size_t i) {
  float out;
  memcpy(&out, bytes + i * sizeof out, sizeof out);
  return out;
}

static float row_product(packed_form form, const uint8_t *strip, size_t row,
                         const packed_activations *x, size_t token) {
  size_t n_blocks = x->n_columns / PACKED_COLUMNS;
  size_t n_parts = form == PACKED_I8_HALVES ? 2 : 1;
  size_t n_part_columns = PACKED_COLUMNS / n_parts;
  bool has_minimum = form == PACKED_I8_MIN || form == PACKED_U4_MIN;
  const int16_t *values = x->values + token * x->n_columns;
  float total = 0.0f;
  for (size_t b = 0; b < n_blocks; b++, strip += packed_block_bytes(form)) {
    float scale = x->scales[token * n_blocks + b];
    int32_t sum = x->sums[token * n_blocks + b];
    for (size_t part = 0; part < n_parts; part++) {
      const uint8_t *from = strip + part * (packed_block_bytes(form) / n_parts);
      const uint8_t *bytes = from + (has_minimum ? 2u : 1u) * PACKED_ROWS * sizeof(float);
      int32_t product = form == PACKED_U4 ? -8 * sum : 0;
      for (size_t c = 0; c < n_part_columns; c++) {
        size_t place = c % 4 == 1 ? c + 1 : c % 4 == 2 ? c - 1 : c;
        int32_t code = values[b * PACKED_COLUMNS + part * n_part_columns + place];
        product += packed_value(form, bytes, row, c) * code;
      }
      total += (float)product * (read_float(from, row) * scale);
    }
    if (has_minimum) total += read_float(strip, PACKED_ROWS + row) * ((float)sum * scale);
  }
  return total;
}

static void packed_matmul_any(packed_form form, const uint8_t *strip, const packed_activations *x,
                              size_t n_tokens, float *y, size_t y_stride) {
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t row = 0; row < PACKED_ROWS; row++) {
      y[t * y_stride + row] = row_product(form, strip, row, x, t);
    }
  }
}

#define X(form)                                                                               \
  static void packed_matmul_##form(const uint8_t *strip, const packed_activations *x,         \
                                   size_t n_tokens, int32_t *starts, float *y,                \
                                   size_t y_stride) {                                         \
    (void)starts;                                                                             \
    packed_matmul_any(PACKED_##form, strip, x, n_tokens, y, y_stride);                        \
  }
PACKED_FORM_LIST(X)
#undef X

void kernels_fill_scalar_packed(kernel_table *table) {
  table->packed_encode = packed_encode_scalar;
#define X(form) table->packed_matmul[PACKED_##form] = packed_matmul_##form;
  PACKED_FORM_LIST(X)
#undef X
}
