/* The vectors of codes that a tile multiplies: a unit's planes, 4 rows × 4 columns at a time, taken
 * apart by shifts and masks. */
#ifndef ONEKV_PACKED_CODES_H
#define ONEKV_PACKED_CODES_H

#include "core/kernels/packed.h"
#include "core/kernels/simd128_convert.h"

enum {
  VECTORS = PACKED_ROWS / 4, /* of a column group */
  GROUPS = 4,                /* of a unit */
  GROUP_BYTES = 16 * VECTORS,
  TILE_ROWS_MAX = 6
};

typedef enum packed_way { WAY_PAIRS, WAY_SHORTS, WAY_DOT } packed_way;

/* Constants at every call: what a tile's loops are built for. */
typedef struct tile_shape {
  packed_way way;
  packed_form form;
  packed_geometry g; /* the form's */
  size_t n_rows;    /* of activations */
  size_t n_vectors; /* of 4 rows of weights */
  int flip;         /* DOT: 128 if bytes are taken as unsigned; 8-bit codes get it added */
} tile_shape;

/* Numbers that a tile's loops need. They are loaded, each into all lanes of 32 bits: what an engine
 * knows to be constant, V8 builds anew by three or four instructions every time it comes by. */
typedef struct tile_constants {
  uint32_t half, pair, bit; /* masks of the planes */
  uint32_t flip;            /* DOT: 128 in each byte */
  uint32_t start[2];        /* i16: -middle; the second where bytes are taken as unsigned */
  uint32_t odd;             /* PAIRS: high bytes */
  uint32_t one;             /* i16 */
  uint32_t half_bits, half_scale; /* load_halves */
  uint8_t rows[16]; /* one bit: four times each of four rows' bytes */
} tile_constants;

#define TWICE(i16) (((uint32_t)(i16) & 0xffffu) * 0x00010001u)
#define PAIR_SHIFT(bits) ((bits) & 4 ? 4 : 0)
static const tile_constants TILE_CONSTANTS[PACKED_FORM_COUNT] = {
#define X(type, columns, bits, values, middle, ...)                                  \
  [PACKED_##type] = {                                                                \
      .half = 0x0f0f0f0f,                                                            \
      .pair = (bits) == 1 ? 0x02020202u : 0x03030303u << PAIR_SHIFT(bits),           \
      .bit = (bits) == 1 ? 0x10080402u : 0x01010101u << (PAIR_SHIFT(bits) + ((bits) & 2)), \
      .flip = 0x80808080u,                                                           \
      .start = {TWICE(-(middle)), TWICE(-128)},                                      \
      .odd = 0xff00ff00u,                                                            \
      .one = 0x00010001u,                                                            \
      .half_bits = 0x8fffe000u,                                                      \
      .half_scale = 0x77800000u, /* 2^112 */                                         \
      .rows = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}},
    PACKED_FORM_LIST(X)
#undef X
};

typedef struct tile_numbers {
  v128_t half, pair, bit, rows, flip, start, odd, one, half_bits, half_scale;
} tile_numbers;

SIMD_INLINE tile_numbers tile_numbers_of(const packed_form form, const int flip) {
  const tile_constants *of = simd_hide(&TILE_CONSTANTS[form]);
  return (tile_numbers){.half = wasm_v128_load32_splat(&of->half),
                        .pair = wasm_v128_load32_splat(&of->pair),
                        .bit = wasm_v128_load32_splat(&of->bit),
                        .rows = wasm_v128_load(of->rows),
                        .flip = wasm_v128_load32_splat(&of->flip),
                        .start = wasm_v128_load32_splat(&of->start[flip != 0]),
                        .odd = wasm_v128_load32_splat(&of->odd),
                        .one = wasm_v128_load32_splat(&of->one),
                        .half_bits = wasm_v128_load32_splat(&of->half_bits),
                        .half_scale = wasm_v128_load32_splat(&of->half_scale)};
}

/* Indices are below 16. */
#if defined(__wasm_relaxed_simd__)
#define table_lookup(table, indices) wasm_i8x16_relaxed_swizzle(table, indices)
#else
#define table_lookup(table, indices) wasm_i8x16_swizzle(table, indices)
#endif

/* Groups that a rolled loop goes through, a plane's vectors each time: the other groups of a unit
 * stand in the same bytes. With planes that hold all groups nothing is rolled. */
SIMD_INLINE size_t groups_rolled(const packed_geometry g) {
  return g.bits == 8 ? 4 : g.bits == 4 ? 2 : 1;
}

/* Group k of vector `first` + v of a unit, or as many groups behind it as `unit` is planes' vectors
 * (groups_rolled) behind the unit's start. */
SIMD_INLINE v128_t unit_codes(const tile_shape tile, const tile_numbers *numbers,
                              const uint8_t *unit, size_t first, const size_t k, const size_t v) {
  const size_t bits = tile.g.bits;
  const uint8_t *plane = unit + 16 * (first + v);
  if (bits == 1) {
    v128_t all = wasm_v128_load32_splat(unit + k / 2 * PACKED_ROWS + 4 * (first + v));
    all = table_lookup(all, numbers->rows);
    all = k % 2 == 0 ? wasm_i16x8_shl(all, 1) : wasm_u16x8_shr(all, 3);
    return wasm_u8x16_min(wasm_v128_and(all, numbers->bit), numbers->pair); /* 0 or 2 */
  }
  if (bits & 8) {
    v128_t codes = wasm_v128_load(plane);
    return tile.flip != 0 ? wasm_v128_xor(codes, numbers->flip) : codes;
  }
  v128_t codes = wasm_i8x16_splat(0);
  size_t shift = 0; /* of the next plane's bits */
  if (bits & 4) {
    v128_t both = wasm_v128_load(plane + k % 2 * GROUP_BYTES);
    codes = wasm_v128_and(k >= 2 ? wasm_u16x8_shr(both, 4) : both, numbers->half);
    plane += 2 * GROUP_BYTES;
    shift = 4;
  }
  if (bits & 2) {
    v128_t all = wasm_v128_load(plane);
    if (shift > 2 * k) all = wasm_i16x8_shl(all, (uint32_t)(shift - 2 * k));
    if (shift < 2 * k) all = wasm_u16x8_shr(all, (uint32_t)(2 * k - shift));
    all = wasm_v128_and(all, numbers->pair);
    codes = bits & 4 ? wasm_v128_or(codes, all) : all;
    plane += GROUP_BYTES;
    shift += 2;
  }
  if (bits & 1) {
    const uint8_t *place = plane - 16 * (first + v) + 16 * (v % 2);
    /* Kept from the compiler, which would make of two shifts one by different amounts, lane by
     * lane: a tenth of the speed. */
    uint32_t down = (uint32_t)(2 * first + v / 2 * 4);
    __asm__("" : "+r"(down));
    v128_t all = wasm_u16x8_shr(wasm_v128_load(place), down);
    if (shift > k) all = wasm_i16x8_shl(all, (uint32_t)(shift - k));
    if (shift < k) all = wasm_u16x8_shr(all, (uint32_t)(k - shift));
    all = wasm_v128_and(all, numbers->bit);
    codes = wasm_v128_or(codes, all);
  }
  if (tile.g.values != VALUES_CODES) {
    codes = table_lookup(wasm_v128_load(PACKED_VALUES[tile.g.values]), codes);
    if (tile.flip != 0) codes = wasm_v128_xor(codes, numbers->flip);
  }
  return codes;
}

#endif
