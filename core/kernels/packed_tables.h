/* Products of one-bit weights by tables (packed.h has their shape): the bits of packed_scalar.c, at
 * three times the speed of tiles. */
#ifndef ONEKV_PACKED_TABLES_H
#define ONEKV_PACKED_TABLES_H

#include "core/kernels/packed.h"

/* The tables of a row whose values and sums are there; nothing where none are wanted. */
void packed_tables_make(const packed_activations *x, size_t row);

/* y[16] = the strip's products with a row that has tables. */
void packed_tables_multiply(const uint8_t *strip, const packed_activations *x, size_t row,
                            float *y);

/* packed_encode of kernels.h, slabs aside. */
void packed_encode_simd128(const float *x, size_t token, const packed_activations *out);

/* All rows by tables if that can be done; gives how many were: n_rows or 0. */
static inline size_t packed_tables_tried(const packed_form form, const uint8_t *strip,
                                         const packed_activations *x, size_t n_rows, float *y,
                                         size_t y_stride) {
  if (form != PACKED_Q1_0 || n_rows > x->n_table_rows) return 0;
  for (size_t t = 0; t < n_rows; t++) packed_tables_multiply(strip, x, t, y + t * y_stride);
  return n_rows;
}

#endif
