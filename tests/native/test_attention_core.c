/* The attention of DeepSeek-V4, alone, against transformers (tests/golden/attention): one row is
 * key and value, rotated at its end; heads have sinks; the output is rotated back; there is a
 * window.
 *
 * Bound: float32 arithmetic on both sides, over at most 300 positions; measured below 1e-6. Without
 * the sinks, the rotation back or the window the outputs move by more than 1e-2. */
#include "core/net/attention.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 1e-5;

typedef enum change { AS_IT_IS, NO_SINKS, NO_ROTATION_BACK, NO_WINDOW, CHANGES } change;

/* A file: sizes, and floats that point into it. */
typedef struct core_data {
  size_t rows, heads, width;
  const float *queries, *cached, *sinks, *expected;
  file_bytes file;
} core_data;

typedef struct fixture {
  core_data data;
  onekv_config config;
  kernel_table kernels;
  memory_ledger memory;
  kv_pool pages;
  kv_cache cache;
  rope_tables rope;
  void *rope_block;
  size_t n_rope_bytes;
  float *queries; /* [rows][H][h], rotated */
} fixture;

static core_data read_core(const char *path, onekv_config *config) {
  core_data data = {.file = read_file(path)};
  uint32_t head[8];
  CHECK(data.file.n_bytes > sizeof head);
  memcpy(head, data.file.bytes, sizeof head);
  data.rows = head[0];
  data.heads = head[1];
  data.width = head[2];
  data.queries = (const float *)(const void *)(data.file.bytes + sizeof head);
  data.cached = data.queries + data.rows * data.heads * data.width;
  data.sinks = data.cached + data.rows * data.width;
  data.expected = data.sinks + data.heads;
  size_t n_floats = 2 * data.rows * data.heads * data.width + data.rows * data.width + data.heads;
  CHECK(data.file.n_bytes == sizeof head + n_floats * sizeof(float));
  *config = (onekv_config){.n_layers = 1, .context_window = data.rows, .position = ONEKV_ROPE,
                           .causal = true, .n_kinds = 1};
  config->kinds[0] = (layer_kind){
      .n_heads = data.heads, .n_kv_heads = 1, .key_width = data.width, .value_width = data.width,
      .shares_row = true, .keys = KEYS_AND_BACK, .window = head[4],
      .score_divisor = sqrtf((float)data.width),
      .rope = {.first = data.width - head[3], .n_rotated = head[3], .base = 10000.0f,
               .factor = 1.0f, .attention_factor = 1.0f}};
  return data;
}

/* Heads [rows][n_heads][h] turned by their rows' positions, or back. */
static void turn(const fixture *f, float *heads, size_t n_heads, bool inverse) {
  float cosines[64];
  float sines[64];
  for (size_t p = 0; p < f->data.rows; p++) {
    rope_angles(&f->rope, p, cosines, sines);
    rope_rotate_heads(&f->rope, &f->kernels, heads + p * n_heads * f->data.width, n_heads,
                      f->data.width, cosines, sines, inverse);
  }
}

static void open_fixture(fixture *f, const char *path, onekv_level level, onekv_cache_type type) {
  *f = (fixture){0};
  f->data = read_core(path, &f->config);
  const core_data *data = &f->data;
  kernels_select(&f->kernels, level);
  memory_init(&f->memory, NULL);
  CHECK(kv_pool_open(&f->pages, &f->memory, &f->kernels, &f->config, type) == ONEKV_OK);
  CHECK(kv_cache_open(&f->pages, data->rows, &f->cache) == ONEKV_OK);
  memory_arena arena = {0};
  rope_tables_make(&f->config.kinds[0].rope, data->rows, NULL, &arena, &f->rope);
  f->n_rope_bytes = arena.n_used;
  f->rope_block = memory_take(&f->memory, MEMORY_SCRATCH, f->n_rope_bytes);
  arena = (memory_arena){f->rope_block, 0, false};
  rope_tables_make(&f->config.kinds[0].rope, data->rows, NULL, &arena, &f->rope);
  size_t n = data->rows * data->heads * data->width;
  f->queries = check_allocate(n * sizeof(float));
  memcpy(f->queries, data->queries, n * sizeof(float));
  turn(f, f->queries, data->heads, false);
}

