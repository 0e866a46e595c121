/* Attention by itself: every way a cached row becomes keys and values, in every element type of the
 * cache, against the formula in double over the same rows, at lengths around tiles and ranges; and
 * the same bits however the rows come in and at any number of threads.
 *
 * The formula's rows are those that the cache gives back, which are checked against what was
 * written: half a step of the element type, so that the bound below is the same for all types.
 *
 * Bound: scores are σ α (q · k) with |q · k| <= 64 u-sized errors of products of numbers below 4;
 * rotations add a few u to each side. Here |scores| < 40, so a weight exp(s) moves by less than
 * 1e-4 of itself and outputs, means of numbers below 2, by less than 2e-4. A wrong position or a
 * range merged wrongly moves them by 1e-2 and more. */
#include "tests/native/attention_bench.h"
#include "tests/native/check.h"
#include "core/net/attention.h"
#include "tests/native/tiny_model.h"

enum { POSITIONS = 3 * ATTENTION_RANGE + 45, ROWS = 70, LAYER = 1, LAYERS = 2 };

static const double TOLERANCE = 2e-4;

typedef struct variant {
  const char *name;
  onekv_sharing sharing;
  onekv_position position;
  size_t n_heads, n_kv_heads, head_width, n_rotated;
  bool halves, unrotates, causal, has_bias, has_norm;
} variant;

static const variant VARIANTS[] = {
    {"Q-K=V MQA", ONEKV_SHARE_KV, ONEKV_ROPE, 6, 1, 16, 16, true, false, true, false, false},
    {"Q-K=V MQA adjacent", ONEKV_SHARE_KV, ONEKV_ROPE, 5, 1, 12, 12, false, false, true, false,
     false},
    {"Q-K=V partial", ONEKV_SHARE_KV, ONEKV_ROPE, 4, 2, 20, 6, true, false, true, false, false},
    {"Q-K=V norm", ONEKV_SHARE_KV, ONEKV_ROPE, 4, 1, 8, 4, false, false, true, false, true},
    {"Q-K=V many heads", ONEKV_SHARE_KV, ONEKV_ROPE, 71, 1, 4, 4, true, false, true, false, false},
    {"Q-K=V unrotate", ONEKV_SHARE_KV, ONEKV_ROPE, 4, 1, 8, 8, true, true, true, false, false},
    {"QKV MHA", ONEKV_SHARE_NONE, ONEKV_ROPE, 5, 5, 7, 6, true, false, true, false, false},
    {"QKV MHA wide", ONEKV_SHARE_NONE, ONEKV_ROPE, 2, 2, 44, 44, true, false, true, false, false},
    {"Q=K=V learned", ONEKV_SHARE_ALL, ONEKV_LEARNED, 6, 2, 9, 0, false, false, true, false, false},
    {"Q=K-V (X)+", ONEKV_SHARE_QK, ONEKV_POSITION_NONE, 4, 4, 16, 0, false, false, false, true,
     false},
};

typedef struct fixture {
  onekv_config config;
  const layer_kind *kind;
  kernel_table kernels;
  memory_ledger memory;
  kv_pool pages;
  kv_cache cache;
  rope_tables rope;
  void *rope_block;
  size_t n_rope_bytes;
  float *bias;    /* [POSITIONS] or NULL */
  float *norm;    /* [h] or NULL */
  float *shared;  /* [POSITIONS][g][h]: what the cache keeps of the rows written as keys */
  float *values;  /* the same of values */
  float *queries; /* [ROWS][H][h] */
} fixture;

static float *random_floats(size_t n, float limit) {
  float *x = check_allocate(n * sizeof *x);
  for (size_t i = 0; i < n; i++) x[i] = check_random_float(limit);
  return x;
}

static void open_rope(fixture *f) {
  if (f->config.position != ONEKV_ROPE) return;
  memory_arena arena = {0};
  rope_tables_make(&f->kind->rope, POSITIONS, NULL, &arena, &f->rope);
  f->n_rope_bytes = arena.n_used;
  f->rope_block = memory_take(&f->memory, MEMORY_SCRATCH, f->n_rope_bytes);
  arena = (memory_arena){f->rope_block, 0, false};
  rope_tables_make(&f->kind->rope, POSITIONS, NULL, &arena, &f->rope);
}

