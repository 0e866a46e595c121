/* Integer products, SIMD: the bits of packed_scalar.c.
 *
 * A vector of weights is 4 rows × 4 columns. Its odd and its even bytes become i16 lanes, two of a
 * row side by side, and i16 × i16 -> i32 sums the pairs: exact, and as fast in V8 as the relaxed
 * dot product of bytes when several tokens share the widening. One build serves simd128 and
 * relaxed. The loop over column groups stays rolled: unrolled, V8 runs out of registers and
 * spills its operands, at a third of the speed. */
#include <math.h>

#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

enum {
  VECTORS = PACKED_ROWS / 4, /* of a column group */
  GROUP_BYTES = 16 * VECTORS,
  SCALE_BYTES = PACKED_ROWS * sizeof(float),
  /* 6 tokens × 8 rows: 12 sums, 4 weights. 4 × 8 has 0.85 of its speed, 3 × 16 0.75. */
  TILE_TOKENS = 6,
  TILE_VECTORS = 2
};

/* --- activations --------------------------------------------------------------------------- */

static void packed_encode_simd128(const float *x, size_t n_columns, int limit,
                                  int16_t *values, float *scales, int32_t *sums) {
  const v128_t magnitude = wasm_i32x4_splat(0x7fffffff);
  const v128_t highest = wasm_f32x4_splat((float)limit);
  const v128_t lowest = wasm_f32x4_neg(highest);
  const v128_t ones = wasm_i16x8_splat(1);
  for (size_t b = 0; b < n_columns / PACKED_COLUMNS; b++) {
    /* Bits of magnitudes are in the order of the numbers, infinity and NaN above them. */
    v128_t largest = wasm_i32x4_splat(0);
    for (size_t c = 0; c < PACKED_COLUMNS; c += LANES) {
      v128_t bits = wasm_v128_and(wasm_v128_load(x + c), magnitude);
      largest = wasm_i32x4_max(largest, bits);
    }
    largest = wasm_i32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 2, 3, 0, 1));
    largest = wasm_i32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 1, 0, 3, 2));
    float scale = wasm_f32x4_extract_lane(largest, 0) / (float)limit;
    bool usable = scale > 0.0f && isfinite(scale);
    scales[b] = scale;
    const v128_t divisor = wasm_f32x4_splat(usable ? scale : 1.0f);
    v128_t sum = wasm_i32x4_splat(0);
    for (size_t c = 0; c < PACKED_COLUMNS; c += 2 * LANES) {
      v128_t codes[2];
      for (size_t i = 0; i < 2; i++) {
        v128_t value = wasm_v128_load(x + c + i * LANES);
        v128_t code = wasm_f32x4_nearest(wasm_f32x4_div(value, divisor));
        code = wasm_f32x4_pmin(highest, wasm_f32x4_pmax(lowest, code));
        codes[i] = usable ? wasm_i32x4_trunc_sat_f32x4(code) : wasm_i32x4_splat(0);
      }
      v128_t shorts = wasm_i16x8_narrow_i32x4(codes[0], codes[1]);
      sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(shorts, ones));
      wasm_v128_store(values + c, wasm_i16x8_shuffle(shorts, shorts, 0, 2, 1, 3, 4, 6, 5, 7));
    }
    sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 2, 3, 0, 1));
    sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 1, 0, 3, 2));
    sums[b] = wasm_i32x4_extract_lane(sum, 0);
    x += PACKED_COLUMNS;
    values += PACKED_COLUMNS;
  }
}

/* --- products ------------------------------------------------------------------------------ */

