/* Kernels with sums or polynomials: each variant of the build against the scalar reference.
 *
 * The reference sums in double, so it stands for the exact result, and a tolerance bounds the
 * variant's own rounding. u = 2^-24 is the largest relative error of one float operation. A sum
 * over n columns in 4 lanes is a chain of at most n/4 + 1 additions and 2 more over the lanes,
 * each product is rounded once more: |error| <= (n/4 + 4) u sum|w x|, to first order; one more
 * u for the rounding of the reference.
 *
 * Inputs are exact-sized heap blocks (sanitizers see an over-read), outputs have canaries, and
 * both start off vector boundaries. */
#include "tests/native/check.h"
#include "core/kernels/kernels.h"
#include "tests/native/kernels_bench.h"

static const double U = 1.0 / 16777216.0;

/* n - 1, n, n + 1 around the vector width, the tiles and their multiples. */
static const size_t SIZES[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,  11,
                               12, 13, 15, 16, 17, 31, 32, 33, 63, 65};
enum { N_SIZES = sizeof SIZES / sizeof SIZES[0] };

static kernel_table scalar;

typedef struct floats {
  float *block;
  float *x; /* [n], 0 to 3 floats into the block */
} floats;

static floats floats_take(size_t n, float limit) {
  size_t shift = check_random_below(4);
  floats taken = {(float *)check_allocate((n + shift) * sizeof(float)), NULL};
  taken.x = taken.block + shift;
  for (size_t i = 0; i < n; i++) taken.x[i] = check_random_float(limit);
  return taken;
}

static floats floats_copy(floats from, size_t n) {
  floats taken = floats_take(n, 1.0f);
  if (n > 0) memcpy(taken.x, from.x, n * sizeof(float));
  return taken;
}

static void floats_free(floats taken) {
  free(taken.block);
}

static float *guard_floats(const check_guard *guard) {
  return (float *)(void *)guard->start;
}

static check_guard guard_of_floats(size_t n) {
  return check_guard_take(n * sizeof(float), 4 * check_random_below(4));
}

/* y[t][r] within the bound of each element, and the bits of the 1 x 1 call. */
static void check_matmul(const kernel_table *table, size_t n_rows, size_t n_tokens, size_t n) {
  size_t w_stride = n + check_random_below(3);
  size_t x_stride = n + check_random_below(3);
  size_t y_stride = n_rows + check_random_below(3);
  floats w = floats_take(n_rows * w_stride, 2.0f);
  floats x = floats_take(n_tokens * x_stride, 2.0f);
  check_guard guard = guard_of_floats(n_tokens * y_stride);
  float *y = guard_floats(&guard);
  table->f32_matmul(w.x, w_stride, n_rows, x.x, x_stride, n_tokens, n, y, y_stride);
  bool close = true;
  bool same = true;
  bool untouched = true;
  for (size_t t = 0; t < n_tokens; t++) {
    for (size_t r = 0; r < n_rows; r++) {
      const float *row = w.x + r * w_stride;
      const float *token = x.x + t * x_stride;
      float found = y[t * y_stride + r];
      float expected, alone;
      double magnitude = 0.0;
      for (size_t c = 0; c < n; c++) magnitude += fabs((double)row[c] * (double)token[c]);
      scalar.f32_matmul(row, n, 1, token, n, 1, n, &expected, 1);
      table->f32_matmul(row, n, 1, token, n, 1, n, &alone, 1);
      close = close && check_is_close((double)found, (double)expected,
                                      ((double)n / 4.0 + 5.0) * U * magnitude);
      same = same && memcmp(&found, &alone, sizeof found) == 0;
    }
    for (size_t r = n_rows; r < y_stride; r++) {
      const uint8_t *gap = (const uint8_t *)&y[t * y_stride + r];
      untouched = untouched && gap[0] == CHECK_CANARY && gap[3] == CHECK_CANARY;
    }
  }
  CHECK(close);
  CHECK(same);
  CHECK(untouched);
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(w);
  floats_free(x);
}

static void test_matmul(const kernel_table *table) {
  check_state.context = "f32_matmul";
  for (size_t i = 0; i < N_SIZES; i++) {
    for (size_t n_tokens = 0; n_tokens <= 9; n_tokens++) {
      for (size_t n_rows = 0; n_rows <= 17; n_rows++) {
        check_matmul(table, n_rows, n_tokens, SIZES[i]);
      }
    }
  }
  check_matmul(table, 19, 7, 1023);
  check_matmul(table, 3, 2, 4099);
}