/* Rows [POSITIONS][g][h] as they were written become those that the cache gives back. */
static void read_back(fixture *f, kv_stream stream, float *rows) {
  size_t h = f->kind->key_width;
  size_t n_heads = f->kind->n_kv_heads;
  float *scratch = check_allocate(KV_PAGE_POSITIONS * h * sizeof *scratch);
  double furthest = 0.0; /* in half steps: 2^-11 of a number, or 1/254 of its row's largest, of i4
                            14.6/127 of it (test_kernels_exact.c) */
  for (size_t i = 0; i < POSITIONS * n_heads; i++) {
    size_t in_page = i / n_heads % KV_PAGE_POSITIONS;
    const float *tile = kv_cache_read(&f->cache, LAYER, stream, i % n_heads,
                                      i / n_heads / KV_PAGE_POSITIONS, in_page + 1, scratch);
    float *row = rows + i * h;
    double largest = 0.0;
    for (size_t c = 0; c < h; c++) largest = fmax(largest, fabs((double)row[c]));
    for (size_t c = 0; c < h; c++) {
      double found = (double)tile[in_page * h + c];
      const double half_steps[ONEKV_CACHE_TYPE_COUNT] = {
          fmax(fabs((double)row[c]), 0x1p-14) * 0x1p-11, 1e-30, largest / 254.0,
          largest * 14.6 / 127.0};
      double half_step = half_steps[f->pages.layout.type];
      furthest = fmax(furthest, fabs(found - (double)row[c]) / half_step);
      row[c] = (float)found;
    }
  }
  CHECK_SAY(furthest <= 1.0001, "a cached number is off by %g half steps", furthest);
  CHECK(f->pages.layout.type == ONEKV_CACHE_F32 ? furthest == 0.0 : furthest > 0.5);
  free(scratch);
}

static void fixture_open(fixture *f, const variant *v, onekv_level level, onekv_cache_type type) {
  bool shares_row = v->sharing == ONEKV_SHARE_KV || v->sharing == ONEKV_SHARE_ALL;
  bool at_read = shares_row && !v->unrotates && (v->n_rotated > 0 || v->has_norm);
  *f = (fixture){.config = {.n_layers = LAYERS,
                            .context_window = POSITIONS,
                            .position = v->position,
                            .norm_epsilon = 1e-5f,
                            .causal = v->causal,
                            .has_qk_norm = v->has_norm,
                            .n_kinds = 1,
                            .cached_by = {0, 1}}};
  f->config.kinds[0] = (layer_kind){
      .n_heads = v->n_heads,
      .n_kv_heads = v->n_kv_heads,
      .key_width = v->head_width,
      .value_width = v->head_width,
      .shares_row = shares_row,
      .query_is_key = v->sharing == ONEKV_SHARE_QK || v->sharing == ONEKV_SHARE_ALL,
      .keys = v->unrotates ? KEYS_AND_BACK : at_read ? KEYS_AT_READ : KEYS_AT_WRITE,
      .rope = {.n_rotated = v->n_rotated, .halves = v->halves, .base = 100.0f,
               .factor = 1.0f, .attention_factor = 1.25f}};
  f->kind = &f->config.kinds[0];
  kernels_select(&f->kernels, level);
  memory_init(&f->memory, NULL);
  CHECK(kv_pool_open(&f->pages, &f->memory, &f->kernels, &f->config, type) == ONEKV_OK);
  CHECK(kv_cache_open(&f->pages, POSITIONS, &f->cache) == ONEKV_OK);
  CHECK(kv_cache_reserve(&f->cache, POSITIONS) == ONEKV_OK);
  open_rope(f);
  size_t width = v->n_kv_heads * v->head_width;
  f->bias = v->has_bias ? random_floats(POSITIONS, 1.0f) : NULL;
  f->norm = v->has_norm ? random_floats(v->head_width, 1.5f) : NULL;
  f->shared = random_floats(POSITIONS * width, 2.0f);
  f->values = random_floats(POSITIONS * width, 2.0f);
  f->queries = random_floats(ROWS * v->n_heads * v->head_width, 2.0f);
  for (size_t p = 0; p < POSITIONS; p++) {
    kv_cache_write(&f->cache, LAYER, KV_ROW, p, f->shared + p * width);
    if (!f->kind->shares_row) {
      kv_cache_write(&f->cache, LAYER, KV_VALUE, p, f->values + p * width);
    }
  }
  read_back(f, KV_ROW, f->shared);
  if (!f->kind->shares_row) read_back(f, KV_VALUE, f->values);
}

static void fixture_close(fixture *f) {
  kv_cache_close(&f->cache);
  kv_pool_close(&f->pages);
  if (f->rope_block != NULL) {
    memory_give_back(&f->memory, MEMORY_SCRATCH, f->rope_block, f->n_rope_bytes);
  }
  CHECK(f->memory.n_bytes_total == 0);
  free(f->bias);
  free(f->norm);
  free(f->shared);
  free(f->values);
  free(f->queries);
}

