/* Attention over rows of bytes in integers: every variant has the bits of the scalar reference,
 * which is compared with sums in double. The bound there is that of two roundings of a product
 * and of one sum, 2^-22 of what is summed. */
#include "tests/native/check.h"
#include "core/kernels/kernels.h"

enum { COLUMNS_MAX = 70, ROWS_MAX = 33, QUERIES_MAX = 5, ODD = 3 };

typedef struct fixture {
  size_t n_keys, n_queries, n_columns, stride;
  check_guard keys, queries; /* exact extents: nothing is read beyond them */
  float key_scales[ROWS_MAX + 1], query_scales[QUERIES_MAX + 1];
} fixture;

/* A scale of 0, one that is not finite, or any. */
static float random_scale(float odd) {
  size_t kind = check_random_below(64);
  return kind == 0 ? 0.0f : kind == 1 ? odd : fabsf(check_random_float(2.0f));
}

static check_guard random_codes(size_t n_rows, size_t stride, size_t n_columns) {
  size_t n = n_rows == 0 ? 0 : (n_rows - 1) * stride + n_columns;
  check_guard guard = check_guard_take(n, check_random_below(16));
  for (size_t i = 0; i < n; i++) {
    guard.start[i] = (uint8_t)(int8_t)((int)check_random_below(255) - 127);
  }
  /* The largest sums. */
  if (n > 0 && check_random_below(4) == 0) memset(guard.start, n_rows % 2 == 0 ? 127 : 129, n);
  return guard;
}

static fixture fixture_take(size_t n_columns) {
  fixture f = {.n_keys = check_random_below(ROWS_MAX + 1),
               .n_queries = check_random_below(QUERIES_MAX + 1),
               .n_columns = n_columns,
               .stride = n_columns + check_random_below(3)};
  f.keys = random_codes(f.n_keys, f.stride, n_columns);
  f.queries = random_codes(f.n_queries, f.stride, n_columns);
  for (size_t i = 0; i < f.n_keys; i++) f.key_scales[i] = random_scale(NAN);
  for (size_t i = 0; i < f.n_queries; i++) f.query_scales[i] = random_scale(INFINITY);
  return f;
}

static void fixture_free(fixture *f) {
  CHECK(check_guard_is_whole(&f->keys) && check_guard_is_whole(&f->queries));
  check_guard_free(&f->keys);
  check_guard_free(&f->queries);
}

static void test_scores(const kernel_table *scalar, const kernel_table *table, size_t n_columns) {
  check_state.context = "i8_scores";
  fixture f = fixture_take(n_columns);
  size_t y_stride = f.n_keys + ODD;
  size_t n = f.n_queries * y_stride;
  float *expected = check_allocate((n + 1) * sizeof(float));
  float *found = check_allocate((n + 1) * sizeof(float));
  for (size_t i = 0; i < n; i++) found[i] = expected[i] = check_random_float(1.0f);
  i8_rows keys = {(const int8_t *)f.keys.start, f.key_scales, f.n_keys, f.stride};
  i8_rows queries = {(const int8_t *)f.queries.start, f.query_scales, f.n_queries, f.stride};
  for (int adds = 0; adds < 2; adds++) {
    scalar->i8_scores(&keys, &queries, n_columns, adds != 0, expected, y_stride);
    table->i8_scores(&keys, &queries, n_columns, adds != 0, found, y_stride);
    CHECK_SAME_FLOATS(found, expected, n);
  }
  for (size_t i = 0; i < f.n_queries * f.n_keys; i++) {
    size_t q = i / f.n_keys;
    size_t p = i % f.n_keys;
    double sum = 0.0;
    for (size_t c = 0; c < n_columns; c++) {
      sum += (double)keys.codes[p * f.stride + c] * (double)queries.codes[q * f.stride + c];
    }
    sum *= 2.0 * (double)f.query_scales[q] * (double)f.key_scales[p];
    if (isfinite(sum)) CHECK_CLOSE(found[q * y_stride + p], sum, 0x1p-22 * fabs(sum));
  }
  free(expected);
  free(found);
  fixture_free(&f);
}

