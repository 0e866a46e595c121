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

/* The number of an i4 group's values below x, by their middles: the nearest value's code. */
static unsigned i4_code(float x) {
  const int8_t *values = PACKED_VALUES[VALUES_IQ4];
  int twice = 2 * (int)rintf(fminf(fmaxf(x, -127.0f), 127.0f));
  unsigned code = 0;
  for (size_t k = 0; k < 15; k++) code += twice > values[k] + values[k + 1] ? 1 : 0;
  return code;
}

/* The negative one is chosen where two are of the largest magnitude; NaN where there is a NaN. */
static float i4_largest(const float *x, size_t n) {
  float most = 0.0f;
  float least = 0.0f;
  for (size_t c = 0; c < n; c++) {
    if (isnan(x[c])) return x[c];
    if (x[c] > most) most = x[c];
    if (x[c] < least) least = x[c];
  }
  return most > -least ? most : least;
}

void i4_encode_group(const float *x, size_t n, uint8_t *codes, uint16_t *scale) {
  float largest = i4_largest(x, n);
  *scale = isnan(largest) ? 0x7e00 : f32_to_f16(largest);
  float step = f32_from_f16(*scale) * I4_STEP;
  bool usable = step != 0.0f && isfinite(step);
  size_t half = i4_code_bytes(n);
  for (size_t i = 0; i < half; i++) {
    unsigned low = usable ? i4_code(x[i] / step) : 0;
    unsigned high = usable && half + i < n ? i4_code(x[half + i] / step) : 0;
    codes[i] = (uint8_t)(low | high << 4);
  }
}

void i4_decode_group(const uint8_t *codes, uint16_t scale, size_t n, float *out) {
  float step = f32_from_f16(scale) * I4_STEP;
  size_t half = i4_code_bytes(n);
  for (size_t c = 0; c < n; c++) {
    int code = c < half ? codes[c] & 15 : codes[c - half] >> 4;
    out[c] = (float)PACKED_VALUES[VALUES_IQ4][code] * step;
  }
}

static void i4_encode_scalar(const float *x, size_t n, uint8_t *codes, uint16_t *scales) {
  for (size_t first = 0; first < n; first += I4_GROUP, codes += I4_GROUP / 2) {
    size_t n_group = n - first < I4_GROUP ? n - first : I4_GROUP;
    i4_encode_group(x + first, n_group, codes, scales++);
  }
}

static void i4_decode_scalar(const uint8_t *codes, const uint16_t *scales, size_t n, float *out) {
  for (size_t first = 0; first < n; first += I4_GROUP, codes += I4_GROUP / 2) {
    size_t n_group = n - first < I4_GROUP ? n - first : I4_GROUP;
    i4_decode_group(codes, *scales++, n_group, out + first);
  }
}

void kernels_fill_scalar_convert(kernel_table *table) {
  table->f16_encode = f16_encode_scalar;
  table->f16_decode = f16_decode_scalar;
  table->i8_encode = i8_encode_scalar;
  table->i8_decode = i8_decode_scalar;
  table->i4_encode = i4_encode_scalar;
  table->i4_decode = i4_decode_scalar;
}