static bool rotates_at_read(const fixture *f) {
  return f->kind->keys == KEYS_AT_READ && f->kind->rope.n_rotated > 0;
}

/* out [rows][H][h] of the slices, whose rows' queries stand one behind the other from `first`. */
static void run(fixture *f, onekv_pool *pool, const sequence_slice *slices, size_t n_slices,
                size_t first, float *out) {
  size_t n_floats = attention_scratch_floats(&f->config, pool_n_most(pool));
  float *scratch = check_allocate(n_floats * sizeof *scratch);
  memset(scratch, 0xff, n_floats * sizeof *scratch); /* NaN: nothing is read before it is set */
  size_t row = f->kind->n_heads * f->kind->key_width;
  attention_call call = {.config = &f->config,
                         .kernels = &f->kernels,
                         .kind = f->kind,
                         .rope = rotates_at_read(f) ? &f->rope : NULL,
                         .slices = slices,
                         .n_slices = n_slices,
                         .layer = LAYER,
                         .score_scale = 0.2f,
                         .key_bias = f->bias,
                         .key_norm = f->norm,
                         .queries = f->queries + first * row,
                         .out = out,
                         .scratch = scratch};
  attention(pool, &call);
  free(scratch);
}

/* The shared row of a position as its key, in double. */
static void expected_key(const fixture *f, size_t position, size_t kv_head, double *key) {
  const onekv_config *config = &f->config;
  size_t h = f->kind->key_width;
  const float *row = f->shared + (position * f->kind->n_kv_heads + kv_head) * h;
  double square = 0.0;
  for (size_t c = 0; c < h; c++) square += (double)row[c] * (double)row[c];
  double factor = 1.0 / sqrt(square / (double)h + (double)config->norm_epsilon);
  for (size_t c = 0; c < h; c++) {
    key[c] = f->norm == NULL ? (double)row[c] : (double)row[c] * factor * (double)f->norm[c];
  }
  if (!rotates_at_read(f)) return;
  size_t n_pairs = f->kind->rope.n_rotated / 2;
  for (size_t i = 0; i < n_pairs; i++) {
    double angle =
        (double)position * pow((double)f->kind->rope.base, -(double)i / (double)n_pairs);
    double m = (double)f->kind->rope.attention_factor;
    size_t first = f->kind->rope.halves ? i : 2 * i;
    size_t second = f->kind->rope.halves ? i + n_pairs : 2 * i + 1;
    double a = key[first];
    double b = key[second];
    key[first] = m * (a * cos(angle) - b * sin(angle));
    key[second] = m * (a * sin(angle) + b * cos(angle));
  }
}

/* σ α q [h] as attention has it: with an i8 cache whose rows are its keys, rounded as they are. */
static void expected_query(const fixture *f, const float *query, float *scaled) {
  size_t h = f->kind->key_width;
  for (size_t c = 0; c < h; c++) scaled[c] = 0.2f * query[c];
  if (f->pages.layout.type != ONEKV_CACHE_I8 || rotates_at_read(f) || f->norm != NULL) return;
  int8_t *codes = check_allocate(h);
  float scale = 0.0f;
  f->kernels.i8_encode(scaled, h, codes, &scale);
  f->kernels.i8_decode(codes, h, scale, scaled);
  free(codes);
}

/* softmax(σ α q Kᵀ + κ) V of one query head over n positions. */
static void expected_head(const fixture *f, const float *query, size_t head, size_t n,
                          double *out) {
  size_t h = f->kind->key_width;
  size_t kv_head = head / (f->kind->n_heads / f->kind->n_kv_heads);
  double *key = check_allocate(h * sizeof *key);
  float *scaled = check_allocate(h * sizeof *scaled);
  double sum = 0.0;
  expected_query(f, query, scaled);
  for (size_t c = 0; c < h; c++) out[c] = 0.0;
  for (size_t p = 0; p < n; p++) {
    double score = f->bias != NULL ? (double)f->bias[p] : 0.0;
    expected_key(f, p, kv_head, key);
    for (size_t c = 0; c < h; c++) score += key[c] * (double)scaled[c];
    const float *values = f->kind->shares_row ? f->shared : f->values;
    sum += exp(score);
    for (size_t c = 0; c < h; c++) {
      out[c] += exp(score) * (double)values[(p * f->kind->n_kv_heads + kv_head) * h + c];
    }
  }
  for (size_t c = 0; c < h; c++) out[c] /= sum;
  free(key);
  free(scaled);
}