/* sums[t][v] += the products of 4 columns: even and odd bytes of weights, widened. */
SIMD_INLINE void add_products(const v128_t even[VECTORS], const v128_t odd[VECTORS],
                              const int16_t *x, size_t n_columns, const size_t n_tokens,
                              const size_t n_vectors, v128_t sums[TILE_TOKENS][VECTORS]) {
  for (size_t t = 0; t < n_tokens; t++) {
    v128_t first = wasm_v128_load32_splat(x + t * n_columns);
    v128_t second = wasm_v128_load32_splat(x + t * n_columns + 2);
    for (size_t v = 0; v < n_vectors; v++) {
      sums[t][v] = wasm_i32x4_add(sums[t][v], wasm_i32x4_dot_i16x8(even[v], first));
    }
    for (size_t v = 0; v < n_vectors; v++) {
      sums[t][v] = wasm_i32x4_add(sums[t][v], wasm_i32x4_dot_i16x8(odd[v], second));
    }
  }
}

/* int8: groups of 4 columns, one after the other. */
SIMD_INLINE void add_bytes(const uint8_t *bytes, const size_t n_groups, const int16_t *x,
                           size_t n_columns, const size_t n_tokens, const size_t n_vectors,
                           v128_t sums[TILE_TOKENS][VECTORS]) {
  ROLLED for (size_t g = 0; g < n_groups; g++) {
    v128_t even[VECTORS];
    v128_t odd[VECTORS];
    for (size_t v = 0; v < n_vectors; v++) {
      v128_t both = wasm_v128_load(bytes + 16 * v);
      even[v] = wasm_i16x8_shr(wasm_i16x8_shl(both, 8), 8);
      odd[v] = wasm_i16x8_shr(both, 8);
    }
    add_products(even, odd, x, n_columns, n_tokens, n_vectors, sums);
    bytes += GROUP_BYTES;
    x += 4;
  }
}

/* 4 bits: group g in the low halves, group g + 4 in the high ones. Shifts need no constants,
 * which V8 would make anew each time. */
SIMD_INLINE void add_nibbles(const uint8_t *bytes, const int16_t *x, size_t n_columns,
                             const size_t n_tokens, const size_t n_vectors,
                             v128_t sums[TILE_TOKENS][VECTORS]) {
  ROLLED for (size_t g = 0; g < 4; g++) {
    v128_t even[VECTORS];
    v128_t odd[VECTORS];
    for (size_t v = 0; v < n_vectors; v++) {
      v128_t both = wasm_v128_load(bytes + 16 * v);
      even[v] = wasm_u16x8_shr(wasm_i16x8_shl(both, 12), 12);
      odd[v] = wasm_u16x8_shr(wasm_i16x8_shl(both, 4), 12);
    }
    add_products(even, odd, x, n_columns, n_tokens, n_vectors, sums);
    for (size_t v = 0; v < n_vectors; v++) {
      v128_t both = wasm_v128_load(bytes + 16 * v);
      even[v] = wasm_u16x8_shr(wasm_i16x8_shl(both, 8), 12);
      odd[v] = wasm_u16x8_shr(both, 12);
    }
    add_products(even, odd, x + 16, n_columns, n_tokens, n_vectors, sums);
    bytes += GROUP_BYTES;
    x += 4;
  }
}

/* y[n_tokens][4 · n_vectors] of one tile. `strip` and y start at the tile's first row, x at its
 * first token. Form and counts are constants at every call. */
