/* Integer products by the relaxed dot product of bytes: the bits of packed_scalar.c.
 *
 * i32x4.relaxed_dot_i8x16_i7x16 takes bytes of its second operand that are outside 0 to 127 as the
 * processor does: as signed ones (ARM), as unsigned ones (x86 with VNNI), or with sums that
 * saturate (x86 without). The first two are exact for all bytes once it is known which of them it
 * is, and that is asked for, not assumed. An activation is one signed byte, or two: 256 · h + l.
 * Where bytes are taken as unsigned they are stored with 128 added, and every sum of w · byte is
 * 128 · sum w too large. That does not depend on x: the sums start that much lower. */
#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

#include <string.h>

#if defined(__wasm_relaxed_simd__)
enum { DOT_IS_ONE_INSTRUCTION = 1 };
#define dot_add(a, b, c) wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, c)
#else
/* For tests of this file where there is no such instruction: bytes of b are unsigned. */
enum { DOT_IS_ONE_INSTRUCTION = 0 };
SIMD_INLINE v128_t dot_add(v128_t a, v128_t b, v128_t c) {
  v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(a),
                                    wasm_u16x8_extend_low_u8x16(b));
  v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(a),
                                     wasm_u16x8_extend_high_u8x16(b));
  v128_t sum = wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6),
                              wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
  return wasm_i32x4_add(sum, c);
}
#endif

enum {
  VECTORS = PACKED_ROWS / 4, /* of a column group */
  GROUP_BYTES = 16 * VECTORS,
  SCALE_BYTES = PACKED_ROWS * sizeof(float),
  /* 6 operands × 8 rows: 12 sums, 2 weights and an operand fit the 15 registers that V8 gives. */
  OPERANDS_MAX = 6,
  FIRST_OPERANDS = 4, /* beside 2 sums of weights */
  TILE_VECTORS = 2
};

/* Constants at every call: what a tile's loops are built for. */
typedef struct tile_shape {
  packed_form form;
  size_t n_tokens;
  size_t value_bytes; /* 1 or 2: operands of a token */
  size_t n_vectors;   /* of 4 rows */
  bool counts;        /* sums of the weights as well */
} tile_shape;

typedef v128_t tile_sums[OPERANDS_MAX + 1][VECTORS];

SIMD_INLINE bool has_nibbles(const packed_form form) {
  return form == PACKED_U4 || form == PACKED_U4_MIN;
}

SIMD_INLINE bool has_minimum(const packed_form form) {
  return form == PACKED_I8_MIN || form == PACKED_U4_MIN;
}

/* Parts of a block that have scales of their own, their groups in memory, and what is before. */
SIMD_INLINE size_t parts_of(const packed_form form) { return form == PACKED_I8_HALVES ? 2 : 1; }

SIMD_INLINE size_t groups_of(const packed_form form) {
  return has_nibbles(form) || form == PACKED_I8_HALVES ? 4 : 8;
}

SIMD_INLINE size_t head_bytes_of(const packed_form form) {
  return (has_minimum(form) ? 2u : 1u) * SCALE_BYTES;
}

/* --- activations --------------------------------------------------------------------------- */

/* Values to bytes: of 4 columns the 4 high ones, if there are any, then the 4 low ones. */
static void packed_split_relaxed(const int16_t *values, size_t n_columns, size_t value_bytes,
                                 uint8_t offset, uint8_t *bytes) {
  const v128_t offsets = wasm_i8x16_splat((int8_t)offset);
  const v128_t low_byte = wasm_i16x8_splat(255);
  for (size_t c = 0; c < n_columns; c += 8, values += 8, bytes += 8 * value_bytes) {
    v128_t x = wasm_v128_load(values);
    x = wasm_i16x8_shuffle(x, x, 0, 2, 1, 3, 4, 6, 5, 7);
    /* x = 256 · h + l, l from -128 to 127: its low byte. */
    v128_t low = wasm_v128_and(x, low_byte);
    v128_t high = wasm_i16x8_shr(wasm_i16x8_add(x, wasm_i16x8_splat(128)), 8);
    v128_t lows = wasm_u8x16_narrow_i16x8(low, low);
    v128_t highs = wasm_i8x16_narrow_i16x8(high, high);
    if (value_bytes == 1) {
      wasm_v128_store64_lane(bytes, wasm_v128_xor(lows, offsets), 0);
    } else {
      v128_t both = wasm_i32x4_shuffle(highs, lows, 0, 4, 1, 5);
      wasm_v128_store(bytes, wasm_v128_xor(both, offsets));
    }
  }
}