static void check_formula(fixture *f, onekv_pool *pool, size_t first, size_t n_rows) {
  size_t h = f->kind->key_width;
  size_t n_heads = f->kind->n_heads;
  sequence_slice slice = {&f->cache, 0, n_rows, first};
  float *out = random_floats(n_rows * n_heads * h, 1.0f);
  double *expected = check_allocate(h * sizeof *expected);
  double furthest = 0.0;
  run(f, pool, &slice, 1, 0, out);
  for (size_t i = 0; i < n_rows * n_heads; i += 1 + n_rows * n_heads / 12) {
    size_t n_seen = f->config.causal ? first + i / n_heads + 1 : first + n_rows;
    expected_head(f, f->queries + i * h, i % n_heads, n_seen, expected);
    for (size_t c = 0; c < h; c++) {
      furthest = fmax(furthest, fabs((double)out[i * h + c] - expected[c]));
    }
  }
  CHECK_SAY(furthest < TOLERANCE, "%zu rows after %zu: off by %g", n_rows, first, furthest);
  free(out);
  free(expected);
}

/* A run of rows at once, one by one, in two runs, and as a batch of two sequences. */
static void check_bits(fixture *f, onekv_pool *const *pools, size_t n_pools, size_t first,
                       size_t n_rows) {
  size_t row = f->kind->n_heads * f->kind->key_width;
  float *expected = random_floats(n_rows * row, 1.0f);
  float *found = random_floats(n_rows * row, 1.0f);
  sequence_slice all = {&f->cache, 0, n_rows, first};
  run(f, pools[0], &all, 1, 0, expected);
  for (size_t k = 0; k < n_pools; k++) {
    run(f, pools[k], &all, 1, 0, found);
    CHECK_SAME_FLOATS(found, expected, n_rows * row);
    if (!f->config.causal) continue;
    for (size_t i = 0; i < n_rows; i++) {
      sequence_slice one = {&f->cache, 0, 1, first + i};
      run(f, pools[k], &one, 1, i, found + i * row);
    }
    CHECK_SAME_FLOATS(found, expected, n_rows * row);
    size_t half = n_rows / 2;
    sequence_slice parts[2] = {{&f->cache, 0, half, first},
                               {&f->cache, half, n_rows - half, first + half}};
    if (half == 0) continue;
    run(f, pools[k], parts, 2, 0, found);
    CHECK_SAME_FLOATS(found, expected, n_rows * row);
  }
  free(expected);
  free(found);
}

/* The short form: one position, a range and one, and all, with a few rows. */
static void check_variant(const variant *v, onekv_level level, onekv_cache_type type,
                          onekv_pool *const *pools, size_t n_pools, bool is_short) {
  static const size_t LENGTHS[] = {1,
                                   31,
                                   33,
                                   ATTENTION_RANGE,
                                   ATTENTION_RANGE + 1,
                                   2 * ATTENTION_RANGE,
                                   2 * ATTENTION_RANGE + 65,
                                   POSITIONS};
  fixture f;
  fixture_open(&f, v, level, type);
  check_state.context = v->name;
  for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
    size_t length = LENGTHS[i];
    if (is_short && i % 4 != 0 && length < POSITIONS) continue;
    size_t most = is_short ? 6 : ROWS;
    size_t n_rows = length < most ? length : most;
    check_formula(&f, pools[i % n_pools], length - 1, 1);
    check_formula(&f, pools[i % n_pools], length - n_rows, n_rows);
    check_bits(&f, pools, n_pools, length - n_rows, n_rows);
    check_bits(&f, pools, n_pools, length - 1, 1);
  }
  fixture_close(&f);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
    bench_attention();
    return 0;
  }
  static const size_t THREADS[] = {1, 2, 3};
  onekv_pool *pools[3];
  bool is_short = check_is_short(argc, argv);
  check_seed(20261122);
  for (size_t i = 0; i < 3; i++) pools[i] = open_pool(THREADS[i]);
  for (size_t i = 0; i < sizeof VARIANTS / sizeof VARIANTS[0]; i++) {
    check_variant(&VARIANTS[i], ONEKV_LEVEL_BEST, ONEKV_CACHE_F32, pools, 3, is_short);
    check_variant(&VARIANTS[i], ONEKV_LEVEL_BEST, ONEKV_CACHE_F16, pools, 3, true);
    check_variant(&VARIANTS[i], ONEKV_LEVEL_BEST, ONEKV_CACHE_I8, pools, 3, true);
    check_variant(&VARIANTS[i], ONEKV_LEVEL_BEST, ONEKV_CACHE_I4, pools, 3, true);
  }
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    check_variant(&VARIANTS[0], ONEKV_LEVEL_SCALAR, (onekv_cache_type)type, pools, 3, true);
  }
  for (size_t i = 0; i < 3; i++) onekv_pool_close(pools[i]);
  return check_finish();
}