static void close_fixture(fixture *f) {
  kv_cache_close(&f->cache);
  kv_pool_close(&f->pages);
  memory_give_back(&f->memory, MEMORY_SCRATCH, f->rope_block, f->n_rope_bytes);
  CHECK(f->memory.n_bytes_total == 0);
  free(f->queries);
  free(f->data.file.bytes);
}

/* out [rows][H][h], the rows written and attended `step` at a time. */
static void attend(fixture *f, onekv_pool *pool, size_t step, change what, float *out) {
  const core_data *data = &f->data;
  size_t row = data->heads * data->width;
  float *cached = check_allocate(data->rows * data->width * sizeof *cached);
  float *scratch = check_allocate(attention_scratch_floats(&f->config, pool_n_most(pool)) *
                                  sizeof *scratch);
  memcpy(cached, data->cached, data->rows * data->width * sizeof *cached);
  turn(f, cached, 1, false);
  layer_kind kind = f->config.kinds[0];
  if (what == NO_WINDOW) kind.window = 0;
  kv_cache_truncate(&f->cache, 0);
  for (size_t first = 0; first < data->rows; first += step) {
    size_t n = data->rows - first < step ? data->rows - first : step;
    CHECK(kv_cache_reserve(&f->cache, n) == ONEKV_OK);
    for (size_t p = first; p < first + n; p++) {
      kv_cache_write(&f->cache, 0, KV_ROW, p, cached + p * data->width);
    }
    sequence_slice slice = {&f->cache, 0, n, first};
    attention_call call = {.config = &f->config, .kernels = &f->kernels, .kind = &kind,
                           .slices = &slice, .n_slices = 1,
                           .score_scale = 1.0f / kind.score_divisor,
                           .sinks = what == NO_SINKS ? NULL : data->sinks,
                           .queries = f->queries + first * row, .out = out + first * row,
                           .scratch = scratch};
    attention(pool, &call);
    kv_cache_advance(&f->cache, NULL, n);
  }
  if (what != NO_ROTATION_BACK) turn(f, out, data->heads, true);
  free(cached);
  free(scratch);
}

static void check_file(const char *path, onekv_pool *pools[2], onekv_level level) {
  fixture f;
  open_fixture(&f, path, level, ONEKV_CACHE_F32);
  size_t n = f.data.rows * f.data.heads * f.data.width;
  float *out = check_allocate(n * sizeof *out);
  float *again = check_allocate(n * sizeof *again);
  attend(&f, pools[0], 60, AS_IT_IS, out);
  double distance = relative_distance(out, f.data.expected, n);
  CHECK_SAY(distance <= TOLERANCE, "%s: %g", path, distance);
  static const size_t STEPS[] = {1, 7, 128};
  for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
    for (size_t p = 0; p < 2; p++) {
      attend(&f, pools[p], STEPS[i], AS_IT_IS, again);
      CHECK_SAME_FLOATS(again, out, n);
    }
  }
  /* Each of them counts, so that the distance above says something. */
  for (change what = NO_SINKS; what < CHANGES; what++) {
    if (what == NO_WINDOW && f.data.rows > KV_BATCH_MAX) continue; /* few rows see less there */
    /* In one step: behind it the cache lets go of what no window sees. */
    attend(&f, pools[0], what == NO_WINDOW ? f.data.rows : 30, what, again);
    distance = relative_distance(again, f.data.expected, n);
    CHECK_SAY(distance > 1e-2, "%s, change %d: only %g", path, (int)what, distance);
  }
  close_fixture(&f);
  free(out);
  free(again);
}

int main(void) {
  onekv_pool *pools[2] = {open_pool(1), open_pool(3)};
  for (onekv_level level = ONEKV_LEVEL_SCALAR; level <= ONEKV_LEVEL_RELAXED; level++) {
    check_file("tests/golden/attention/deepseek4-narrow.bin", pools, level);
    check_file("tests/golden/attention/deepseek4-wide.bin", pools, level);
  }
  for (size_t i = 0; i < 2; i++) onekv_pool_close(pools[i]);
  return check_finish();
}