/* --- products ------------------------------------------------------------------------------ */

/* Adds the products of 4 columns; sums of weights are those with an operand of ones. */
SIMD_INLINE void add_products(const tile_shape tile, const v128_t weights[VECTORS],
                              const uint8_t *bytes, size_t token_bytes, tile_sums sums) {
  const v128_t ones = wasm_i8x16_splat(1);
  for (size_t t = 0; t < tile.n_tokens; t++) {
    for (size_t k = 0; k < tile.value_bytes; k++) {
      v128_t x = wasm_v128_load32_splat(bytes + t * token_bytes + 4 * k);
      v128_t *sum = sums[t * tile.value_bytes + k];
      for (size_t v = 0; v < tile.n_vectors; v++) sum[v] = dot_add(weights[v], x, sum[v]);
    }
  }
  for (size_t v = 0; tile.counts && v < tile.n_vectors; v++) {
    sums[OPERANDS_MAX][v] = dot_add(weights[v], ones, sums[OPERANDS_MAX][v]);
  }
}

/* The groups of one part of a block. The loop stays rolled: unrolled, V8 spills its operands. */
SIMD_INLINE void add_part(const tile_shape tile, const uint8_t *weights, const uint8_t *bytes,
                          size_t token_bytes, tile_sums sums) {
  const v128_t low_half = wasm_i8x16_splat(15);
  ROLLED for (size_t g = 0; g < groups_of(tile.form); g++) {
    v128_t w[VECTORS];
    for (size_t v = 0; v < tile.n_vectors; v++) {
      w[v] = wasm_v128_load(weights + 16 * v);
      if (has_nibbles(tile.form)) w[v] = wasm_v128_and(w[v], low_half);
    }
    add_products(tile, w, bytes, token_bytes, sums);
    if (has_nibbles(tile.form)) {
      for (size_t v = 0; v < tile.n_vectors; v++) {
        w[v] = wasm_u16x8_shr(wasm_v128_load(weights + 16 * v), 4);
        w[v] = wasm_v128_and(w[v], low_half);
      }
      add_products(tile, w, bytes + 16 * tile.value_bytes, token_bytes, sums);
    }
    weights += GROUP_BYTES;
    bytes += 4 * tile.value_bytes;
  }
}

/* Where token t's low bytes are summed; its high ones, if there are any, one before. */
SIMD_INLINE size_t low_of(const tile_shape tile, size_t t) {
  return t * tile.value_bytes + tile.value_bytes - 1;
}

SIMD_INLINE void begin_part(const tile_shape tile, const int32_t *starts, tile_sums sums) {
  for (size_t v = 0; v < tile.n_vectors; v++) {
    v128_t start = tile.counts ? wasm_i32x4_splat(0) : wasm_v128_load(starts + 4 * v);
    for (size_t t = 0; t < tile.n_tokens; t++) {
      sums[low_of(tile, t)][v] = start;
      if (tile.value_bytes == 2) sums[2 * t][v] = wasm_i32x4_splat(0);
    }
    sums[OPERANDS_MAX][v] = wasm_i32x4_splat(0);
  }
}

/* y[t] += the sums, scaled. Token t's scales and sums stand at t · n_blocks. */
SIMD_INLINE void end_part(const tile_shape tile, const uint8_t *strip, tile_sums sums,
                          const float *scales, const int32_t *x_sums, size_t n_blocks, float *y,
                          size_t y_stride) {
  for (size_t t = 0; t < tile.n_tokens; t++, y += y_stride) {
    v128_t scale = wasm_v128_load32_splat(scales + t * n_blocks);
    int32_t x_sum = x_sums[t * n_blocks];
    for (size_t v = 0; v < tile.n_vectors; v++) {
      v128_t sum = sums[low_of(tile, t)][v];
      if (tile.value_bytes == 2) sum = wasm_i32x4_add(sum, wasm_i32x4_shl(sums[2 * t][v], 8));
      if (tile.form == PACKED_U4) sum = wasm_i32x4_sub(sum, wasm_i32x4_splat(8 * x_sum));
      v128_t factor = wasm_f32x4_mul(wasm_v128_load(strip + 16 * v), scale);
      v128_t total = wasm_v128_load(y + 4 * v);
      total = wasm_f32x4_add(total, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum), factor));
      if (has_minimum(tile.form)) {
        v128_t minimum = wasm_v128_load(strip + SCALE_BYTES + 16 * v);
        v128_t scaled = wasm_f32x4_mul(wasm_f32x4_splat((float)x_sum), scale);
        total = wasm_f32x4_add(total, wasm_f32x4_mul(minimum, scaled));
      }
      wasm_v128_store(y + 4 * v, total);
    }
  }
}

