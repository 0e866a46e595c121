/* The choice of kernels: the one place that knows which variants this build has.
 *
 * Every entry is filled by the scalar reference first, so a variant may leave out kernels that
 * it cannot improve and the table has no holes. */
#include "core/kernels/kernels.h"

#include <string.h>

void kernels_select(kernel_table *table, onekv_level level) {
  if (level == ONEKV_LEVEL_BEST) level = ONEKV_LEVEL_RELAXED;
  memset(table, 0, sizeof *table);
  kernels_fill_scalar(table);
#if ONEKV_HAVE_SIMD128
  if (level >= ONEKV_LEVEL_SIMD128) kernels_fill_simd128(table);
#endif
#if ONEKV_HAVE_RELAXED
  if (level >= ONEKV_LEVEL_RELAXED) kernels_fill_relaxed(table);
#endif
}
