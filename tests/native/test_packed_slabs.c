/* More rows than tiles keep totals of at once (packed_slabs.h), and columns that end within a slab:
 * the scalar bits. test_packed.c has all forms with few rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernels/kernels.h"
#include "core/kernels/packed_slabs.h"
#include "tests/native/check.h"

enum { N_ROWS = SLAB_ROWS_MAX + 2 * SLAB_ROWS + 1, ROWS = PACKED_ROWS };

static kernel_table scalar;

/* Codes and scales at random, factors and minima ordinary numbers or, every
 * third, subnormal halves. */
static uint8_t *strip_make(packed_form form, size_t n_columns) {
  const packed_geometry g = PACKED_GEOMETRY[form];
  const size_t block_bytes = packed_block_bytes(form);
  const size_t n_blocks = n_columns / g.columns;
  uint8_t *strip = check_allocate(n_blocks * block_bytes);
  for (size_t i = 0; i < n_blocks * block_bytes; i++) {
    strip[i] = (uint8_t)check_random_below(256);
    bool is_high = i % block_bytes < packed_scales_offset(g) && i % 2 == 1;
    uint8_t high = (uint8_t)(check_random_below(3) == 0 ? 0 : 0x30 + check_random_below(8));
    if (g.factor == FACTOR_F16 && is_high) strip[i] = high;
    if (g.factor == FACTOR_E8 && i % block_bytes < ROWS) strip[i] = 120;
  }
  return strip;
}

static packed_activations activations_make(const kernel_table *table, size_t n_columns,
                                           size_t block_columns) {
  const size_t n = N_ROWS * n_columns;
  const size_t n_slab_rows = table->packed_has_slabs ? N_ROWS : 0;
  packed_activations x = {.n_columns = n_columns, .block_columns = block_columns,
                          .rows_per_token = 1, .n_slab_rows = n_slab_rows};
  x.values = check_allocate(n * sizeof *x.values);
  x.wide = check_allocate(n * sizeof *x.wide);
  x.scales = check_allocate(n / block_columns * sizeof *x.scales);
  x.pairs = check_allocate(n / 8 * sizeof *x.pairs);
  x.sums = check_allocate(n / 32 * sizeof *x.sums);
  size_t n_slabs = N_ROWS * packed_slabs_of(n_columns) + PACKED_SLAB_TILE - 1;
  x.slabs = check_allocate(n_slabs * sizeof *x.slabs);
  float *row = check_allocate(n_columns * sizeof *row);
  for (size_t t = 0; t < N_ROWS; t++) {
    for (size_t c = 0; c < n_columns; c++) row[c] = check_random_float(3.0f);
    table->packed_encode(row, t, &x);
  }
  free(row);
  return x;
}

#if ONEKV_HAVE_RELAXED
/* What fills no tile is left, or fills one up; no row behind the last one is written. */
static void check_last_tile(packed_form form, const uint8_t *strip, const packed_activations *x,
                            const float *expected, float *found) {
  for (size_t n_left = 0; n_left < SLAB_ROWS; n_left++) {
    const size_t n_rows = N_ROWS - 1 - SLAB_ROWS + n_left;
    const size_t n_done = n_left < SLAB_ROWS_LEAST ? n_rows - n_left : n_rows;
    memset(found, 0xff, N_ROWS * ROWS * sizeof *found);
    CHECK(packed_slabs_multiply(form, strip, x, n_rows, found, ROWS) == n_done);
    CHECK_SAME_FLOATS(found, expected, n_done * ROWS);
    for (size_t i = n_done * ROWS; i < N_ROWS * ROWS; i++) CHECK(isnan(found[i]));
  }
}
#endif

static void test_form(const kernel_table *table, packed_form form, const char *name) {
  const size_t block_columns = PACKED_GEOMETRY[form].columns;
  const size_t n_columns = block_columns == 32 ? 608 : 512;
  check_state.context = name;
  uint8_t *strip = strip_make(form, n_columns);
  packed_activations x = activations_make(table, n_columns, block_columns);
  float *expected = check_allocate(2 * N_ROWS * ROWS * sizeof *expected);
  float *found = expected + N_ROWS * ROWS;
  memset(found, 0xff, N_ROWS * ROWS * sizeof *found);
  scalar.packed_matmul[form](strip, &x, N_ROWS, expected, ROWS);
  table->packed_matmul[form](strip, &x, N_ROWS, found, ROWS);
  CHECK_SAME_FLOATS(found, expected, N_ROWS * ROWS);
#if ONEKV_HAVE_RELAXED
  if (table->packed_has_slabs) {
    check_last_tile(form, strip, &x, expected, found);
  }
#endif
  free(expected);
  free(strip);
  free(x.values);
  free(x.wide);
  free(x.scales);
  free(x.pairs);
  free(x.sums);
  free(x.slabs);
}

int main(void) {
  kernel_table table;
  check_seed(20261128);
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  kernels_select(&table, ONEKV_LEVEL_BEST);
#if ONEKV_HAVE_RELAXED
  kernels_fill_packed_dot(&table);
#if !defined(__EMSCRIPTEN__)
  CHECK(table.packed_has_slabs);
#endif
#endif
#define X(type, columns, ...) \
  if ((columns) != PACKED_TABLE_COLUMNS) test_form(&table, PACKED_##type, #type);
  PACKED_FORM_LIST(X)
#undef X
  return check_finish();
}