/* Takes what they are too large by from the sums, and keeps it for the tokens that follow. */
SIMD_INLINE void correct(const tile_shape tile, int32_t excess, tile_sums sums, int32_t *starts) {
  const v128_t factor = wasm_i32x4_splat(-excess);
  for (size_t v = 0; v < tile.n_vectors; v++) {
    v128_t start = wasm_i32x4_mul(sums[OPERANDS_MAX][v], factor);
    wasm_v128_store(starts + 4 * v, start);
    for (size_t t = 0; t < tile.n_tokens; t++) {
      v128_t *low = &sums[low_of(tile, t)][v];
      *low = wasm_i32x4_add(*low, start);
    }
  }
}

/* y[n_tokens][4 · n_vectors] of one tile; strip, starts and y stand at its first row. The totals
 * stay in y: as variables they would be in registers and the loop's operands in memory. A tile
 * that counts makes the starts [n_columns / 32][parts][16], others read them. */
SIMD_INLINE void packed_tile(const tile_shape tile, const uint8_t *strip,
                             const packed_activations *x, size_t token, int32_t *starts,
                             float *y, size_t y_stride) {
  const size_t n_blocks = x->n_columns / PACKED_COLUMNS;
  const size_t token_bytes = x->n_columns * tile.value_bytes;
  const size_t n_parts = parts_of(tile.form);
  const uint8_t *bytes = x->bytes + token * token_bytes;
  const size_t first = token * n_blocks;
  const int32_t excess = x->offset * (tile.value_bytes == 2 ? 257 : 1);
  for (size_t t = 0; t < tile.n_tokens; t++) {
    for (size_t v = 0; v < tile.n_vectors; v++) {
      wasm_v128_store(y + t * y_stride + 4 * v, wasm_f32x4_splat(0.0f));
    }
  }
  for (size_t i = 0; i < n_blocks * n_parts; i++) {
    tile_sums sums;
    begin_part(tile, starts, sums);
    add_part(tile, strip + head_bytes_of(tile.form), bytes, token_bytes, sums);
    if (tile.counts) correct(tile, excess, sums, starts);
    const size_t b = first + i / n_parts;
    end_part(tile, strip, sums, x->scales + b, x->sums + b, n_blocks, y, y_stride);
    strip += head_bytes_of(tile.form) + groups_of(tile.form) * GROUP_BYTES;
    bytes += PACKED_COLUMNS / n_parts * tile.value_bytes;
    starts += PACKED_ROWS;
  }
}

/* Tokens from `t` on in tiles of that shape, as far as they go; gives the next. */
SIMD_INLINE size_t packed_tiles(const tile_shape tile, const uint8_t *strip,
                                const packed_activations *x, size_t t, size_t n_all,
                                int32_t *starts, float *y, size_t y_stride) {
  for (; t + tile.n_tokens <= n_all; t += tile.n_tokens) {
    for (size_t v = 0; v < VECTORS; v += tile.n_vectors) {
      packed_tile(tile, strip + 16 * v, x, t, starts + 4 * v, y + t * y_stride + 4 * v,
                  y_stride);
    }
  }
  return t;
}

/* y[n_tokens][16], value_bytes and form constant. The first tile counts, so that a strip comes
 * out of memory once. */
SIMD_INLINE void packed_matmul(const packed_form form, const size_t value_bytes,
                               const uint8_t *strip, const packed_activations *x, size_t n_tokens,
                               int32_t *starts, float *y, size_t y_stride) {
  const size_t most = OPERANDS_MAX / value_bytes;
  const size_t some = FIRST_OPERANDS / value_bytes;
  const tile_shape first = {form, some, value_bytes, TILE_VECTORS, true};
  const tile_shape first_pair = {form, 2, value_bytes, TILE_VECTORS, true};
  const tile_shape alone = {form, 1, value_bytes, VECTORS, true};
  const tile_shape largest = {form, most, value_bytes, TILE_VECTORS, false};
  const tile_shape middle = {form, some, value_bytes, TILE_VECTORS, false};
  const tile_shape pair = {form, 2, value_bytes, TILE_VECTORS, false};
  const tile_shape one = {form, 1, value_bytes, VECTORS, false};
  size_t t = 0;
  if (n_tokens >= some) {
    t = packed_tiles(first, strip, x, 0, some, starts, y, y_stride);
  } else if (n_tokens >= 2) {
    t = packed_tiles(first_pair, strip, x, 0, 2, starts, y, y_stride);
  } else {
    t = packed_tiles(alone, strip, x, 0, n_tokens, starts, y, y_stride);
  }
  t = packed_tiles(largest, strip, x, t, n_tokens, starts, y, y_stride);
  t = packed_tiles(middle, strip, x, t, n_tokens, starts, y, y_stride);
  if (some > 2) t = packed_tiles(pair, strip, x, t, n_tokens, starts, y, y_stride);
  packed_tiles(one, strip, x, t, n_tokens, starts, y, y_stride);
}