SIMD_INLINE void packed_tile(const packed_form form, const uint8_t *strip,
                             const packed_activations *x, size_t token, const size_t n_tokens,
                             const size_t n_vectors, float *y, size_t y_stride) {
  const bool has_nibbles = form == PACKED_U4 || form == PACKED_U4_MIN;
  const bool has_minimum = form == PACKED_I8_MIN || form == PACKED_U4_MIN;
  const size_t n_parts = form == PACKED_I8_HALVES ? 2 : 1;
  const size_t head_bytes = (has_minimum ? 2u : 1u) * SCALE_BYTES;
  const size_t n_groups = has_nibbles ? 4 : 8 / n_parts;
  const size_t n_blocks = x->n_columns / PACKED_COLUMNS;
  const int16_t *values = x->values + token * x->n_columns;
  const float *scales = x->scales + token * n_blocks;
  const int32_t *x_sums = x->sums + token * n_blocks;
  v128_t totals[TILE_TOKENS][VECTORS];
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t v = 0; v < n_vectors; v++) totals[t][v] = wasm_f32x4_splat(0.0f);
  }
  for (size_t b = 0; b < n_blocks; b++) {
    for (size_t part = 0; part < n_parts; part++) {
      v128_t sums[TILE_TOKENS][VECTORS];
      for (size_t t = 0; t < n_tokens; t++) {
        v128_t start = wasm_i32x4_splat(form == PACKED_U4 ? -8 * x_sums[t * n_blocks + b] : 0);
        for (size_t v = 0; v < n_vectors; v++) sums[t][v] = start;
      }
      const uint8_t *bytes = strip + head_bytes;
      if (has_nibbles) {
        add_nibbles(bytes, values, x->n_columns, n_tokens, n_vectors, sums);
      } else {
        add_bytes(bytes, n_groups, values, x->n_columns, n_tokens, n_vectors, sums);
      }
      for (size_t t = 0; t < n_tokens; t++) {
        v128_t scale = wasm_v128_load32_splat(scales + t * n_blocks + b);
        v128_t x_sum = wasm_f32x4_splat((float)x_sums[t * n_blocks + b]);
        for (size_t v = 0; v < n_vectors; v++) {
          v128_t factor = wasm_f32x4_mul(wasm_v128_load(strip + 16 * v), scale);
          v128_t product = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sums[t][v]), factor);
          totals[t][v] = wasm_f32x4_add(totals[t][v], product);
          if (!has_minimum) continue;
          v128_t minimum = wasm_v128_load(strip + SCALE_BYTES + 16 * v);
          product = wasm_f32x4_mul(minimum, wasm_f32x4_mul(x_sum, scale));
          totals[t][v] = wasm_f32x4_add(totals[t][v], product);
        }
      }
      strip += head_bytes + n_groups * GROUP_BYTES;
      values += PACKED_COLUMNS / n_parts;
    }
  }
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t v = 0; v < n_vectors; v++) {
      wasm_v128_store(y + t * y_stride + 4 * v, totals[t][v]);
    }
  }
}

/* Tokens from `t` on in tiles of n_tokens × 4 · n_vectors, as far as they go; gives the next. */
SIMD_INLINE size_t packed_tiles(const packed_form form, const uint8_t *strip,
                                const packed_activations *x, size_t t, size_t n_all,
                                const size_t n_tokens, const size_t n_vectors, float *y,
                                size_t y_stride) {
  for (; t + n_tokens <= n_all; t += n_tokens) {
    for (size_t v = 0; v < VECTORS; v += n_vectors) {
      packed_tile(form, strip + 16 * v, x, t, n_tokens, n_vectors, y + t * y_stride + 4 * v,
                  y_stride);
    }
  }
  return t;
}

#define X(form)                                                                               \
  static void packed_matmul_##form(const uint8_t *strip, const packed_activations *x,         \
                                   size_t n_tokens, int32_t *starts, float *y,                \
                                   size_t y_stride) {                                         \
    (void)starts;                                                                             \
    size_t t = 0;                                                                             \
    t = packed_tiles(PACKED_##form, strip, x, t, n_tokens, TILE_TOKENS, TILE_VECTORS, y,      \
                     y_stride);                                                               \
    t = packed_tiles(PACKED_##form, strip, x, t, n_tokens, 4, TILE_VECTORS, y, y_stride);     \
    t = packed_tiles(PACKED_##form, strip, x, t, n_tokens, 2, VECTORS, y, y_stride);          \
    packed_tiles(PACKED_##form, strip, x, t, n_tokens, 1, VECTORS, y, y_stride);              \
  }
PACKED_FORM_LIST(X)
#undef X

void kernels_fill_simd128_packed(kernel_table *table) {
  table->packed_encode = packed_encode_simd128;
#define X(form) table->packed_matmul[PACKED_##form] = packed_matmul_##form;
  PACKED_FORM_LIST(X)
#undef X
}
