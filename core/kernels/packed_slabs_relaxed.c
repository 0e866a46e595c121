/* Tiles of many rows out of panels (packed_slabs.h): the bits of packed_scalar.c. */
#include "core/kernels/packed_slabs.h"

#include "core/kernels/packed_dot.h"
#include "core/kernels/packed_tile.h"

/* --- activations --------------------------------------------------------------------------- */

void packed_slabs_make(const packed_activations *x, size_t row, int more) {
  if (x->n_slab_rows == 0) return;
  const size_t n_columns = x->n_columns;
  const v128_t offset = wasm_i8x16_splat((int8_t)more);
  const float *scales = x->scales + row * (n_columns / x->block_columns);
  packed_slab *slab = x->slabs + row;
  for (size_t c = 0; c < n_columns; c += PACKED_SLAB_COLUMNS, slab += x->n_slab_rows) {
    const size_t first = row * n_columns + c;
    const size_t n_left = n_columns - c;
    const size_t n = n_left < PACKED_SLAB_COLUMNS ? n_left : PACKED_SLAB_COLUMNS;
    for (size_t i = 0; i < n; i += 16) {
      v128_t values = wasm_v128_load(x->values + first + i);
      wasm_v128_store(slab->values + i, wasm_v128_xor(values, offset));
    }
    slab->more = more;
    for (size_t i = 0; i < n / 8; i++) slab->pairs[i] = x->pairs[first / 8 + i];
    for (size_t i = 0; i < n / 32; i++) {
      slab->parts[i] = x->sums[first / 32 + i];
      slab->scales[i] = scales[(c + 32 * i) / x->block_columns];
      slab->sums[i] = (float)slab->parts[i] * slab->scales[i];
    }
  }
}

/* --- panels -------------------------------------------------------------------------------- */

/* Sums of blocks of 32 columns are the bits of a float from the start: 3 · 2^22 and the sum. */
static const uint32_t FLOAT_START = 0x4b400000;

SIMD_INLINE tile_shape shape_of(const packed_form form) {
  return (tile_shape){WAY_DOT, form, PACKED_GEOMETRY[form], SLAB_ROWS, VECTORS, 0};
}

/* Units into a panel's codes; sums[unit][row] of them. */
SIMD_INLINE void unpack(const packed_form form, const uint8_t *unit, size_t n_units,
                        int8_t *codes, int32_t *sums) {
  const tile_shape tile = shape_of(form);
  const tile_numbers numbers = tile_numbers_of(form, 0);
  const v128_t middle = wasm_i8x16_splat((int8_t)tile.g.middle);
  const v128_t one = wasm_i8x16_splat(1);
  ROLLED for (size_t u = 0; u < n_units; u++, unit += packed_unit_bytes(tile.g)) {
    ROLLED for (size_t v = 0; v < VECTORS; v++) {
      v128_t sum = wasm_i32x4_splat(0);
      UNROLLED for (size_t k = 0; k < GROUPS; k++) {
        const uint8_t *from = unit + (tile.g.bits == 8 ? k * GROUP_BYTES : 0);
        v128_t values = unit_codes(tile, &numbers, from, 0, k, v);
        values = wasm_i8x16_sub(values, middle);
        wasm_v128_store(codes + k * GROUP_BYTES + 16 * v, values);
        sum = packed_dot_add(values, one, sum);
      }
      wasm_v128_store(sums + 4 * v, sum);
    }
    sums += PACKED_ROWS;
    codes += GROUPS * GROUP_BYTES;
  }
}

typedef void unpack_function(const uint8_t *unit, size_t n_units, int8_t *codes, int32_t *sums);
#define X(type, ...)                                                                          \
  static void unpack_##type(const uint8_t *unit, size_t n_units, int8_t *codes, int32_t *sums) { \
    unpack(PACKED_##type, unit, n_units, codes, sums);                                        \
  }