#define X(form)                                                                               \
  static void packed_matmul_##form(const uint8_t *strip, const packed_activations *x,         \
                                   size_t n_tokens, int32_t *starts, float *y,                \
                                   size_t y_stride) {                                         \
    if (x->value_bytes == 1) {                                                                \
      packed_matmul(PACKED_##form, 1, strip, x, n_tokens, starts, y, y_stride);               \
    } else {                                                                                  \
      packed_matmul(PACKED_##form, 2, strip, x, n_tokens, starts, y, y_stride);               \
    }                                                                                         \
  }
PACKED_FORM_LIST(X)
#undef X

/* --- the choice ---------------------------------------------------------------------------- */

/* Whether the kernels are exact here with that offset: in the baseline compiler of Node 20, which
 * has relaxed SIMD behind a flag, they are not. One strip of one block is multiplied with several
 * rows of activations, in one and in two bytes, and compared with the sums. */
static bool is_exact(uint8_t offset) {
  enum { TOKENS = 7, C = PACKED_COLUMNS };
  uint8_t strip[SCALE_BYTES + C / 4 * GROUP_BYTES];
  int16_t values[TOKENS][C];
  uint8_t bytes[TOKENS * C * 2];
  int32_t starts[2 * PACKED_ROWS];
  float scales[TOKENS];
  int32_t sums[TOKENS] = {0};
  float found[TOKENS][PACKED_ROWS];
  float scale = 1.0f;
  /* The function that the table will have, not a copy that was inlined here. */
  void (*volatile multiply)(const uint8_t *, const packed_activations *, size_t, int32_t *,
                            float *, size_t) = packed_matmul_I8;
  for (size_t r = 0; r < PACKED_ROWS; r++) memcpy(strip + r * sizeof scale, &scale, sizeof scale);
  for (int i = 0; i < C * PACKED_ROWS; i++) strip[SCALE_BYTES + i] = (uint8_t)(i * 91 % 256);
  for (size_t value_bytes = 1; value_bytes <= 2; value_bytes++) {
    packed_activations x = {C, value_bytes, offset, &values[0][0], scales, sums, bytes};
    int range = packed_limit(value_bytes);
    for (int i = 0; i < TOKENS * C; i++) {
      values[i / C][i % C] = (int16_t)(i * 2731 % (2 * range + 1) - range);
      scales[i / C] = 1.0f;
    }
    packed_split_relaxed(&values[0][0], TOKENS * C, value_bytes, offset, bytes);
    for (size_t n_tokens = 1; n_tokens <= TOKENS; n_tokens += TOKENS - 1) {
      multiply(strip, &x, n_tokens, starts, &found[0][0], PACKED_ROWS);
      for (size_t i = 0; i < n_tokens * PACKED_ROWS; i++) {
        int32_t expected = 0;
        for (size_t c = 0; c < C; c++) {
          size_t place = c % 4 == 1 ? c + 1 : c % 4 == 2 ? c - 1 : c;
          size_t weight = SCALE_BYTES + c / 4 * GROUP_BYTES + i % PACKED_ROWS * 4 + c % 4;
          expected += (int8_t)strip[weight] * values[i / PACKED_ROWS][place];
        }
        if (found[i / PACKED_ROWS][i % PACKED_ROWS] != (float)expected) return false;
      }
    }
  }
  return true;
}

void kernels_fill_dot(kernel_table *table) {
  volatile int8_t outside = -1; /* as an unsigned byte 255 */
  v128_t found = dot_add(wasm_i8x16_splat(1), wasm_i8x16_splat(outside), wasm_i32x4_splat(0));
  uint8_t offset = wasm_i32x4_extract_lane(found, 0) > 0 ? 128 : 0;
  if (!is_exact(offset)) return;
  table->packed_offset = offset;
  table->packed_split = packed_split_relaxed;
#define X(form) table->packed_matmul[PACKED_##form] = packed_matmul_##form;
  PACKED_FORM_LIST(X)
#undef X
}

void kernels_fill_relaxed_packed(kernel_table *table) {
  if (DOT_IS_ONE_INSTRUCTION) kernels_fill_dot(table);
}
