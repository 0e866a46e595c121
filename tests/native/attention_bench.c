/* Attention over a filled cache, all layers of a model one after the other as in a step: shape M
 * (12 layers, 12 heads of 64), Q-K=V with MQA and its QKV twins with MHA and GQA, and the latent
 * rows of Youtu-LLM-2B.
 *
 * GFLOP/s count the two products only (a multiply-add as two), so decoding, rotation and exp show
 * as distance from the peak. Best of several runs. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include "tests/native/attention_bench.h"

#include "tests/native/check.h"
#include "core/net/attention.h"
#include "tests/native/tiny_model.h"

#include <time.h>

enum { LAYERS = 12, DEPTH_MAX = 8192, ROWS_MAX = 256 };

typedef struct shape {
  const char *name;
  size_t n_heads, n_kv_heads, key_width, value_width, n_rotated;
  bool shares_row, at_read;
} shape;

static const shape MHA = {"QKV-MHA", 12, 12, 64, 64, 64, false, false};
static const shape GQA_4 = {"QKV-GQA, 4", 12, 3, 64, 64, 64, false, false};
static const shape GQA_8 = {"QKV-GQA, 8", 16, 2, 64, 64, 64, false, false};
static const shape MQA = {"QKV-MQA", 12, 1, 64, 64, 64, false, false};
static const shape SHARED_MQA = {"Q-K=V+MQA", 12, 1, 64, 64, 64, true, true};
static const shape LATENT = {"MLA", 16, 1, 576, 512, 64, true, false};

static const double BUDGET_SECONDS = 0.5; /* of one line */

typedef struct bench {
  onekv_config config;
  const shape *shape;
  kernel_table kernels;
  memory_ledger memory;
  kv_pool pages;
  kv_cache cache;
  rope_tables rope;
  void *rope_block;
  size_t n_rope_bytes;
  float *queries; /* [ROWS_MAX][heads][key_width] */
  float *out;
} bench;

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void fill_cache(bench *b) {
  size_t width = b->shape->n_kv_heads * b->shape->key_width; /* at least that of values */
  float *row = check_allocate(width * sizeof *row);
  CHECK(kv_cache_reserve(&b->cache, DEPTH_MAX) == ONEKV_OK);
  for (size_t position = 0; position < DEPTH_MAX; position++) {
    for (size_t c = 0; c < width; c++) row[c] = check_random_float(1.0f);
    for (size_t layer = 0; layer < LAYERS; layer++) {
      kv_cache_write(&b->cache, layer, KV_ROW, position, row);
      if (!b->config.kinds[0].shares_row) {
        kv_cache_write(&b->cache, layer, KV_VALUE, position, row);
      }
    }
  }
  kv_cache_advance(&b->cache, NULL, DEPTH_MAX);
  free(row);
}

static void bench_open(bench *b, const shape *s, onekv_cache_type type) {
  *b = (bench){.shape = s,
               .config = {.n_layers = LAYERS,
                          .context_window = DEPTH_MAX,
                          .position = ONEKV_ROPE,
                          .causal = true,
                          .n_kinds = 1}};
  for (size_t n = 0; n < LAYERS; n++) b->config.cached_by[n] = (uint16_t)n;
  b->config.kinds[0] = (layer_kind){
      .n_heads = s->n_heads,
      .n_kv_heads = s->n_kv_heads,
      .key_width = s->key_width,
      .value_width = s->value_width,
      .shares_row = s->shares_row,
      .keys = s->at_read ? KEYS_AT_READ : KEYS_AT_WRITE,
      .rope = {.n_rotated = s->n_rotated, .base = 10000.0f, .factor = 1.0f,
               .attention_factor = 1.0f}};
  kernels_select(&b->kernels, ONEKV_LEVEL_BEST);
  memory_init(&b->memory, NULL);
  CHECK(kv_pool_open(&b->pages, &b->memory, &b->kernels, &b->config, type) == ONEKV_OK);
  CHECK(kv_cache_open(&b->pages, DEPTH_MAX, &b->cache) == ONEKV_OK);
  memory_arena count = {0};
  rope_tables_make(&b->config.kinds[0].rope, DEPTH_MAX, NULL, &count, &b->rope);
  b->n_rope_bytes = count.n_used;
  b->rope_block = memory_take(&b->memory, MEMORY_SCRATCH, b->n_rope_bytes);
  memory_arena arena = {b->rope_block, 0, false};
  rope_tables_make(&b->config.kinds[0].rope, DEPTH_MAX, NULL, &arena, &b->rope);
  size_t n = ROWS_MAX * s->n_heads * s->key_width;
  b->queries = check_allocate(n * sizeof *b->queries);
  b->out = check_allocate(n * sizeof *b->out);
  for (size_t i = 0; i < n; i++) b->queries[i] = check_random_float(3.0f);
  fill_cache(b);
}

