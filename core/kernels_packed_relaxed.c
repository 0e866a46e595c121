/* Integer products of one token by the relaxed dot product of bytes: the bits of
 * kernels_packed_scalar.c.
 *
 * i32x4.relaxed_dot_i8x16_i7x16 is exact where the second operand's bytes are 0 to 127. An
 * activation of 15 bits and a sign is 128 · h + l, with l from 0 to 127 and h from -127 to 127. For
 * h the bytes of weights take over its sign: w ^ -1 is -w - 1, so the sum of (w ^ sign h) · |h|
 * falls short of w · h by the |h| of negative h, which do not depend on w and are added in front.
 * Two dot products so give what four i16 products give. */
#include "kernels.h"
#include "simd128.h"

#include <string.h>

#if defined(__wasm_relaxed_simd__)
#define dot_add(a, b, c) wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, c)
#elif defined(__SSSE3__)
#include <immintrin.h>
/* As V8 does where the processor has no dot product. */
SIMD_INLINE v128_t dot_add(v128_t a, v128_t b, v128_t c) {
  __m128i pairs = _mm_maddubs_epi16((__m128i)b, (__m128i)a);
  return (v128_t)_mm_add_epi32(_mm_madd_epi16(pairs, _mm_set1_epi16(1)), (__m128i)c);
}
#else
SIMD_INLINE v128_t dot_add(v128_t a, v128_t b, v128_t c) {
  v128_t low = wasm_i16x8_extmul_low_i8x16(a, b);
  v128_t high = wasm_i16x8_extmul_high_i8x16(a, b);
  const v128_t ones = wasm_i16x8_splat(1);
  v128_t even = wasm_i32x4_dot_i16x8(low, ones);
  v128_t odd = wasm_i32x4_dot_i16x8(high, ones);
  v128_t sum = wasm_i32x4_add(wasm_i32x4_shuffle(even, odd, 0, 2, 4, 6),
                              wasm_i32x4_shuffle(even, odd, 1, 3, 5, 7));
  return wasm_i32x4_add(sum, c);
}
#endif

enum {
  VECTORS = PACKED_ROWS / 4, /* of a column group */
  GROUP_BYTES = 16 * VECTORS,
  SCALE_BYTES = PACKED_ROWS * sizeof(float),
  PART_BYTES = 12 /* of 4 columns */
};

static void packed_split_relaxed(const int16_t *values, size_t n_columns, uint8_t *parts,
                                 int32_t *corrections) {
  const v128_t low_bits = wasm_i16x8_splat(127);
  const v128_t ones = wasm_i16x8_splat(1);
  for (size_t half = 0; half < n_columns / PACKED_HALF; half++) {
    v128_t sum = wasm_i32x4_splat(0);
    for (size_t c = 0; c < PACKED_HALF; c += 8, values += 8, parts += 2 * PART_BYTES) {
      v128_t x = wasm_v128_load(values);
      x = wasm_i16x8_shuffle(x, x, 0, 2, 1, 3, 4, 6, 5, 7);
      v128_t high = wasm_i16x8_shr(x, 7);
      v128_t sign = wasm_i16x8_shr(x, 15);
      v128_t magnitude = wasm_i16x8_abs(high);
      sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_v128_and(sign, magnitude), ones));
      /* Signs and low parts, 8 bytes each, then the magnitudes. */
      v128_t first = wasm_i8x16_narrow_i16x8(sign, wasm_v128_and(x, low_bits));
      v128_t second = wasm_i8x16_narrow_i16x8(magnitude, magnitude);
      wasm_v128_store32_lane(parts, first, 0);
      wasm_v128_store32_lane(parts + 4, second, 0);
      wasm_v128_store32_lane(parts + 8, first, 2);
      wasm_v128_store32_lane(parts + 12, first, 1);
      wasm_v128_store32_lane(parts + 16, second, 1);
      wasm_v128_store32_lane(parts + 20, first, 3);
    }
    corrections[half] = (wasm_i32x4_extract_lane(sum, 0) + wasm_i32x4_extract_lane(sum, 1)) +
                        (wasm_i32x4_extract_lane(sum, 2) + wasm_i32x4_extract_lane(sum, 3));
  }
}