/* sum_p is a chain of n_positions multiply-adds after out · factor: (n_positions + 3) u. */
static void check_attend(const kernel_table *table, size_t n_queries, size_t n_positions,
                         size_t n) {
  size_t weights_stride = n_positions + check_random_below(3);
  size_t v_stride = n + check_random_below(3);
  size_t out_stride = n + check_random_below(3);
  floats weights = floats_take(n_queries * weights_stride, 1.0f);
  floats v = floats_take(n_positions * v_stride, 2.0f);
  floats factors = floats_take(n_queries, 1.0f);
  floats before = floats_take(n_queries * out_stride, 2.0f);
  floats alone = floats_copy(before, n_queries * out_stride);
  floats exact = floats_copy(before, n_queries * out_stride);
  check_guard guard = guard_of_floats(n_queries * out_stride);
  float *out = guard_floats(&guard);
  memcpy(out, before.x, n_queries * out_stride * sizeof(float));
  table->f32_attend(weights.x, weights_stride, n_queries, v.x, v_stride, n_positions, n, factors.x,
                    out, out_stride);
  bool close = true;
  for (size_t q = 0; q < n_queries; q++) {
    const float *w = weights.x + q * weights_stride;
    float *one = alone.x + q * out_stride;
    float *reference = exact.x + q * out_stride;
    table->f32_attend(w, 0, 1, v.x, v_stride, n_positions, n, factors.x + q, one, 0);
    scalar.f32_attend(w, 0, 1, v.x, v_stride, n_positions, n, factors.x + q, reference, 0);
    for (size_t c = 0; c < n; c++) {
      double magnitude = fabs((double)before.x[q * out_stride + c] * (double)factors.x[q]);
      for (size_t p = 0; p < n_positions; p++) {
        magnitude += fabs((double)w[p] * (double)v.x[p * v_stride + c]);
      }
      close = close && check_is_close((double)out[q * out_stride + c], (double)reference[c],
                                      ((double)n_positions + 3.0) * U * magnitude);
    }
  }
  CHECK(close);
  /* Also shows that the gaps between rows, which `alone` never had touched, are as before. */
  CHECK_SAME_FLOATS(out, alone.x, n_queries * out_stride);
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(weights);
  floats_free(v);
  floats_free(factors);
  floats_free(before);
  floats_free(alone);
  floats_free(exact);
}

static void test_attend(const kernel_table *table) {
  check_state.context = "f32_attend";
  static const size_t POSITIONS[] = {0, 1, 2, 7, 16, 33};
  for (size_t i = 0; i < N_SIZES; i++) {
    for (size_t n_queries = 0; n_queries <= 9; n_queries++) {
      for (size_t p = 0; p < sizeof POSITIONS / sizeof POSITIONS[0]; p++) {
        check_attend(table, n_queries, POSITIONS[p], SIZES[i]);
      }
    }
  }
}

/* The mean is off by at most (n/8 + 4) u mean|x|, the factor by half of (n/8 + 8) u, and three
 * more operations round: with m = mean|x| · factor the error of an element is below
 * (n/8 + 12) u (|gain| (m + |normal|) + |bias|). */
static void check_norm(const kernel_table *table, size_t n, float shift, bool layer,
                       bool has_bias) {
  floats x = floats_take(n, 3.0f);
  floats gain = floats_take(n, 2.0f);
  floats bias = floats_take(n, 2.0f);
  for (size_t c = 0; c < n; c++) x.x[c] += shift;
  const float *biases = layer && has_bias ? bias.x : NULL;
  floats expected = floats_take(n, 1.0f);
  check_guard guard = guard_of_floats(n);
  float *y = guard_floats(&guard);
  if (layer) {
    scalar.f32_layer_norm(x.x, gain.x, biases, 1e-5f, n, expected.x);
    table->f32_layer_norm(x.x, gain.x, biases, 1e-5f, n, y);
    table->f32_layer_norm(x.x, gain.x, biases, 1e-5f, n, x.x);
  } else {
    scalar.f32_rms_norm(x.x, gain.x, 1e-5f, n, expected.x);
    table->f32_rms_norm(x.x, gain.x, 1e-5f, n, y);
    table->f32_rms_norm(x.x, gain.x, 1e-5f, n, x.x);
  }
  /* |x| <= 3 + shift, and the factor of these rows is below 1 (or n is 1 and normal is 0). */
  double largest = 3.0 + (double)shift;
  bool close = true;
  for (size_t c = 0; c < n; c++) {
    double factor = n < 3 ? 320.0 : 2.0; /* 1 / sqrt(epsilon) when all elements are alike */
    double size = 2.0 * fabs((double)gain.x[c]) * largest * factor +
                  (biases == NULL ? 0.0 : fabs((double)biases[c]));
    double tolerance = ((double)n / 8.0 + 12.0) * U * size;
    close = close && check_is_close((double)y[c], (double)expected.x[c], tolerance);
  }
  CHECK(close);
  CHECK_SAME_FLOATS(x.x, y, n); /* in place gives the same */
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(x);
  floats_free(gain);
  floats_free(bias);
  floats_free(expected);
}

