/* Attention over rows of bytes by relaxed dot products.
 *
 * Their second operand is bytes of 0 to 127, so a query gives magnitudes, and the signs go to the
 * keys: k inverted, which is -k - 1, where the query is negative. What is too little by that, the
 * sum of those magnitudes, is the same for all keys. Sums of two products stay below 2^15, so that
 * it is exact everywhere. */
#include "core/kernels/codes.h"

#include <string.h>

#if defined(__wasm_relaxed_simd__)
typedef struct codes_query {
  v128_t magnitudes, signs;
} codes_query;

SIMD_INLINE codes_query codes_split(v128_t q) {
  return (codes_query){wasm_i8x16_abs(q), wasm_i8x16_lt(q, wasm_i8x16_splat(0))};
}

#define KERNEL(name)       name##_relaxed
#define CODES_OF(q)        codes_split(q)
#define CODES_REST(q, sum) \
  wasm_i32x4_relaxed_dot_i8x16_i7x16_add((q).signs, (q).magnitudes, sum)
#define CODES_ADD(k, q, sum) \
  wasm_i32x4_relaxed_dot_i8x16_i7x16_add(wasm_v128_xor(k, (q).signs), (q).magnitudes, sum)
#include "core/kernels/codes_simd.h"

typedef void scores_function(const i8_rows *, const i8_rows *, size_t, bool, float *, size_t);

/* Whether the engine is right about them (packed_relaxed.c); else sums stay with the reference. */
static bool is_exact(scores_function *known) {
  enum { ROWS = 9, COLUMNS = 16 };
  int8_t codes[ROWS * COLUMNS];
  float ones[ROWS];
  float y[2][ROWS * ROWS];
  i8_rows rows = {codes, ones, ROWS, COLUMNS};
  for (size_t i = 0; i < ROWS * COLUMNS; i++) codes[i] = (int8_t)((int)i * 91 % 255 - 127);
  for (size_t r = 0; r < ROWS; r++) ones[r] = 1.0f;
  scores_function *volatile functions[2] = {known, i8_scores_relaxed};
  for (size_t i = 0; i < 2; i++) functions[i](&rows, &rows, COLUMNS, false, y[i], ROWS);
  return memcmp(y[0], y[1], sizeof y[0]) == 0;
}

void kernels_fill_relaxed_codes(kernel_table *table) {
  if (is_exact(table->i8_scores)) table->i8_scores = i8_scores_relaxed;
}
#else
void kernels_fill_relaxed_codes(kernel_table *table) { (void)table; }
#endif
