/* The SIMD body of the integer products: a tile of a strip's rows and some rows of activations.
 *
 * A vector of codes is 4 rows × 4 columns of bytes, and there are three ways to multiply it:
 *
 *   PAIRS   its even and its odd bytes become the high bytes of i16 lanes, two of a row side by
 *           side, and i16 × i16 -> i32 sums the pairs, 256 times too large; exact everywhere, for
 *           all bytes.
 *   SHORTS  relaxed_dot_i8x16_i7x16: pairs of byte products in i16, which are summed there while
 *           they fit; one i32x4.dot_i16x8 then widens and multiplies them by the parts' scales.
 *           Exact in every engine for codes up to 127, activations being the signed operand.
 *   DOT     relaxed_dot_i8x16_i7x16_add, four byte products in i32: faster where it is one
 *           instruction (ARM, x86 with VNNI), and exact there for all bytes (packed_relaxed.c).
 *
 * They give the same integers. A middle that is taken from the codes is a start of the sums:
 * -middle · (sum of the activations), the same for all rows. Sums in i16 may wrap on the way: what
 * counts is that the whole, at most 8 · 127 · |code - middle| a unit, fits.
 *
 * Loops over units stay rolled: unrolled, V8 runs out of registers and spills its operands. */
#ifndef ONEKV_PACKED_TILE_H
#define ONEKV_PACKED_TILE_H

#include "core/kernels/kernels.h"
#include "core/kernels/packed_codes.h"
#include "core/kernels/simd128_convert.h"

typedef v128_t tile_sums[TILE_ROWS_MAX][VECTORS];

#ifndef PACKED_HAS_DOT
#define packed_dot_shorts(x, w) (x)
#define packed_dot_add(x, w, sum) (sum)
#endif

/* --- products ------------------------------------------------------------------------------ */

/* sums[t][v] += products of a group. `x` is that group of the first row's values, of its wide
 * values for PAIRS. */
SIMD_INLINE void add_group(const tile_shape tile, const tile_numbers *numbers,
                           const v128_t codes[VECTORS], const int8_t *x, const int16_t *wide,
                           size_t n_columns, tile_sums sums) {
  if (tile.way != WAY_PAIRS) {
    for (size_t t = 0; t < tile.n_rows; t++) {
      v128_t values = wasm_v128_load32_splat(x + t * n_columns);
      for (size_t v = 0; v < tile.n_vectors; v++) {
        v128_t *sum = &sums[t][v];
        *sum = tile.way == WAY_DOT ? packed_dot_add(values, codes[v], *sum)
                                   : wasm_i16x8_add(*sum, packed_dot_shorts(values, codes[v]));
      }
    }
    return;
  }
  for (size_t odd = 0; odd < 2; odd++) {
    v128_t w[VECTORS];
    for (size_t v = 0; v < tile.n_vectors; v++) {
      w[v] = odd ? wasm_v128_and(codes[v], numbers->odd) : wasm_i16x8_shl(codes[v], 8);
    }
    for (size_t t = 0; t < tile.n_rows; t++) {
      v128_t values = wasm_v128_load32_splat(wide + t * n_columns + 2 * odd);
      for (size_t v = 0; v < tile.n_vectors; v++) {
        sums[t][v] = wasm_i32x4_add(sums[t][v], wasm_i32x4_dot_i16x8(w[v], values));
      }
    }
  }
}