PACKED_FORM_LIST(X)
#undef X
static unpack_function *const UNPACK[PACKED_FORM_COUNT] = {
#define X(type, ...) [PACKED_##type] = unpack_##type,
    PACKED_FORM_LIST(X)
#undef X
};

/* Groups whose sums get a scale of their own. */
static size_t part_groups_of(packed_geometry g) { return g.part_columns == 16 ? 4 : 8; }

/* Of the parts' sums, out of the units' that stand in their place. */
static void put_starts(packed_geometry g, size_t n_parts, int more, packed_panel *panel) {
  const v128_t start = wasm_i32x4_splat(g.columns == 32 ? (int32_t)FLOAT_START : 0);
  const v128_t all_more = wasm_i32x4_splat(more);
  const size_t n_units = part_groups_of(g) / GROUPS;
  for (size_t p = 0; p < n_parts; p++) {
    const int32_t *sums = panel->starts[p * n_units];
    for (size_t v = 0; v < VECTORS; v++) {
      v128_t sum = wasm_v128_load(sums + 4 * v);
      if (n_units == 2) sum = wasm_i32x4_add(sum, wasm_v128_load(sums + PACKED_ROWS + 4 * v));
      sum = wasm_i32x4_sub(start, wasm_i32x4_mul(sum, all_more));
      wasm_v128_store(panel->starts[p] + 4 * v, sum);
    }
  }
}

static void put_scales(tile_shape tile, const uint8_t *scales, packed_panel *panel) {
  const size_t n_parts = PANEL_GROUPS / part_groups_of(tile.g);
  for (size_t p = 0; p < n_parts; p++) {
    for (size_t i = 0; i < VECTORS / 2; i++) {
      v128_t both = tile.g.scales == SCALES_NONE ? wasm_i16x8_splat(1)
                                                 : part_scales(tile, scales, p, i);
      wasm_v128_store(panel->scales[p] + 8 * i, wasm_i32x4_extend_low_i16x8(both));
      wasm_v128_store(panel->scales[p] + 8 * i + 4, wasm_i32x4_extend_high_i16x8(both));
      if (!tile.g.has_minimum || (n_parts == 8 && p % 2 != 0)) continue;
      v128_t first = part_minima(tile, scales, p, i);
      v128_t second = n_parts == 8 ? part_minima(tile, scales, p + 1, i) : first;
      int16_t *to = panel->minima[n_parts == 8 ? p / 2 : p][8 * i];
      wasm_v128_store(to, wasm_i16x8_shuffle(first, second, 0, 8, 1, 9, 2, 10, 3, 11));
      wasm_v128_store(to + 8, wasm_i16x8_shuffle(first, second, 4, 12, 5, 13, 6, 14, 7, 15));
    }
  }
}

/* The blocks of n_columns columns of a strip. */
static void panel_make(const packed_form form, const uint8_t *block, size_t n_columns, int more,
                       packed_panel *panel) {
  const tile_shape tile = shape_of(form);
  const packed_geometry g = tile.g;
  const tile_numbers numbers = tile_numbers_of(form, 0);
  for (size_t b = 0; b < n_columns / g.columns; b++, block += packed_bytes_of(g)) {
    UNPACK[form](block + packed_units_offset(g), g.columns / PACKED_UNIT,
                 panel->codes[b * g.columns / 4][0], panel->starts[b * g.columns / PACKED_UNIT]);
    for (size_t v = 0; v < VECTORS; v++) {
      wasm_v128_store(panel->factors[b] + 4 * v, load_factors(tile, &numbers, block, v));
      if (!g.has_minimum) continue;
      wasm_v128_store(panel->offsets[b] + 4 * v, f32x4_load_f16(block + 2 * PACKED_ROWS + 8 * v));
    }
    if (g.columns != 32) put_scales(tile, block + packed_scales_offset(g), panel);
  }
  put_starts(g, n_columns / 4 / part_groups_of(g), more, panel);
}

/* --- tiles --------------------------------------------------------------------------------- */