static void bench_close(bench *b) {
  kv_cache_close(&b->cache);
  kv_pool_close(&b->pages);
  memory_give_back(&b->memory, MEMORY_SCRATCH, b->rope_block, b->n_rope_bytes);
  free(b->queries);
  free(b->out);
}

/* Seconds of one step's attention: n_rows rows that end at `depth`. */
static double time_step(bench *b, onekv_pool *pool, size_t depth, size_t n_rows) {
  sequence_slice slice = {&b->cache, 0, n_rows, depth - n_rows};
  size_t n_floats = attention_scratch_floats(&b->config, pool_n_most(pool));
  float *scratch = check_allocate(n_floats * sizeof *scratch);
  attention_call call = {.config = &b->config,
                         .kind = &b->config.kinds[0],
                         .kernels = &b->kernels,
                         .rope = b->shape->at_read ? &b->rope : NULL,
                         .slices = &slice,
                         .n_slices = 1,
                         .score_scale = 0.125f,
                         .queries = b->queries,
                         .out = b->out,
                         .scratch = scratch};
  double best = 1e9;
  double end = seconds_now() + BUDGET_SECONDS;
  for (size_t run = 0; run < 3 || seconds_now() < end; run++) {
    double start = seconds_now();
    for (call.layer = 0; call.layer < LAYERS; call.layer++) attention(pool, &call);
    double elapsed = seconds_now() - start;
    if (elapsed < best) best = elapsed;
  }
  free(scratch);
  return best;
}

static void bench_shape(onekv_pool *pool, const shape *s, onekv_cache_type type) {
  static const char *const TYPES[] = {"f16", "f32", "i8", "i4"};
  static const size_t DEPTHS[] = {128, 1024, 2048, DEPTH_MAX};
  static const size_t ROWS[] = {1, 8, ROWS_MAX};
  bench b;
  bench_open(&b, s, type);
  for (size_t r = 0; r < sizeof ROWS / sizeof ROWS[0]; r++) {
    for (size_t d = 0; d < sizeof DEPTHS / sizeof DEPTHS[0]; d++) {
      size_t n_rows = ROWS[r];
      if (n_rows > DEPTHS[d] || (n_rows > 1 && DEPTHS[d] != 1024)) continue;
      double seen = 0.0;
      for (size_t i = 0; i < n_rows; i++) seen += (double)(DEPTHS[d] - i);
      double flops = 2.0 * seen * (double)(s->n_heads * (s->key_width + s->value_width) * LAYERS);
      printf("%-14s %-3s depth %4zu, %3zu rows:", s->name, TYPES[type], DEPTHS[d], n_rows);
      for (size_t n_threads = 1; n_threads <= 2; n_threads++) {
        onekv_pool_activate(pool, n_threads);
        double seconds = time_step(&b, pool, DEPTHS[d], n_rows);
        printf("  %zu t %8.3f ms %5.1f GFLOP/s", n_threads, 1e3 * seconds, 1e-9 * flops / seconds);
      }
      printf("\n");
    }
  }
  bench_close(&b);
}

void bench_attention(void) {
  onekv_pool *pool = open_pool(2);
  bench_shape(pool, &SHARED_MQA, ONEKV_CACHE_F32);
  bench_shape(pool, &SHARED_MQA, ONEKV_CACHE_F16);
  bench_shape(pool, &SHARED_MQA, ONEKV_CACHE_I8);
  bench_shape(pool, &SHARED_MQA, ONEKV_CACHE_I4);
  bench_shape(pool, &MHA, ONEKV_CACHE_F16);
  bench_shape(pool, &MHA, ONEKV_CACHE_I8);
  bench_shape(pool, &GQA_4, ONEKV_CACHE_F16);
  bench_shape(pool, &GQA_4, ONEKV_CACHE_I8);
  bench_shape(pool, &GQA_8, ONEKV_CACHE_F16);
  bench_shape(pool, &GQA_8, ONEKV_CACHE_I8);
  bench_shape(pool, &MQA, ONEKV_CACHE_F16);
  bench_shape(pool, &MQA, ONEKV_CACHE_I8);
  bench_shape(pool, &LATENT, ONEKV_CACHE_F16);
  bench_shape(pool, &LATENT, ONEKV_CACHE_I8);
  onekv_pool_close(pool);
}