/* Where the sums of n_units units begin; `pairs` are the first row's, of the first unit. */
SIMD_INLINE void begin_sums(const tile_shape tile, const tile_numbers *numbers,
                            const size_t n_units, const int16_t *pairs, size_t n_columns,
                            tile_sums sums) {
  const int middle = packed_is_signed(tile.g) ? tile.flip : tile.g.middle;
  for (size_t t = 0; t < tile.n_rows; t++) {
    v128_t start = wasm_i32x4_splat(0);
    if (middle != 0) {
      v128_t all = wasm_v128_load32_splat(pairs + t * (n_columns / 8));
      for (size_t u = 1; u < n_units; u++) {
        all = wasm_i16x8_add(all, wasm_v128_load32_splat(pairs + t * (n_columns / 8) + 2 * u));
      }
      if (tile.way == WAY_SHORTS) {
        start = wasm_i16x8_mul(all, numbers->start);
      } else {
        /* Of up to 256 columns: the pairs of 8 units at most fit i16. */
        start = wasm_i32x4_dot_i16x8(all, numbers->start);
        if (tile.way == WAY_PAIRS) start = wasm_i32x4_shl(start, 8);
      }
    }
    for (size_t v = 0; v < tile.n_vectors; v++) sums[t][v] = start;
  }
}

/* Eight scales of part p as i16: those of vectors 2i and 2i + 1. `scales` are the parts'. */
SIMD_INLINE v128_t part_scales(const tile_shape tile, const uint8_t *scales, size_t p,
                               const size_t i) {
  const uint8_t *plane = scales + 8 * i;
  if (tile.g.scales == SCALES_I8) return wasm_i16x8_load8x8(plane + p * PACKED_ROWS);
  if (tile.g.scales == SCALES_U8) return wasm_u16x8_load8x8(plane + p * PACKED_ROWS);
  if (tile.g.scales == SCALES_U4) {
    return wasm_v128_and(wasm_u16x8_load8x8(plane + p * PACKED_ROWS), wasm_i16x8_splat(15));
  }
  v128_t low = wasm_u16x8_load8x8(plane + p % 8 * PACKED_ROWS);
  v128_t high = wasm_u16x8_load8x8(plane + (8 + p % 4) * PACKED_ROWS);
  low = wasm_v128_and(wasm_u16x8_shr(low, (uint32_t)(p / 8 * 4)), wasm_i16x8_splat(15));
  high = wasm_v128_and(wasm_u16x8_shr(high, (uint32_t)(p / 4 * 2)), wasm_i16x8_splat(3));
  return wasm_i16x8_sub(wasm_v128_or(low, wasm_i16x8_shl(high, 4)), wasm_i16x8_splat(32));
}

/* totals[t][v] += the sums times the scales of part p. */
SIMD_INLINE void end_sums(const tile_shape tile, const tile_numbers *numbers,
                          const uint8_t *scales, size_t p, tile_sums sums, tile_sums totals) {
  for (size_t v = 0; v < tile.n_vectors; v++) {
    v128_t factor = numbers->one;
    if (tile.g.scales != SCALES_NONE) {
      v128_t both = part_scales(tile, scales, p, v / 2);
      if (tile.way == WAY_SHORTS) {
        factor = v % 2 == 0 ? wasm_i16x8_shuffle(both, both, 0, 0, 1, 1, 2, 2, 3, 3)
                            : wasm_i16x8_shuffle(both, both, 4, 4, 5, 5, 6, 6, 7, 7);
      } else {
        factor = v % 2 == 0 ? wasm_i32x4_extend_low_i16x8(both)
                            : wasm_i32x4_extend_high_i16x8(both);
      }
    }
    for (size_t t = 0; t < tile.n_rows; t++) {
      v128_t sum = sums[t][v];
      if (tile.way == WAY_PAIRS) sum = wasm_i32x4_shr(sum, 8);
      if (tile.way == WAY_SHORTS) {
        sum = wasm_i32x4_dot_i16x8(sum, factor);
      } else if (tile.g.scales != SCALES_NONE) {
        sum = wasm_i32x4_mul(sum, factor);
      }
      totals[t][v] = wasm_i32x4_add(totals[t][v], sum);
    }
  }
}

/* Eight minima of part p as i16. `scales` are where the parts' begin. */
SIMD_INLINE v128_t part_minima(const tile_shape tile, const uint8_t *scales, size_t p,
                               const size_t i) {
  if (tile.g.scales == SCALES_U8) p += tile.g.columns / tile.g.part_columns;
  v128_t both = wasm_u16x8_load8x8(scales + p * PACKED_ROWS + 8 * i);
  return tile.g.scales == SCALES_U4 ? wasm_u16x8_shr(both, 4) : both;
}