typedef v128_t slab_sums[SLAB_ROWS][SLAB_VECTORS];

typedef struct slab_place {
  const int8_t *codes;
  const uint8_t *values; /* of the first row */
} slab_place;

/* Sums begin alike in all rows. */
SIMD_INLINE void begin_slabs(const int32_t *starts, slab_sums sums) {
  for (size_t v = 0; v < SLAB_VECTORS; v++) {
    v128_t start = wasm_v128_load(starts + 4 * v);
    for (size_t t = 0; t < SLAB_ROWS; t++) sums[t][v] = start;
  }
}

/* What stands at `first` in row 0, of row t. */
SIMD_INLINE v128_t splat_of_row(const void *first, size_t t) {
  return wasm_v128_load32_splat((const uint8_t *)first + t * sizeof(packed_slab));
}

/* sums += the products of a group; gives the place of the next. */
SIMD_INLINE slab_place add_slab_group(slab_place at, slab_sums sums) {
  v128_t w[SLAB_VECTORS];
  for (size_t v = 0; v < SLAB_VECTORS; v++) w[v] = wasm_v128_load(at.codes + 16 * v);
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    v128_t x = splat_of_row(at.values, t);
    for (size_t v = 0; v < SLAB_VECTORS; v++) sums[t][v] = packed_dot_add(w[v], x, sums[t][v]);
  }
  return (slab_place){at.codes + GROUP_BYTES, at.values + 4};
}

/* sums += the products of n groups, 4 or 8, which the compiler must not know. That each group can
 * be jumped to keeps it in a block of its own: in one block the compiler makes one sum after the
 * other, with all groups' operands in the registers that the other sums need. A loop would take
 * seven instructions a group and, at its end, the sums' registers. */
SIMD_INLINE slab_place add_slab_groups(slab_place at, size_t n, slab_sums sums) {
#define GROUP_AND_NEXT at = add_slab_group(at, sums); __attribute__((fallthrough))
  switch (n) {
    default: GROUP_AND_NEXT;
    case 7: GROUP_AND_NEXT;
    case 6: GROUP_AND_NEXT;
    case 5: GROUP_AND_NEXT;
    case 4: GROUP_AND_NEXT;
    case 3: GROUP_AND_NEXT;
    case 2: GROUP_AND_NEXT;
    case 1: GROUP_AND_NEXT;
    case 0: break;
  }
#undef GROUP_AND_NEXT
  return at;
}

/* Numbers that are added to in memory, and are not to be kept in the sums' registers. */
SIMD_INLINE void *in_memory(void *numbers) { return (void *)(uintptr_t)simd_hide(numbers); }

SIMD_INLINE void add_floats(float *to, v128_t more) {
  wasm_v128_store(to, wasm_f32x4_add(wasm_v128_load(to), more));
}

/* y[t] += the products of blocks of 32 columns. */
__attribute__((noinline)) static void tile_blocks_of_32(const packed_panel *panel, size_t first,
                                                        const packed_slab *x, size_t n_blocks,
                                                        size_t n_groups, bool has_minimum,
                                                        float *y) {
  slab_place at = {panel->codes[0][first], x->values};
  const v128_t start = wasm_v128_load32_splat(simd_hide(&FLOAT_START));
  ROLLED for (size_t b = 0; b < n_blocks; b++) {
    slab_sums sums;
    begin_slabs(panel->starts[b] + first, sums);
    at = add_slab_groups(at, n_groups, sums);
    const float *factors = panel->factors[b] + first;
    for (size_t t = 0; t < SLAB_ROWS; t++) {
      v128_t scale = splat_of_row(&x->scales[b], t);
      for (size_t v = 0; v < SLAB_VECTORS; v++) {
        v128_t factor = wasm_f32x4_mul(wasm_v128_load(factors + 4 * v), scale);
        v128_t product = wasm_f32x4_sub(sums[t][v], start);
        add_floats(y + t * PACKED_ROWS + 4 * v, wasm_f32x4_mul(product, factor));
      }
    }
    const float *offsets = panel->offsets[b] + first;
    for (size_t t = 0; has_minimum && t < SLAB_ROWS; t++) {
      v128_t sum = splat_of_row(&x->sums[b], t);
      for (size_t v = 0; v < SLAB_VECTORS; v++) {
        v128_t minimum = wasm_f32x4_mul(wasm_v128_load(offsets + 4 * v), sum);
        add_floats(y + t * PACKED_ROWS + 4 * v, minimum);
      }
    }
    y = in_memory(y);
  }
}

