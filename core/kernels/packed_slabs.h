/* Tiles of many rows, where the dot product of four bytes is one instruction.
 *
 * A strip's codes are taken apart once for all rows, 256 columns at a time, into a panel of signed
 * bytes with the middle taken off, of 4 rows x 4 columns a vector; numbers of the parts stand
 * beside them as the tiles want them. So all forms share three loops over bytes, and a strip comes
 * out of memory once. The weights are the signed operand. Where bytes of the other one are
 * unsigned, the activations are by 128 too large, and sums start at -128 times the weights' sum,
 * which is the same for all rows. */
#ifndef ONEKV_PACKED_SLABS_H
#define ONEKV_PACKED_SLABS_H

#include "core/kernels/packed_codes.h"

enum {
  SLAB_ROWS = PACKED_SLAB_TILE, /* with two vectors: 12 sums, and V8 has 15 registers */
  SLAB_VECTORS = 2,
  SLAB_ROWS_LEAST = 4, /* that are worth a tile */
  SLAB_ROWS_MAX = 96, /* whose totals are kept together */
  SLAB_BLOCKS = PACKED_SLAB_COLUMNS / 32,
  PANEL_GROUPS = PACKED_SLAB_COLUMNS / 4
};

/* A vector of a panel is 4 rows. */
typedef struct packed_panel {
  int8_t codes[PANEL_GROUPS][PACKED_ROWS][4];
  int32_t starts[PACKED_PARTS_MAX][PACKED_ROWS]; /* of the sums of parts, or of 32 columns */
  int32_t scales[PACKED_PARTS_MAX][PACKED_ROWS];
  int16_t minima[PACKED_PARTS_MAX][PACKED_ROWS][2]; /* of two parts, or one's twice */
  float factors[SLAB_BLOCKS][PACKED_ROWS];
  float offsets[SLAB_BLOCKS][PACKED_ROWS];
} packed_panel;

/* The slabs of a row whose values, sums and scales are there; nothing where none are wanted. */
void packed_slabs_make(const packed_activations *x, size_t row, int more);

/* Gives how many of the rows were multiplied, from the first on: with slabs all, but for a last
 * tile's that are too few. */
size_t packed_slabs_multiply(packed_form form, const uint8_t *strip, const packed_activations *x,
                             size_t n_rows, float *y, size_t y_stride);

#endif