/* The products of 4 columns with the 16 rows of `weights`. */
SIMD_INLINE void add_products(const v128_t weights[VECTORS], const uint8_t *parts,
                              v128_t high[VECTORS], v128_t low[VECTORS]) {
  v128_t sign = wasm_v128_load32_splat(parts);
  v128_t magnitude = wasm_v128_load32_splat(parts + 4);
  v128_t rest = wasm_v128_load32_splat(parts + 8);
  for (size_t v = 0; v < VECTORS; v++) {
    high[v] = dot_add(wasm_v128_xor(weights[v], sign), magnitude, high[v]);
    low[v] = dot_add(weights[v], rest, low[v]);
  }
}

SIMD_INLINE void add_bytes(const uint8_t *bytes, const size_t n_groups, const uint8_t *parts,
                           v128_t high[VECTORS], v128_t low[VECTORS]) {
  ROLLED for (size_t g = 0; g < n_groups; g++) {
    v128_t weights[VECTORS];
    for (size_t v = 0; v < VECTORS; v++) weights[v] = wasm_v128_load(bytes + 16 * v);
    add_products(weights, parts, high, low);
    bytes += GROUP_BYTES;
    parts += PART_BYTES;
  }
}

SIMD_INLINE void add_nibbles(const uint8_t *bytes, const uint8_t *parts, v128_t high[VECTORS],
                             v128_t low[VECTORS]) {
  const v128_t low_half = wasm_i8x16_splat(15);
  ROLLED for (size_t g = 0; g < 4; g++) {
    v128_t weights[VECTORS];
    for (size_t v = 0; v < VECTORS; v++) {
      weights[v] = wasm_v128_and(wasm_v128_load(bytes + 16 * v), low_half);
    }
    add_products(weights, parts, high, low);
    for (size_t v = 0; v < VECTORS; v++) {
      weights[v] = wasm_v128_and(wasm_u16x8_shr(wasm_v128_load(bytes + 16 * v), 4), low_half);
    }
    add_products(weights, parts + 4 * PART_BYTES, high, low);
    bytes += GROUP_BYTES;
    parts += PART_BYTES;
  }
}

/* y[16]; the form is a constant at every call. */
SIMD_INLINE void packed_decode(const packed_form form, const uint8_t *strip,
                               const packed_activations *x, float *y) {
  const bool has_nibbles = form == PACKED_U4 || form == PACKED_U4_MIN;
  const bool has_minimum = form == PACKED_I8_MIN || form == PACKED_U4_MIN;
  const size_t n_parts = form == PACKED_I8_HALVES ? 2 : 1;
  const size_t head_bytes = (has_minimum ? 2u : 1u) * SCALE_BYTES;
  const size_t n_groups = has_nibbles ? 4 : 8 / n_parts;
  const uint8_t *parts = x->parts;
  v128_t totals[VECTORS];
  for (size_t v = 0; v < VECTORS; v++) totals[v] = wasm_f32x4_splat(0.0f);
  for (size_t b = 0; b < x->n_columns / PACKED_COLUMNS; b++) {
    for (size_t half = 0; half < n_parts; half++) {
      v128_t high[VECTORS];
      v128_t low[VECTORS];
      const int32_t *missing = x->corrections + 2 * b + half;
      int32_t correction = n_parts == 2 ? missing[0] : missing[0] + missing[1];
      for (size_t v = 0; v < VECTORS; v++) {
        high[v] = wasm_i32x4_splat(correction);
        low[v] = wasm_i32x4_splat(form == PACKED_U4 ? -8 * x->sums[b] : 0);
      }
      if (has_nibbles) {
        add_nibbles(strip + head_bytes, parts, high, low);
      } else {
        add_bytes(strip + head_bytes, n_groups, parts, high, low);
      }
      v128_t scale = wasm_v128_load32_splat(x->scales + b);
      v128_t x_sum = wasm_f32x4_mul(wasm_f32x4_splat((float)x->sums[b]), scale);
      for (size_t v = 0; v < VECTORS; v++) {
        v128_t sum = wasm_i32x4_add(wasm_i32x4_shl(high[v], 7), low[v]);
        v128_t factor = wasm_f32x4_mul(wasm_v128_load(strip + 16 * v), scale);
        v128_t product = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum), factor);
        totals[v] = wasm_f32x4_add(totals[v], product);
        if (!has_minimum) continue;
        v128_t minimum = wasm_v128_load(strip + SCALE_BYTES + 16 * v);
        totals[v] = wasm_f32x4_add(totals[v], wasm_f32x4_mul(minimum, x_sum));
      }
      strip += head_bytes + n_groups * GROUP_BYTES;
      parts += PACKED_COLUMNS / n_parts / 4 * PART_BYTES;
    }
  }
  for (size_t v = 0; v < VECTORS; v++) wasm_v128_store(y + 4 * v, totals[v]);
}

