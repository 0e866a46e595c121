/* Tables of sums and the products that are looked up in them; one build serves simd128 and relaxed.
 *
 * A block is 128 columns: 32 tables, two vectors of bytes each, and 16 vectors of weights, whose
 * bytes are 16 rows × 8 columns. Of 32 sums the low parts, at most 63 each, are added in bytes four
 * at a time and then in i16; the high parts, at most 15, sixteen at a time. */
#include "core/kernels/packed_tables.h"

#include "core/kernels/packed_tile.h"

enum {
  TABLE_COLUMNS = 4,
  TABLE_BYTES = TABLE_COLUMNS * PACKED_TABLE_BYTES,
  BLOCK_TABLES = PACKED_TABLE_COLUMNS / TABLE_COLUMNS,
  MORE = 512, /* a sum of four values is kept by so much more */
  LOW_BITS = 6
};

/* Which sums the first three values belong to, of the first 8; the fourth is in the last 8. */
static const int16_t BELONGS[3][8] = {
    {0, -1, 0, -1, 0, -1, 0, -1}, {0, 0, -1, -1, 0, 0, -1, -1}, {0, 0, 0, 0, -1, -1, -1, -1}};

static const uint16_t MORE_AND_LOW[2] = {MORE, (1 << LOW_BITS) - 1};

void packed_tables_make(const packed_activations *x, size_t row) {
  if (row >= x->n_table_rows || x->block_columns != PACKED_TABLE_COLUMNS) return;
  const int8_t *values = x->values + row * x->n_columns;
  uint8_t *table = x->tables + row * x->n_columns * PACKED_TABLE_BYTES;
  const int16_t *belongs = simd_hide(BELONGS);
  const v128_t first = wasm_v128_load(belongs);
  const v128_t second = wasm_v128_load(belongs + 8);
  const v128_t third = wasm_v128_load(belongs + 16);
  const uint16_t *numbers = simd_hide(MORE_AND_LOW);
  const v128_t more = wasm_v128_load16_splat(numbers);
  const v128_t low = wasm_v128_load16_splat(numbers + 1);
  for (size_t c = 0; c < x->n_columns; c += TABLE_COLUMNS, table += TABLE_BYTES) {
    v128_t a = wasm_v128_and(wasm_i16x8_splat(values[c]), first);
    a = wasm_i16x8_add(a, wasm_v128_and(wasm_i16x8_splat(values[c + 1]), second));
    a = wasm_i16x8_add(a, wasm_v128_and(wasm_i16x8_splat(values[c + 2]), third));
    a = wasm_i16x8_add(a, more);
    v128_t b = wasm_i16x8_add(a, wasm_i16x8_splat(values[c + 3]));
    wasm_v128_store(table, wasm_u8x16_narrow_i16x8(wasm_v128_and(a, low), wasm_v128_and(b, low)));
    wasm_v128_store(table + 16, wasm_u8x16_narrow_i16x8(wasm_u16x8_shr(a, LOW_BITS),
                                                        wasm_u16x8_shr(b, LOW_BITS)));
  }
}

/* The sums of the rows' values whose bits are set, each by 32 · MORE more, as u16: of the rows 0,
 * 2, .. in sums[0], of 1, 3, .. in sums[1]. */
