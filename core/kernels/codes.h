/* What the ways of codes_simd.h share, in codes_simd128.c. */
#ifndef ONEKV_CODES_H
#define ONEKV_CODES_H

#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

enum { CODES_KEYS = 8 }; /* whose sums stay in registers */

/* sums[n] += products of the columns from `first` on, fewer than sixteen. */
void codes_add_rest(const int8_t *keys, size_t stride, size_t n, const int8_t *query, size_t first,
                    size_t n_columns, int32_t *sums);

/* Scores of n keys' sums: of CODES_KEYS, or one. */
void codes_finish(const int32_t *sums, size_t n, float query_scale, const float *key_scales,
                  bool adds, float *y);

#endif