#define X(form)                                                                              \
  static void packed_decode_##form(const uint8_t *strip, const packed_activations *x,        \
                                   float *y) {                                               \
    packed_decode(PACKED_##form, strip, x, y);                                               \
  }
PACKED_FORM_LIST(X)
#undef X

/* Whether the dot product is one instruction here. x86 without one multiplies unsigned by signed
 * bytes and saturates the sum of two products at 32767; then i16 products are faster. */
static bool dot_is_fast(void) {
  volatile int8_t outside = -1; /* as an unsigned byte 255 */
  v128_t seven_bits = wasm_i8x16_splat(127);
  v128_t found = dot_add(seven_bits, wasm_i8x16_splat(outside), wasm_i32x4_splat(0));
  return wasm_i32x4_extract_lane(found, 0) != 2 * 32767;
}

/* Whether the dot product is exact where it has to be: in the baseline compiler of Node 20, which
 * has relaxed SIMD behind a flag, it is not. One strip of one block is multiplied and compared
 * with its sums. */
static bool dot_is_exact(void) {
  uint8_t strip[SCALE_BYTES + PACKED_COLUMNS / 4 * GROUP_BYTES];
  int16_t values[PACKED_COLUMNS];
  uint8_t parts[PACKED_COLUMNS / 4 * PART_BYTES];
  int32_t corrections[PACKED_COLUMNS / PACKED_HALF];
  int32_t expected[PACKED_ROWS] = {0};
  float found[PACKED_ROWS];
  /* The function that the table will have, not a copy that was inlined here. */
  void (*volatile decode)(const uint8_t *, const packed_activations *, float *) =
      packed_decode_I8;
  float scale = 1.0f;
  int32_t sum = 0;
  for (int c = 0; c < PACKED_COLUMNS; c++) {
    int x = (c * 2731 % 401 - 200) * 81;
    values[(c & ~3) | (c & 1) << 1 | (c >> 1 & 1)] = (int16_t)x;
    sum += x;
    for (int r = 0; r < PACKED_ROWS; r++) {
      int weight = (c * 37 + r * 91) % 255 - 127;
      strip[SCALE_BYTES + (size_t)(c / 4 * GROUP_BYTES + r * 4 + c % 4)] = (uint8_t)weight;
      expected[r] += weight * x;
    }
  }
  for (size_t r = 0; r < PACKED_ROWS; r++) memcpy(strip + r * sizeof scale, &scale, sizeof scale);
  packed_activations x = {PACKED_COLUMNS, values, &scale, &sum, parts, corrections};
  packed_split_relaxed(values, PACKED_COLUMNS, parts, corrections);
  decode(strip, &x, found);
  for (size_t r = 0; r < PACKED_ROWS; r++) {
    if (found[r] != (float)expected[r]) return false;
  }
  return true;
}

void kernels_fill_relaxed_decode(kernel_table *table) {
  if (!dot_is_exact()) return;
  table->packed_split = packed_split_relaxed;
#define X(form) table->packed_decode[PACKED_##form] = packed_decode_##form;
  PACKED_FORM_LIST(X)
#undef X
}

void kernels_fill_relaxed_packed(kernel_table *table) {
  if (dot_is_fast()) kernels_fill_relaxed_decode(table);
}
