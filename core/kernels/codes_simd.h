/* Sums of products of rows of bytes with one query's, the bits of codes_scalar.c; the including
 * file says how sixteen columns are multiplied:
 *   KERNEL(name)
 *   CODES_OF(q)             codes_query of sixteen of a query's bytes
 *   CODES_ADD(k, q, sum)    i32x4 sum + products with sixteen of a key's bytes
 *   CODES_REST(q, sum)      i32x4 sum, which the sums of all keys are less
 * Integers are the same in any order. */
/* The sums of four vectors. */
SIMD_INLINE v128_t KERNEL(sum_each)(const v128_t *x) {
  v128_t a = wasm_i32x4_add(wasm_i32x4_shuffle(x[0], x[1], 0, 4, 2, 6),
                            wasm_i32x4_shuffle(x[0], x[1], 1, 5, 3, 7));
  v128_t b = wasm_i32x4_add(wasm_i32x4_shuffle(x[2], x[3], 0, 4, 2, 6),
                            wasm_i32x4_shuffle(x[2], x[3], 1, 5, 3, 7));
  return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 1, 4, 5),
                        wasm_i32x4_shuffle(a, b, 2, 3, 6, 7));
}

/* sums[n] of n keys, a constant at every call: CODES_KEYS or one. */
SIMD_INLINE void KERNEL(scores_tile)(const int8_t *keys, size_t stride, const size_t n,
                                     const int8_t *query, size_t n_columns, int32_t *sums) {
  enum { COLUMNS = 16 };
  const v128_t zero = wasm_i32x4_splat(0);
  v128_t all[CODES_KEYS];
  v128_t rest = zero;
  for (size_t r = 0; r < CODES_KEYS; r++) all[r] = zero;
  size_t c = 0;
  ROLLED for (; c + COLUMNS <= n_columns; c += COLUMNS) {
    codes_query q = CODES_OF(wasm_v128_load(query + c));
    rest = CODES_REST(q, rest);
    for (size_t r = 0; r < n; r++) {
      all[r] = CODES_ADD(wasm_v128_load(keys + r * stride + c), q, all[r]);
    }
  }
  for (size_t r = 0; r < n; r++) all[r] = wasm_i32x4_sub(all[r], rest);
  for (size_t r = 0; r < n; r += LANES) {
    v128_t found = KERNEL(sum_each)(all + r);
    if (n == 1) wasm_v128_store32_lane(sums, found, 0);
    else wasm_v128_store(sums + r, found);
  }
  if (c < n_columns) codes_add_rest(keys, stride, n, query, c, n_columns, sums);
}

static void KERNEL(i8_scores)(const i8_rows *keys, const i8_rows *queries, size_t n_columns,
                              bool adds, float *y, size_t y_stride) {
  for (size_t q = 0; q < queries->n; q++, y += y_stride) {
    const int8_t *query = queries->codes + q * queries->stride;
    int32_t sums[CODES_KEYS];
    size_t n = 0;
    for (size_t p = 0; p < keys->n; p += n) {
      const int8_t *from = keys->codes + p * keys->stride;
      n = keys->n - p < CODES_KEYS ? 1 : CODES_KEYS;
      if (n == 1) KERNEL(scores_tile)(from, keys->stride, 1, query, n_columns, sums);
      else KERNEL(scores_tile)(from, keys->stride, CODES_KEYS, query, n_columns, sums);
      codes_finish(sums, n, queries->scales[q], keys->scales + p, adds, y + p);
    }
  }
}