/* sums[t][v] = the parts' minima times the sums of the rows' values; `pairs` and `sums_of` are the
 * first row's at this block. A part of 16 columns has a pair; of 32 columns, two parts meet in one
 * product. */
SIMD_INLINE void sum_minima(const tile_shape tile, const uint8_t *scales, const int16_t *pairs,
                            const int16_t *sums_of, size_t n_columns, tile_sums sums) {
  const size_t n_parts = tile.g.columns / tile.g.part_columns;
  const size_t n_together = tile.g.part_columns / 16;
  for (size_t t = 0; t < tile.n_rows; t++) {
    for (size_t v = 0; v < tile.n_vectors; v++) sums[t][v] = wasm_i32x4_splat(0);
  }
  ROLLED for (size_t p = 0; p < n_parts; p += n_together) {
    for (size_t v = 0; v < tile.n_vectors; v++) {
      v128_t first = part_minima(tile, scales, p, v / 2);
      v128_t second = n_together == 1 ? first : part_minima(tile, scales, p + 1, v / 2);
      v128_t both = v % 2 == 0 ? wasm_i16x8_shuffle(first, second, 0, 8, 1, 9, 2, 10, 3, 11)
                               : wasm_i16x8_shuffle(first, second, 4, 12, 5, 13, 6, 14, 7, 15);
      for (size_t t = 0; t < tile.n_rows; t++) {
        v128_t x = n_together == 1 ? wasm_v128_load32_splat(pairs + t * (n_columns / 8) + 2 * p)
                                   : wasm_v128_load32_splat(sums_of + t * (n_columns / 32) + p);
        sums[t][v] = wasm_i32x4_add(sums[t][v], wasm_i32x4_dot_i16x8(both, x));
      }
    }
  }
}

/* --- a tile -------------------------------------------------------------------------------- */

/* Units whose sums fit i16. */
SIMD_INLINE size_t units_at_once(const tile_shape tile) {
  const size_t n_part_units = tile.g.part_columns / PACKED_UNIT;
  /* PAIRS and DOT: so many that the sums of pairs fit i16, 32 columns' of which are 2032. */
  if (tile.way != WAY_SHORTS) return n_part_units < 16 ? n_part_units : 16;
  const int largest = tile.g.middle != 0 ? tile.g.middle : (1 << tile.g.bits) - 1;
  const size_t n_units = (size_t)(32767 / (8 * 127 * largest));
  return n_units < n_part_units ? n_units : n_part_units;
}

/* Four halves as floats, as f32x4_from_f16 does; they are finite. */
SIMD_INLINE v128_t load_halves(const tile_numbers *numbers, const uint8_t *halves, size_t vector) {
  v128_t bits = wasm_i32x4_shl(wasm_i32x4_load16x4(halves + 8 * vector), 13);
  return wasm_f32x4_mul(wasm_v128_and(bits, numbers->half_bits), numbers->half_scale);
}

/* The same of a block of many columns, whose factors are mostly subnormal halves: parts' scales of
 * up to 63 or 127 make them small. */
SIMD_INLINE v128_t load_block_halves(const tile_shape tile, const tile_numbers *numbers,
                                     const uint8_t *halves, size_t vector) {
  if (tile.g.scales == SCALES_NONE) return load_halves(numbers, halves, vector);
  return f32x4_load_f16(halves + 8 * vector);
}

/* Four factors; of exponents that are below 2 as f32_half_of_e8 has them, the larger of two. */
SIMD_INLINE v128_t load_factors(const tile_shape tile, const tile_numbers *numbers,
                                const uint8_t *block, size_t vector) {
  if (tile.g.factor == FACTOR_F16) return load_block_halves(tile, numbers, block, vector);
  v128_t bytes = wasm_v128_load32_zero(block + 4 * vector);
  v128_t exponents = wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(bytes));
  v128_t one = wasm_i32x4_splat(1);
  return wasm_i32x4_max(wasm_i32x4_shl(wasm_i32x4_sub(exponents, one), 23),
                        wasm_i32x4_shl(wasm_i32x4_add(exponents, one), 21));
}

