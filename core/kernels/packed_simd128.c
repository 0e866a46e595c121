/* Integer products, SIMD: the bits of packed_scalar.c, by i16 pairs (packed_tile.h). One build
 * serves simd128 and, where bytes have no exact instruction, relaxed. */
#include <math.h>

#include "core/kernels/packed_tables.h"
#include "core/kernels/packed_tile.h"

/* --- activations --------------------------------------------------------------------------- */

/* 16 values of one row into its arrays. */
SIMD_INLINE void put_unit(const packed_activations *out, size_t row, size_t c, v128_t first,
                          v128_t second) {
  const v128_t ones = wasm_i16x8_splat(1);
  const size_t place = row * out->n_columns + c;
  const size_t unit = place / PACKED_UNIT;
  wasm_v128_store(out->values + place, wasm_i8x16_narrow_i16x8(first, second));
  wasm_v128_store(out->wide + place, wasm_i16x8_shuffle(first, first, 0, 2, 1, 3, 4, 6, 5, 7));
  wasm_v128_store(out->wide + place + 8,
                  wasm_i16x8_shuffle(second, second, 0, 2, 1, 3, 4, 6, 5, 7));
  v128_t pairs = wasm_i32x4_add(wasm_i32x4_dot_i16x8(first, ones),
                                wasm_i32x4_dot_i16x8(second, ones));
  pairs = wasm_i32x4_add(pairs, wasm_i32x4_shuffle(pairs, pairs, 2, 3, 0, 1));
  int32_t low = wasm_i32x4_extract_lane(pairs, 0);
  int32_t high = wasm_i32x4_extract_lane(pairs, 1);
  out->pairs[2 * unit] = (int16_t)low;
  out->pairs[2 * unit + 1] = (int16_t)high;
  int32_t before = unit % 2 == 0 ? 0 : out->sums[unit / 2];
  out->sums[unit / 2] = (int16_t)(before + low + high);
}

void packed_encode_simd128(const float *x, size_t token, const packed_activations *out) {
  const v128_t magnitude = wasm_i32x4_splat(0x7fffffff);
  const float limit = (float)packed_limit(out->rows_per_token);
  const v128_t highest = wasm_f32x4_splat(limit);
  const v128_t lowest = wasm_f32x4_neg(highest);
  const size_t n_blocks = out->n_columns / out->block_columns;
  const size_t row = token * out->rows_per_token;
  for (size_t b = 0; b < n_blocks; b++) {
    const size_t start = b * out->block_columns;
    /* Bits of magnitudes are in the order of the numbers, infinity and NaN above them. */
    v128_t largest = wasm_i32x4_splat(0);
    for (size_t c = start; c < start + out->block_columns; c += LANES) {
      v128_t bits = wasm_v128_and(wasm_v128_load(x + c), magnitude);
      largest = wasm_i32x4_max(largest, bits);
    }
    largest = wasm_i32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 2, 3, 0, 1));
    largest = wasm_i32x4_max(largest, wasm_i32x4_shuffle(largest, largest, 1, 0, 3, 2));
    float scale = wasm_f32x4_extract_lane(largest, 0) / limit;
    bool usable = scale > 0.0f && isfinite(scale);
    if (out->rows_per_token == 2) out->scales[(row + 1) * n_blocks + b] = scale;
    out->scales[row * n_blocks + b] = out->rows_per_token == 2 ? 128.0f * scale : scale;
    const v128_t divisor = wasm_f32x4_splat(usable ? scale : 1.0f);
    for (size_t c = start; c < start + out->block_columns; c += PACKED_UNIT) {
      v128_t codes[PACKED_UNIT / LANES];
      for (size_t i = 0; i < PACKED_UNIT / LANES; i++) {
        v128_t value = wasm_v128_load(x + c + i * LANES);
        v128_t code = wasm_f32x4_nearest(wasm_f32x4_div(value, divisor));
        code = wasm_f32x4_pmin(highest, wasm_f32x4_pmax(lowest, code));
        codes[i] = usable ? wasm_i32x4_trunc_sat_f32x4(code) : wasm_i32x4_splat(0);
      }
      v128_t first = wasm_i16x8_narrow_i32x4(codes[0], codes[1]);
      v128_t second = wasm_i16x8_narrow_i32x4(codes[2], codes[3]);
      if (out->rows_per_token == 1) {
        put_unit(out, row, c, first, second);
        continue;
      }
      const v128_t half = wasm_i16x8_splat(64);
      v128_t high[2] = {wasm_i16x8_shr(wasm_i16x8_add(first, half), 7),
                        wasm_i16x8_shr(wasm_i16x8_add(second, half), 7)};
      put_unit(out, row, c, high[0], high[1]);
      put_unit(out, row + 1, c, wasm_i16x8_sub(first, wasm_i16x8_shl(high[0], 7)),
               wasm_i16x8_sub(second, wasm_i16x8_shl(high[1], 7)));
    }
  }
  for (size_t i = 0; i < out->rows_per_token; i++) packed_tables_make(out, row + i);
}

/* --- products ------------------------------------------------------------------------------ */

/* In the relaxed module, codes of up to 7 bits come by here only in an engine whose relaxed dot
 * product is wrong (packed_relaxed.c); tiles of one row do for that, and save a tenth of it. */
#if defined(__wasm_relaxed_simd__)
enum { SHORTS_ARE_BESIDE = 1 };
#else
enum { SHORTS_ARE_BESIDE = 0 };
#endif

/* 4 × 8: 8 sums, 4 weights. */
#define X(type, ...)                                                                            \
  static void packed_matmul_##type(const uint8_t *strip, const packed_activations *x,           \
                                   size_t n_rows, float *y, size_t y_stride) {                  \
    size_t t = packed_tables_tried(PACKED_##type, strip, x, n_rows, y, y_stride);               \
    if (!SHORTS_ARE_BESIDE || packed_is_signed(PACKED_GEOMETRY[PACKED_##type])) {               \
      t = packed_tiles(WAY_PAIRS, PACKED_##type, 0, 6, 2, strip, x, t, n_rows, y, y_stride);    \
      t = packed_tiles(WAY_PAIRS, PACKED_##type, 0, 2, 4, strip, x, t, n_rows, y, y_stride);    \
    }                                                                                           \
    packed_tiles(WAY_PAIRS, PACKED_##type, 0, 1, 4, strip, x, t, n_rows, y, y_stride);          \
  }
PACKED_FORM_LIST(X)
#undef X

void kernels_fill_simd128_packed(kernel_table *table) {
  table->packed_encode = packed_encode_simd128;
#define X(type, ...) table->packed_matmul[PACKED_##type] = packed_matmul_##type;
  PACKED_FORM_LIST(X)
#undef X
}
