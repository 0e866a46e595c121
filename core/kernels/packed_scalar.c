/* Integer products, scalar: the specification. Integer sums are exact and the float operations are
 * few and in a fixed order, so that every variant gives these bits. */
#include <math.h>

#include "core/kernels/kernels.h"

/* The code of one value, split if a token has two rows: into parts of at most 127. */
static void put_value(const packed_activations *out, size_t row, size_t c, int code) {
  int high = (code + 64) >> 7;
  int parts[2] = {out->rows_per_token == 1 ? code : high, code - 128 * high};
  for (size_t i = 0; i < out->rows_per_token; i++, row++) {
    size_t unit = (row * out->n_columns + c) / PACKED_UNIT;
    size_t place = c % 4 == 1 ? c + 1 : c % 4 == 2 ? c - 1 : c;
    out->values[row * out->n_columns + c] = (int8_t)parts[i];
    out->wide[row * out->n_columns + place] = (int16_t)parts[i];
    int16_t *pair = &out->pairs[2 * unit + c % 4 / 2];
    *pair = (int16_t)(*pair + parts[i]);
    int16_t *sum = &out->sums[unit / 2];
    *sum = (int16_t)(*sum + parts[i]);
  }
}

static void packed_encode_scalar(const float *x, size_t token, const packed_activations *out) {
  const size_t n_columns = out->n_columns;
  const size_t n_blocks = n_columns / out->block_columns;
  const size_t row = token * out->rows_per_token;
  const float limit = (float)packed_limit(out->rows_per_token);
  for (size_t i = 0; i < out->rows_per_token * n_columns / PACKED_UNIT; i++) {
    size_t unit = row * n_columns / PACKED_UNIT + i;
    out->pairs[2 * unit] = out->pairs[2 * unit + 1] = out->sums[unit / 2] = 0;
  }
  for (size_t b = 0; b < n_blocks; b++) {
    const size_t first = b * out->block_columns;
    float largest = 0.0f;
    for (size_t c = first; c < first + out->block_columns; c++) {
      float magnitude = fabsf(x[c]);
      if (magnitude > largest || isnan(magnitude)) largest = magnitude;
      if (isnan(largest)) break;
    }
    float scale = largest / limit;
    /* As for cache rows: what is not finite shows in the scale and so in every product. */
    bool usable = scale > 0.0f && isfinite(scale);
    if (out->rows_per_token == 2) out->scales[(row + 1) * n_blocks + b] = scale;
    out->scales[row * n_blocks + b] = out->rows_per_token == 2 ? 128.0f * scale : scale;
    for (size_t c = first; c < first + out->block_columns; c++) {
      /* Only a subnormal scale, which has few digits, can give more than the largest code. */
      float code = usable ? rintf(x[c] / scale) : 0.0f;
      put_value(out, row, c, (int)fminf(fmaxf(code, -limit), limit));
    }
  }
}

/* The product of one row of weights and one row of activations. */
static float row_product(packed_form form, const uint8_t *strip, size_t weights_row,
                         const packed_activations *x, size_t row) {
  const packed_geometry g = PACKED_GEOMETRY[form];
  const size_t n_blocks = x->n_columns / g.columns;
  const int8_t *values = x->values + row * x->n_columns;
  float total = 0.0f;
  for (size_t b = 0; b < n_blocks; b++, strip += packed_bytes_of(g), values += g.columns) {
    packed_row w;
    packed_get(form, strip, weights_row, &w);
    int32_t product = 0;
    int32_t minima = 0;
    for (size_t c = 0; c < g.columns; c++) {
      size_t part = c / g.part_columns;
      int32_t scale = g.scales >= SCALES_I8 ? (int8_t)w.scales[part] : w.scales[part];
      int32_t weight = (packed_is_signed(g) ? (int8_t)w.codes[c] : w.codes[c]) - g.middle;
      product += scale * weight * values[c];
      minima += w.minima[part] * values[c];
    }
    float scale = x->scales[row * n_blocks + b];
    total += (float)product * (packed_factor_value(g, w.factor) * scale);
    if (g.has_minimum) total += f32_from_f16(w.minimum) * ((float)minima * scale);
  }
  return total;
}

static void packed_matmul_any(packed_form form, const uint8_t *strip, const packed_activations *x,
                              size_t n_rows, float *y, size_t y_stride) {
  for (size_t t = 0; t < n_rows; t++) {
    for (size_t r = 0; r < PACKED_ROWS; r++) {
      y[t * y_stride + r] = row_product(form, strip, r, x, t);
    }
  }
}

#define X(type, ...)                                                                            \
  static void packed_matmul_##type(const uint8_t *strip, const packed_activations *x,           \
                                   size_t n_rows, float *y, size_t y_stride) {                  \
    packed_matmul_any(PACKED_##type, strip, x, n_rows, y, y_stride);                            \
  }
PACKED_FORM_LIST(X)
#undef X

void kernels_fill_scalar_packed(kernel_table *table) {
  table->packed_encode = packed_encode_scalar;
#define X(type, ...) table->packed_matmul[PACKED_##type] = packed_matmul_##type;
  PACKED_FORM_LIST(X)
#undef X
}
