/* Scalar kernels that turn rows of floats into the cache's element types and back: the
 * specification, whose bits all variants give. */
#include "core/kernels/kernels.h"

#include <math.h>

#include "core/base/f16.h"

static void f16_encode_scalar(const float *x, size_t n, uint16_t *out) {
  for (size_t c = 0; c < n; c++) out[c] = f32_to_f16(x[c]);
}

static void f16_decode_scalar(const uint16_t *x, size_t n, float *out) {
  for (size_t c = 0; c < n; c++) out[c] = f32_from_f16(x[c]);
}

/* A row with a NaN or an infinity gets that as its scale and zeros as codes, so that it decodes
 * to NaN and is noticed instead of looking like a row of zeros. */
static void i8_encode_scalar(const float *x, size_t n, int8_t *out, float *scale) {
  float largest = 0.0f;
  for (size_t c = 0; c < n; c++) {
    float magnitude = fabsf(x[c]);
    if (magnitude > largest || isnan(magnitude)) largest = magnitude;
    if (isnan(largest)) break;
  }
  *scale = largest / 127.0f;
  bool usable = *scale > 0.0f && isfinite(*scale); /* 0 also where max / 127 underflows */
  for (size_t c = 0; c < n; c++) {
    /* Only a subnormal scale, which has few digits, can give more than 127. */
    float code = usable ? rintf(x[c] / *scale) : 0.0f;
    out[c] = (int8_t)fminf(fmaxf(code, -127.0f), 127.0f);
  }
}

static void i8_decode_scalar(const int8_t *x, size_t n, float scale, float *out) {
  for (size_t c = 0; c < n; c++) out[c] = (float)x[c] * scale;
}

void kernels_fill_scalar_convert(kernel_table *table) {
  table->f16_encode = f16_encode_scalar;
  table->f16_decode = f16_decode_scalar;
  table->i8_encode = i8_encode_scalar;
  table->i8_decode = i8_decode_scalar;
}