SIMD_INLINE void block_sums(const uint8_t *bits, const uint8_t *table, const v128_t half,
                            const v128_t byte, v128_t sums[2]) {
  v128_t low[2] = {wasm_i16x8_splat(0), wasm_i16x8_splat(0)};
  v128_t high[2] = {wasm_i16x8_splat(0), wasm_i16x8_splat(0)};
  ROLLED for (size_t i = 0; i < 2; i++) {
    v128_t many = wasm_i16x8_splat(0);
    ROLLED for (size_t j = 0; j < 4; j++, bits += 32, table += 4 * TABLE_BYTES) {
      v128_t all = wasm_v128_load(bits);
      v128_t at = wasm_v128_and(all, half);
      v128_t few = table_lookup(wasm_v128_load(table), at);
      many = wasm_i8x16_add(many, table_lookup(wasm_v128_load(table + 16), at));
      at = wasm_v128_and(wasm_u16x8_shr(all, 4), half);
      few = wasm_i8x16_add(few, table_lookup(wasm_v128_load(table + 32), at));
      many = wasm_i8x16_add(many, table_lookup(wasm_v128_load(table + 48), at));
      all = wasm_v128_load(bits + 16);
      at = wasm_v128_and(all, half);
      few = wasm_i8x16_add(few, table_lookup(wasm_v128_load(table + 64), at));
      many = wasm_i8x16_add(many, table_lookup(wasm_v128_load(table + 80), at));
      at = wasm_v128_and(wasm_u16x8_shr(all, 4), half);
      few = wasm_i8x16_add(few, table_lookup(wasm_v128_load(table + 96), at));
      many = wasm_i8x16_add(many, table_lookup(wasm_v128_load(table + 112), at));
      low[0] = wasm_i16x8_add(low[0], wasm_v128_and(few, byte));
      low[1] = wasm_i16x8_add(low[1], wasm_u16x8_shr(few, 8));
    }
    high[0] = wasm_i16x8_add(high[0], wasm_v128_and(many, byte));
    high[1] = wasm_i16x8_add(high[1], wasm_u16x8_shr(many, 8));
  }
  sums[0] = wasm_i16x8_add(low[0], wasm_i16x8_shl(high[0], LOW_BITS));
  sums[1] = wasm_i16x8_add(low[1], wasm_i16x8_shl(high[1], LOW_BITS));
}

void packed_tables_multiply(const uint8_t *strip, const packed_activations *x, size_t row,
                            float *y) {
  const packed_geometry g = PACKED_GEOMETRY[PACKED_Q1_0];
  const tile_numbers numbers = tile_numbers_of(PACKED_Q1_0, 0);
  const v128_t half = numbers.half;
  const v128_t byte = wasm_v128_andnot(wasm_i8x16_splat(-1), numbers.odd);
  const uint8_t *table = x->tables + row * x->n_columns * PACKED_TABLE_BYTES;
  const float *scales = x->scales + row * (x->n_columns / PACKED_TABLE_COLUMNS);
  const int16_t *of_32 = x->sums + row * (x->n_columns / 32);
  for (size_t v = 0; v < VECTORS; v++) wasm_v128_store(y + 4 * v, wasm_f32x4_splat(0.0f));
  for (size_t b = 0; b < x->n_columns / PACKED_TABLE_COLUMNS; b++, of_32 += 4) {
    v128_t sums[2];
    block_sums(strip + packed_units_offset(g), table, half, byte, sums);
    /* +1 and -1: twice the sum of those that are set, less the sum of all. */
    const int32_t all = of_32[0] + of_32[1] + of_32[2] + of_32[3];
    const v128_t less = wasm_i32x4_splat(-2 * MORE * BLOCK_TABLES - all);
    const v128_t scale = wasm_f32x4_splat(scales[b]);
    const v128_t rows[2] = {
        wasm_i16x8_shuffle(sums[0], sums[1], 0, 8, 1, 9, 2, 10, 3, 11),
        wasm_i16x8_shuffle(sums[0], sums[1], 4, 12, 5, 13, 6, 14, 7, 15)};
    for (size_t v = 0; v < VECTORS; v++) {
      v128_t total = v % 2 == 0 ? wasm_u32x4_extend_low_u16x8(rows[v / 2])
                                : wasm_u32x4_extend_high_u16x8(rows[v / 2]);
      total = wasm_i32x4_add(wasm_i32x4_shl(total, 1), less);
      v128_t product = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(total),
                                      wasm_f32x4_mul(load_halves(&numbers, strip, v), scale));
      wasm_v128_store(y + 4 * v, wasm_f32x4_add(wasm_v128_load(y + 4 * v), product));
    }
    strip += packed_bytes_of(g);
    table += BLOCK_TABLES * TABLE_BYTES;
  }
}