/* Codes of weights as softmax leaves them, or tiny, or none. */
static void test_weights(const kernel_table *scalar, const kernel_table *table, size_t n) {
  check_state.context = "i16_weights";
  static const float LIMITS[] = {1.0f, 0.0f, 1e-36f, 1e-44f};
  for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
    float expected[ROWS_MAX + 1], found[ROWS_MAX + 1], scales[ROWS_MAX + 1];
    int16_t expected_codes[ROWS_MAX + 2], found_codes[ROWS_MAX + 2];
    float expected_step = -1.0f;
    float found_step = -2.0f;
    for (size_t p = 0; p < n; p++) {
      expected[p] = found[p] = fabsf(check_random_float(LIMITS[i]));
      scales[p] = random_scale(check_random_below(2) == 0 ? NAN : INFINITY);
    }
    found_codes[n + n % 2] = expected_codes[n + n % 2] = 77; /* not to be written */
    scalar->i16_weights(expected, scales, n, expected_codes, &expected_step);
    table->i16_weights(found, scales, n, found_codes, &found_step);
    CHECK_SAME_FLOATS(found, expected, n);
    CHECK_SAME_FLOATS(&found_step, &expected_step, 1);
    CHECK(memcmp(found_codes, expected_codes, (n + n % 2 + 1) * sizeof(int16_t)) == 0);
    bool is_near = true;
    for (size_t p = 0; p < n && isfinite(found_step) && LIMITS[i] == 1.0f; p++) {
      double step = (double)found_step;
      is_near = is_near && fabs((double)found[p] - found_codes[p] * step) <= 0.51 * step;
    }
    CHECK(is_near);
  }
}

static void test_attend(const kernel_table *scalar, const kernel_table *table, size_t n_columns) {
  check_state.context = "i8_attend";
  fixture f = fixture_take(n_columns);
  size_t stride = f.n_keys + f.n_keys % 2 + 2 * check_random_below(2);
  size_t out_stride = n_columns + ODD;
  size_t n = f.n_queries * out_stride;
  int16_t *weights = check_allocate((f.n_queries * stride + 1) * sizeof(int16_t));
  float *expected = check_allocate((n + 1) * sizeof(float));
  float *found = check_allocate((n + 1) * sizeof(float));
  float factors[QUERIES_MAX + 1];
  for (size_t i = 0; i < n; i++) found[i] = expected[i] = check_random_float(1.0f);
  for (size_t q = 0; q < f.n_queries; q++) {
    factors[q] = fabsf(check_random_float(1.0f));
    for (size_t p = 0; p < stride; p++) {
      weights[q * stride + p] = p < f.n_keys ? (int16_t)check_random_below(32768) : 0;
    }
  }
  i8_rows values = {(const int8_t *)f.keys.start, NULL, f.n_keys, f.stride};
  scalar->i8_attend(weights, stride, f.n_queries, &values, n_columns, f.query_scales, factors,
                    expected, out_stride);
  for (size_t i = 0; i < f.n_queries * n_columns; i++) {
    size_t q = i / n_columns;
    size_t c = i % n_columns;
    double sum = 0.0;
    for (size_t p = 0; p < f.n_keys; p++) {
      sum += (double)weights[q * stride + p] * (double)values.codes[p * f.stride + c];
    }
    double before = (double)found[q * out_stride + c] * (double)factors[q];
    sum *= (double)f.query_scales[q];
    if (!isfinite(sum)) continue;
    CHECK_CLOSE(expected[q * out_stride + c], before + sum, 0x1p-22 * (fabs(before) + fabs(sum)));
  }
  table->i8_attend(weights, stride, f.n_queries, &values, n_columns, f.query_scales, factors,
                   found, out_stride);
  CHECK_SAME_FLOATS(found, expected, n);
  free(weights);
  free(expected);
  free(found);
  fixture_free(&f);
}

int main(void) {
  kernel_table scalar;
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  check_seed(20261128);
  for (int level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)level);
    printf("kernels: %s\n", table.name);
    for (size_t round = 0; round < 6; round++) {
      for (size_t n = 0; n < COLUMNS_MAX; n++) {
        test_scores(&scalar, &table, n);
        test_attend(&scalar, &table, n);
        if (n < ROWS_MAX) test_weights(&scalar, &table, n);
      }
    }
  }
  return check_finish();
}