static void test_norms(const kernel_table *table) {
  check_state.context = "norms";
  for (size_t i = 0; i < N_SIZES; i++) {
    check_norm(table, SIZES[i], 0.0f, true, true);
    check_norm(table, SIZES[i], 0.0f, true, false);
    check_norm(table, SIZES[i], 5.0f, true, true); /* a mean far from 0 */
    check_norm(table, SIZES[i], 0.0f, false, false);
  }
  check_norm(table, 1024, 2.0f, true, true);
  check_norm(table, 4097, 0.0f, false, false);
}

typedef void (*activation)(float *x, size_t n);

/* gelu: 4e-8 for the fit of erf, and roundings of x · (1 - tail) or x / (1 + e), 6 u |x| with
 * those of the reference, whose 1 + tanh loses as much again. */
static void check_activation(activation variant, activation reference) {
  enum { N = 4096 };
  for (size_t i = 0; i < N_SIZES; i++) {
    size_t n = i == 0 ? N : SIZES[i];
    floats x = floats_take(n, 12.0f);
    floats expected = floats_copy(x, n);
    check_guard guard = guard_of_floats(n);
    float *y = guard_floats(&guard);
    if (n == N) {
      static const float EDGES[] = {0.0f,   -0.0f, 1e-30f, -1e-30f, 40.0f,
                                    -40.0f, 1e15f, -1e15f, NAN};
      memcpy(x.x, EDGES, sizeof EDGES);
      memcpy(expected.x, EDGES, sizeof EDGES);
    }
    memcpy(y, x.x, n * sizeof(float));
    variant(y, n);
    reference(expected.x, n);
    for (size_t c = 0; c < n; c++) {
      CHECK_CLOSE(y[c], expected.x[c], 4e-8 + 6.0 * U * fabs((double)x.x[c]));
    }
    CHECK(check_guard_is_whole(&guard));
    check_guard_free(&guard);
    floats_free(x);
    floats_free(expected);
  }
}

/* Relative error of exp 3 u and 3 more operations; below 1e-36 the variant may give 0. */
static void check_silu(const kernel_table *table, size_t n, float limit) {
  floats x = floats_take(n, limit);
  floats expected = floats_copy(x, n);
  check_guard guard = guard_of_floats(n);
  float *y = guard_floats(&guard);
  memcpy(y, x.x, n * sizeof(float));
  table->f32_activate[ONEKV_SILU](y, n);
  scalar.f32_activate[ONEKV_SILU](expected.x, n);
  bool close = true;
  for (size_t c = 0; c < n; c++) {
    close = close && check_is_close((double)y[c], (double)expected.x[c],
                                    1e-35 + 8.0 * U * fabs((double)expected.x[c]));
  }
  CHECK(close);
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(x);
  floats_free(expected);
}

static void test_activations(const kernel_table *table) {
  check_state.context = "gelu_erf";
  check_activation(table->f32_activate[ONEKV_GELU_ERF], scalar.f32_activate[ONEKV_GELU_ERF]);
  check_state.context = "gelu_tanh";
  check_activation(table->f32_activate[ONEKV_GELU_TANH], scalar.f32_activate[ONEKV_GELU_TANH]);
  check_state.context = "silu";
  for (size_t i = 0; i < N_SIZES; i++) check_silu(table, SIZES[i], 10.0f);
  check_silu(table, 4096, 10.0f);
  check_silu(table, 4096, 200.0f);
  check_silu(table, 64, 1e30f);
}