/* y[t][v] += the block's products. */
SIMD_INLINE void finish_block(const tile_shape tile, const tile_numbers *numbers,
                              const uint8_t *block, size_t first, const packed_activations *x,
                              size_t row, size_t b, tile_sums totals, float *y,
                              size_t y_stride) {
  const size_t n_columns = x->n_columns;
  const size_t n_blocks = n_columns / tile.g.columns;
  const float *scales_of = x->scales + row * n_blocks + b;
  const int16_t *pairs = x->pairs + (row * n_columns + b * tile.g.columns) / 8;
  const int16_t *sums_of = x->sums + (row * n_columns + b * tile.g.columns) / 32;
  tile_sums minima;
  v128_t factors[VECTORS];
  v128_t offsets[VECTORS];
  for (size_t v = 0; v < tile.n_vectors; v++) {
    factors[v] = load_factors(tile, numbers, block, first + v);
    if (!tile.g.has_minimum) continue;
    offsets[v] = load_block_halves(tile, numbers, block + 2 * PACKED_ROWS, first + v);
  }
  if (tile.g.has_minimum && tile.g.scales != SCALES_NONE) {
    const uint8_t *scales = block + packed_scales_offset(tile.g) + 4 * first;
    sum_minima(tile, scales, pairs, sums_of, n_columns, minima);
  }
  for (size_t t = 0; t < tile.n_rows; t++, y += y_stride) {
    v128_t scale = wasm_v128_load32_splat(scales_of + t * n_blocks);
    v128_t x_sum = wasm_f32x4_splat((float)sums_of[t * (n_columns / 32)]);
    for (size_t v = 0; v < tile.n_vectors; v++) {
      v128_t product = wasm_f32x4_convert_i32x4(totals[t][v]);
      product = wasm_f32x4_mul(product, wasm_f32x4_mul(factors[v], scale));
      v128_t sum = wasm_f32x4_add(wasm_v128_load(y + 4 * v), product);
      if (tile.g.has_minimum) {
        v128_t minimum = tile.g.scales == SCALES_NONE ? x_sum
                                                      : wasm_f32x4_convert_i32x4(minima[t][v]);
        minimum = wasm_f32x4_mul(offsets[v], wasm_f32x4_mul(minimum, scale));
        sum = wasm_f32x4_add(sum, minimum);
      }
      wasm_v128_store(y + 4 * v, sum);
    }
  }
}

/* y[n_rows][4 · n_vectors]: vectors from `first` on, activations from `row` on. `x` is a copy of
 * the caller's own, which stores to y cannot change. */