typedef int32_t slab_totals[SLAB_ROWS][SLAB_VECTORS][4];

/* totals = the sums of a block's parts, times their scales. */
SIMD_INLINE void sum_parts(const packed_panel *panel, size_t first, const packed_slab *x,
                           size_t n_groups, slab_totals totals) {
  slab_place at = {panel->codes[0][first], x->values};
  const size_t n_parts = n_groups == 4 ? PANEL_GROUPS / 4 : PANEL_GROUPS / 8;
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    for (size_t v = 0; v < SLAB_VECTORS; v++) {
      wasm_v128_store(totals[t][v], wasm_i32x4_splat(0));
    }
  }
  for (size_t p = 0; p < n_parts; p++) {
    slab_sums sums;
    begin_slabs(panel->starts[p] + first, sums);
    at = add_slab_groups(at, n_groups, sums);
    totals = in_memory(totals);
    for (size_t v = 0; v < SLAB_VECTORS; v++) {
      v128_t scale = wasm_v128_load(panel->scales[p] + first + 4 * v);
      for (size_t t = 0; t < SLAB_ROWS; t++) {
        v128_t sum = wasm_i32x4_mul(sums[t][v], scale);
        wasm_v128_store(totals[t][v], wasm_i32x4_add(wasm_v128_load(totals[t][v]), sum));
      }
    }
  }
}

/* totals = the parts' minima times the sums of the rows' values: two parts of 32 columns in a
 * product, or the two pairs of one of 16. */
SIMD_INLINE void sum_slab_minima(const packed_panel *panel, size_t first, const packed_slab *x,
                                 size_t n_groups, slab_totals totals) {
  const int16_t *sums_of = n_groups == 4 ? x->pairs : x->parts;
  const size_t n_products = n_groups == 4 ? 16 : 4;
  slab_sums minima;
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    for (size_t v = 0; v < SLAB_VECTORS; v++) minima[t][v] = wasm_i32x4_splat(0);
  }
  ROLLED for (size_t p = 0; p < n_products; p++) {
    for (size_t t = 0; t < SLAB_ROWS; t++) {
      v128_t sum = splat_of_row(sums_of + 2 * p, t);
      for (size_t v = 0; v < SLAB_VECTORS; v++) {
        v128_t of = wasm_v128_load(panel->minima[p][first + 4 * v]);
        minima[t][v] = wasm_i32x4_add(minima[t][v], wasm_i32x4_dot_i16x8(of, sum));
      }
    }
  }
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    for (size_t v = 0; v < SLAB_VECTORS; v++) wasm_v128_store(totals[t][v], minima[t][v]);
  }
}