/* Each weight: 3 u for exp, 1 u in the difference times its size (below 88), 1e-37 where the
 * variant gives 0. The sum: a chain of n/4 + 3. */
static void check_softmax(const kernel_table *table, size_t n, float limit, float maximum,
                          size_t n_masked) {
  floats scores = floats_take(n, limit);
  for (size_t i = 0; i < n_masked; i++) scores.x[check_random_below(n)] = -INFINITY;
  floats expected = floats_copy(scores, n);
  check_guard guard = guard_of_floats(n);
  float *found = guard_floats(&guard);
  memcpy(found, scores.x, n * sizeof(float));
  float maxima[2] = {maximum, maximum};
  float sums[2] = {3.0f, 3.0f};
  float factor = table->f32_softmax_step(found, n, &maxima[0], &sums[0]);
  float reference = scalar.f32_softmax_step(expected.x, n, &maxima[1], &sums[1]);
  CHECK(maxima[0] == maxima[1]);
  CHECK_CLOSE(factor, reference, 1e-7 * (double)reference);
  CHECK_CLOSE(sums[0], sums[1], ((double)n / 4.0 + 12.0) * U * (double)sums[1]);
  for (size_t i = 0; i < n; i++) {
    CHECK_CLOSE(found[i], expected.x[i], 1e-37 + 5.0 * U * (double)expected.x[i]);
    if (scores.x[i] == -INFINITY) CHECK(found[i] == 0.0f);
  }
  CHECK(check_guard_is_whole(&guard));
  check_guard_free(&guard);
  floats_free(scores);
  floats_free(expected);
}

static void test_softmax(const kernel_table *table) {
  check_state.context = "f32_softmax_step";
  for (size_t i = 1; i < N_SIZES; i++) {
    check_softmax(table, SIZES[i], 10.0f, -INFINITY, 0);
    check_softmax(table, SIZES[i], 10.0f, 2.0f, SIZES[i] / 4);
    check_softmax(table, SIZES[i], 10.0f, 100.0f, 0);    /* the maximum stays */
    check_softmax(table, SIZES[i], 1e30f, -INFINITY, 0); /* all but one vanish */
    check_softmax(table, SIZES[i], 60.0f, -INFINITY, 9 * SIZES[i]);
  }
  check_softmax(table, 4096, 50.0f, -INFINITY, 100);
  float first[5] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
  float maximum = -INFINITY;
  float sum = 0.0f;
  CHECK(table->f32_softmax_step(first, 5, &maximum, &sum) == 1.0f);
  CHECK(first[0] == 0.0f && first[4] == 0.0f && sum == 0.0f && maximum == -INFINITY);
  float next[5] = {1.0f, 2.0f, -INFINITY, 2.0f, 0.0f};
  CHECK(table->f32_softmax_step(next, 5, &maximum, &sum) == 0.0f);
  CHECK(maximum == 2.0f && next[1] == 1.0f && next[2] == 0.0f);
  float poisoned[6] = {1.0f, NAN, 2.0f, 3.0f, 4.0f, 5.0f};
  table->f32_softmax_step(poisoned, 6, &maximum, &sum);
  CHECK(isnan(sum)); /* not hidden: the caller must be able to notice */
}

int main(int argc, char **argv) {
  static const char *const NAMES[] = {"scalar", "simd128", "relaxed"};
  bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
  kernels_select(&scalar, ONEKV_LEVEL_SCALAR);
  check_seed(20261121);
  for (int i = 0; i < 3; i++) {
    kernel_table table;
    kernels_select(&table, (onekv_level)(ONEKV_LEVEL_SCALAR + i));
    if (strcmp(table.name, NAMES[i]) != 0) {
      CHECK(i > 0);
      printf("kernels: %s is not in this build\n", NAMES[i]);
      continue;
    }
    printf("kernels: %s\n", table.name);
    if (bench) {
      bench_kernels(&table);
      continue;
    }
    test_matmul(&table);
    test_attend(&table);
    test_norms(&table);
    test_activations(&table);
    test_softmax(&table);
  }
  kernel_table best;
  kernels_select(&best, ONEKV_LEVEL_BEST);
  CHECK(strcmp(best.name, ONEKV_HAVE_RELAXED   ? "relaxed"
                          : ONEKV_HAVE_SIMD128 ? "simd128"
                                               : "scalar") == 0);
  return check_finish();
}