SIMD_INLINE void tile_blocks(const tile_shape tile, const uint8_t *strip, size_t first,
                             const packed_activations *x, size_t row, float *y, size_t y_stride) {
  const tile_numbers numbers = tile_numbers_of(tile.form, tile.flip);
  const size_t n_columns = x->n_columns;
  const size_t run = units_at_once(tile);
  const size_t n_rolled = groups_rolled(tile.g);
  const size_t unit_bytes = packed_unit_bytes(tile.g);
  /* Bytes of neighbouring units stand like those of one: a loop less. */
  const size_t n_units = tile.g.bits == 8 ? run : 1;
  const bool is_crowded = tile.way == WAY_SHORTS && tile.n_rows > 2 && n_rolled == 1;
  const size_t n_runs = tile.g.columns / PACKED_UNIT / run;
  const size_t runs_per_part = tile.g.part_columns / PACKED_UNIT / run;
  const int8_t *values = x->values + row * n_columns;
  const int16_t *wide = x->wide + row * n_columns;
  const int16_t *pairs = x->pairs + row * n_columns / 8;
  for (size_t t = 0; t < tile.n_rows; t++) {
    for (size_t v = 0; v < tile.n_vectors; v++) {
      wasm_v128_store(y + t * y_stride + 4 * v, wasm_f32x4_splat(0.0f));
    }
  }
  for (size_t b = 0; b < n_columns / tile.g.columns; b++, strip += packed_bytes_of(tile.g)) {
    const uint8_t *unit = strip + packed_units_offset(tile.g);
    const uint8_t *scales = strip + packed_scales_offset(tile.g) + 4 * first;
    tile_sums totals;
    for (size_t t = 0; t < tile.n_rows; t++) {
      for (size_t v = 0; v < tile.n_vectors; v++) totals[t][v] = wasm_i32x4_splat(0);
    }
    ROLLED for (size_t r = 0; r < n_runs; r++) {
      tile_sums sums;
      begin_sums(tile, &numbers, run, pairs, n_columns, sums);
      ROLLED for (size_t u = 0; u < run; u += n_units, unit += n_units * unit_bytes) {
        const uint8_t *plane = unit;
        ROLLED for (size_t j = 0; j < n_units * n_rolled; j++, plane += GROUP_BYTES) {
          UNROLLED for (size_t k = 0; k < GROUPS; k += n_rolled) { /* shifts are constants */
            /* One group's codes after the other's: together they take the sums' registers. */
            if (is_crowded && k != 0) plane = simd_hide(plane);
            v128_t codes[VECTORS];
            for (size_t v = 0; v < tile.n_vectors; v++) {
              codes[v] = unit_codes(tile, &numbers, plane, first, k, v);
            }
            add_group(tile, &numbers, codes, values + 4 * k, wide + 4 * k, n_columns, sums);
          }
          values += 4;
          wide += 4;
        }
        values += 4 * n_units * (GROUPS - n_rolled);
        wide += 4 * n_units * (GROUPS - n_rolled);
        pairs += 2 * n_units;
      }
      end_sums(tile, &numbers, scales, r / runs_per_part, sums, totals);
    }
    finish_block(tile, &numbers, strip, first, x, row, b, totals, y, y_stride);
  }
}

/* One tile. With SHORTS and DOT the totals stay in y: as variables they would be in registers and
 * the loop's operands in memory. PAIRS are the quicker for variables. */
SIMD_INLINE void packed_tile(const tile_shape tile, const uint8_t *strip, size_t first,
                             const packed_activations *x, size_t row, float *y, size_t y_stride) {
  const packed_activations own = *x;
  if (tile.way != WAY_PAIRS) {
    tile_blocks(tile, strip, first, &own, row, y, y_stride);
    return;
  }
  float totals[TILE_ROWS_MAX][PACKED_ROWS];
  tile_blocks(tile, strip, first, &own, row, totals[0], PACKED_ROWS);
  for (size_t t = 0; t < tile.n_rows; t++) {
    for (size_t v = 0; v < tile.n_vectors; v++) {
      wasm_v128_store(y + t * y_stride + 4 * v, wasm_v128_load(totals[t] + 4 * v));
    }
  }
}

/* Rows of activations from `row` on in tiles of n_rows × 4 · n_vectors, as far as they go; gives
 * the next. */
SIMD_INLINE size_t packed_tiles(const packed_way way, const packed_form form, const int flip,
                                const size_t n_rows, const size_t n_vectors,
                                const uint8_t *strip, const packed_activations *x, size_t row,
                                size_t n_all, float *y, size_t y_stride) {
  const tile_shape tile = {way, form, PACKED_GEOMETRY[form], n_rows, n_vectors, flip};
  for (; row + n_rows <= n_all; row += n_rows) {
    for (size_t first = 0; first < VECTORS; first += n_vectors) {
      packed_tile(tile, strip, first, x, row, y + row * y_stride + 4 * first, y_stride);
    }
  }
  return row;
}

#endif
