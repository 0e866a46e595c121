/* What must not change a bit, and how far a smaller cache may move the logits: on every causal
 * golden model.
 *
 * 1, 2 and 4 threads agree bit for bit, at prefill, token by token and in a batch, in every
 * arithmetic that differs for the model.
 *
 * Bounds for the cache's element type, as the root mean square of what it moves the logits by,
 * relative to theirs. f16 rounds a cached number with a relative error of at most 2^-11, 2^-12 or
 * so in the mean (2.4e-4); i8 rounds it to 127ths of its row's largest number, which is some twice
 * the row's mean: 2 / (254 √3) = 4.5e-3. Where its rows are the keys, queries are rounded in the
 * same way (attention_codes.c), so that a score has two such errors, 6.4e-3 together; the 15 bits
 * of the weights are nothing beside them. To first order the logits move in proportion, by a factor
 * of the model, which is largest here, where weights are random and softmaxes are steep. Measured
 * over all models: at most 1.03e-3 and 2.90e-2 (1.69e-2 with queries in f32), factors of 4.3 and
 * 4.5. i4 rounds a number with an error of 8e-2 of its group's mean (the root of 6.4e-3, for
 * Gaussian numbers in groups of 32): 3.7 times that is 0.30, measured 0.37, where nothing is quite
 * in proportion any more. Half as much again is allowed: one bit less in a row's codes doubles the
 * distance and fails, and so does a row that is read with its neighbour's scale (up to 1.5). With
 * int8 products there is no such bound: a number that moves a little may be rounded to the next of
 * 255 codes. */
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { N_DECODED = 2 };

static const double F16_BOUND = 1.55e-3;
static const double I8_BOUND = 4.35e-2;
static const double I4_BOUND = 5.5e-1;

/* Root mean square of a - b, relative to that of b. */
static double mean_distance(const float *a, const float *b, size_t n) {
  double apart = 0.0;
  double all = 0.0;
  for (size_t i = 0; i < n; i++) {
    double difference = (double)a[i] - (double)b[i];
    apart += difference * difference;
    all += (double)b[i] * (double)b[i];
  }
  return sqrt(apart / all);
}

/* Logits of all rows: a prefill, then the last tokens one by one, then two sessions in a batch. */
static float *run(const golden_data *golden, onekv_pool *pool, onekv_arithmetic arithmetic,
                  onekv_cache_type type, size_t *n) {
  char path[256];
  snprintf(path, sizeof path, "tests/golden/%s.gguf", golden->name);
  onekv_model_options options = {.pool = pool, .arithmetic = arithmetic, .cache_type = type,
                                 .n_logits_max = golden->n_rows};
  onekv_model *model = load_file(path, &options);
  *n = 0;
  if (!shape_of(model).is_causal) {
    CHECK(onekv_model_close(model) == ONEKV_OK);
    return NULL;
  }
  size_t row = golden->n_outputs;
  size_t n_first = golden->n_rows - N_DECODED;
  float *out = check_allocate((golden->n_rows + 2) * row * sizeof *out);
  onekv_session *session = open_session(model, NULL);
  onekv_item item = {session, golden->tokens, n_first, n_first, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  memcpy(out, item.logits, n_first * row * sizeof *out);
  onekv_session *clone = NULL;
  CHECK(onekv_session_clone(session, &clone) == ONEKV_OK);
  for (size_t i = n_first; i < golden->n_rows; i++) {
    const float *logits = feed_tokens(session, model, golden->tokens + i, 1);
    memcpy(out + i * row, logits, row * sizeof *out);
  }
  CHECK(onekv_session_truncate(session, 3) == ONEKV_OK);
  onekv_item pair[2] = {{session, golden->tokens + 3, 1, 1, NULL},
                        {clone, golden->tokens + n_first, N_DECODED, 1, NULL}};
  CHECK(onekv_step(model, pair, 2, NULL) == ONEKV_OK);
  for (size_t i = 0; i < 2; i++) {
    memcpy(out + (golden->n_rows + i) * row, pair[i].logits, row * sizeof *out);
  }
  onekv_session_close(session);
  onekv_session_close(clone);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  *n = (golden->n_rows + 2) * row;
  return out;
}

/* In the batch, rows 3 and the last of the prefill come again. */
static void check_batch(const golden_data *golden, const float *logits) {
  size_t row = golden->n_outputs;
  CHECK_SAME_FLOATS(logits + golden->n_rows * row, logits + 3 * row, row);
  CHECK_SAME_FLOATS(logits + (golden->n_rows + 1) * row, logits + (golden->n_rows - 1) * row, row);
}

/* [n] logits, the caller's, that are the same with 1, 2 and 4 threads; NULL if not causal. */
static float *check_threads(const golden_data *golden, onekv_pool *const pools[3],
                            onekv_arithmetic arithmetic, size_t *n) {
  float *expected = run(golden, pools[0], arithmetic, ONEKV_CACHE_F32, n);
  for (size_t k = 1; k < 3 && expected != NULL; k++) {
    float *found = run(golden, pools[k], arithmetic, ONEKV_CACHE_F32, n);
    CHECK_SAME_FLOATS(found, expected, *n);
    free(found);
  }
  if (expected != NULL) check_batch(golden, expected);
  return expected;
}

static double check_cache(const golden_data *golden, onekv_pool *pool, const float *expected,
                          onekv_cache_type type, double bound) {
  size_t n = 0;
  float *found = run(golden, pool, ONEKV_INT16, type, &n);
  double distance = mean_distance(found, expected, n);
  CHECK_SAY(distance > 0.0 && distance <= bound, "cache type %d: %g", (int)type, distance);
  check_batch(golden, found);
  free(found);
  return distance;
}

int main(void) {
  static const size_t THREADS[] = {1, 2, 4};
  size_t n_names = 0;
  size_t n_causal = 0;
  double largest_f16 = 0.0;
  double largest_i8 = 0.0;
  double largest_i4 = 0.0;
  char **names = golden_names(&n_names);
  onekv_pool *pools[3];
  for (size_t i = 0; i < 3; i++) pools[i] = open_pool(THREADS[i]);
  for (size_t i = 0; i < n_names; i++) {
    golden_data golden = golden_read(names[i]);
    size_t n = 0;
    check_state.context = golden.name;
    if (is_quantised(names[i])) {
      free(check_threads(&golden, pools, ONEKV_INT8, &n));
    }
    float *expected = check_threads(&golden, pools, ONEKV_INT16, &n);
    if (expected != NULL) {
      largest_f16 = fmax(largest_f16, check_cache(&golden, pools[1], expected, ONEKV_CACHE_F16,
                                                  F16_BOUND));
      largest_i8 = fmax(largest_i8, check_cache(&golden, pools[1], expected, ONEKV_CACHE_I8,
                                                I8_BOUND));
      largest_i4 = fmax(largest_i4, check_cache(&golden, pools[1], expected, ONEKV_CACHE_I4,
                                                I4_BOUND));
      n_causal++;
    }
    free(expected);
    golden_free(&golden);
    free(names[i]);
  }
  check_state.context = NULL;
  free(names);
  for (size_t i = 0; i < 3; i++) onekv_pool_close(pools[i]);
  printf("%zu causal models; cache against f32: f16 %.2g, i8 %.2g, i4 %.2g\n", n_causal,
         largest_f16, largest_i8, largest_i4);
  CHECK_SAY(n_causal >= 60, "only %zu causal models", n_causal);
  return check_finish();
}