/* y[t] += the products of a block of 256 columns whose parts have n_groups groups. */
__attribute__((noinline)) static void tile_parts(const packed_panel *panel, size_t first,
                                                 const packed_slab *x, size_t n_groups,
                                                 bool has_minimum, float *y) {
  slab_totals totals;
  sum_parts(panel, first, x, n_groups, totals);
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    v128_t scale = splat_of_row(x->scales, t);
    for (size_t v = 0; v < SLAB_VECTORS; v++) {
      v128_t factor = wasm_f32x4_mul(wasm_v128_load(panel->factors[0] + first + 4 * v), scale);
      v128_t product = wasm_f32x4_convert_i32x4(wasm_v128_load(totals[t][v]));
      add_floats(y + t * PACKED_ROWS + 4 * v, wasm_f32x4_mul(product, factor));
    }
  }
  if (!has_minimum) return;
  sum_slab_minima(panel, first, x, n_groups, totals);
  for (size_t t = 0; t < SLAB_ROWS; t++) {
    v128_t scale = splat_of_row(x->scales, t);
    for (size_t v = 0; v < SLAB_VECTORS; v++) {
      v128_t sum = wasm_f32x4_convert_i32x4(wasm_v128_load(totals[t][v]));
      v128_t offset = wasm_v128_load(panel->offsets[0] + first + 4 * v);
      add_floats(y + t * PACKED_ROWS + 4 * v,
                 wasm_f32x4_mul(offset, wasm_f32x4_mul(sum, scale)));
    }
  }
}

/* totals[t] += the products of the panel's columns with n rows, a multiple of SLAB_ROWS. */
static void multiply_panel(packed_geometry g, const packed_panel *panel, size_t n_columns,
                           const packed_slab *x, size_t n, float (*totals)[PACKED_ROWS]) {
  size_t n_groups = part_groups_of(g);
  __asm__("" : "+r"(n_groups)); /* add_slab_groups */
  for (size_t t = 0; t < n; t += SLAB_ROWS) {
    for (size_t first = 0; first < PACKED_ROWS; first += 4 * SLAB_VECTORS) {
      float *y = totals[t] + first;
      if (g.columns == 32) {
        tile_blocks_of_32(panel, first, x + t, n_columns / 32, n_groups, g.has_minimum, y);
      } else {
        tile_parts(panel, first, x + t, n_groups, g.has_minimum, y);
      }
    }
  }
}

/* Rows of the tiles that n rows take: a last tile with few of them is not worth it. What the others
 * of its rows are does not matter. */
static size_t rows_of_tiles(size_t n_rows) {
  const size_t n_left = n_rows % SLAB_ROWS;
  return n_rows - n_left + (n_left >= SLAB_ROWS_LEAST ? SLAB_ROWS : 0);
}

size_t packed_slabs_multiply(packed_form form, const uint8_t *strip, const packed_activations *x,
                             size_t n_rows, float *y, size_t y_stride) {
  const packed_geometry g = PACKED_GEOMETRY[form];
  packed_panel panel;
  float totals[SLAB_ROWS_MAX][PACKED_ROWS];
  if (x->n_slab_rows == 0 || n_rows < PACKED_SLAB_LEAST) return 0;
  const size_t n_all = rows_of_tiles(n_rows);
  const size_t n_done = n_all < n_rows ? n_all : n_rows;
  for (size_t row = 0; row < n_all; row += SLAB_ROWS_MAX) {
    const size_t n = n_all - row < SLAB_ROWS_MAX ? n_all - row : SLAB_ROWS_MAX;
    const uint8_t *block = strip;
    const packed_slab *slab = x->slabs + row;
    for (size_t t = 0; t < n; t++) {
      for (size_t v = 0; v < VECTORS; v++) {
        wasm_v128_store(totals[t] + 4 * v, wasm_f32x4_splat(0.0f));
      }
    }
    for (size_t c = 0; c < x->n_columns; c += PACKED_SLAB_COLUMNS, slab += x->n_slab_rows) {
      const size_t n_left = x->n_columns - c;
      const size_t n_columns = n_left < PACKED_SLAB_COLUMNS ? n_left : PACKED_SLAB_COLUMNS;
      panel_make(form, block, n_columns, slab->more, &panel);
      multiply_panel(g, &panel, n_columns, slab, n, totals);
      block += n_columns / g.columns * packed_bytes_of(g);
    }
    for (size_t t = 0; t < n && row + t < n_done; t++) {
      for (size_t v = 0; v < VECTORS; v++) {
        wasm_v128_store(y + (row + t) * y_stride + 4 * v, wasm_v128_load(totals[t] + 4 * v));
      }
    }
  }
  return n_done;
}
