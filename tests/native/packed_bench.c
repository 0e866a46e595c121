/* Integer products: best of many short runs on a matrix that stays in the second-level cache, in
 * GOP/s (a multiply-add is two), and of few runs on one that does not fit any cache, in GB/s. The
 * limits that bound them are measured in the same program. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include "tests/native/packed_bench.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/kernels/simd128.h"

enum {
  COLUMNS = 2048,
  STRIPS = 12,       /* of the small matrix: some 400 KB of bytes */
  TOKENS_MAX = 96, /* of prefill */
  RUNS = 40,
  STREAM_RUNS = 5,
  STREAM_BYTES = 1 << 28,
  REGISTER_STEPS = 1 << 12,
  OPERAND_VECTORS = 16
};

static const double RUN_SECONDS = 0.001;

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct packed_bench {
  const kernel_table *table;
  packed_form form;
  size_t n_tokens;
  size_t n_strips;
  bool fetches; /* as matmul.c does for one token */
  uint8_t *strips; /* [n_strips][blocks][block bytes] */
  packed_activations x;
  float *y; /* [TOKENS_MAX][16] */
} packed_bench;

static size_t strip_bytes_of(packed_form form) {
  return COLUMNS / PACKED_GEOMETRY[form].columns * packed_block_bytes(form);
}

static void multiply_all(const packed_bench *bench) {
  size_t strip_bytes = strip_bytes_of(bench->form);
  for (size_t s = 0; s < bench->n_strips; s++) {
    const uint8_t *strip = bench->strips + s * strip_bytes;
    if (bench->fetches) packed_fetch(strip, strip_bytes);
    bench->table->packed_matmul[bench->form](strip, &bench->x, bench->n_tokens, bench->y,
                                             PACKED_ROWS);
  }
}

/* Seconds of one pass over the matrix: the least of the runs. */
static double time_of(const packed_bench *bench, size_t n_runs) {
  double best = 1e9;
  size_t n_calls = 1;
  for (size_t i = 0; i < n_runs;) {
    double start = seconds_now();
    for (size_t call = 0; call < n_calls; call++) multiply_all(bench);
    double elapsed = seconds_now() - start;
    if (elapsed < RUN_SECONDS) {
      n_calls *= 2;
      continue;
    }
    if (elapsed / (double)n_calls < best) best = elapsed / (double)n_calls;
    i++;
  }
  return best;
}

static void bench_form(packed_bench *bench, const char *name) {
  static const size_t TOKENS[] = {1, 2, 4, 6, 8, 48, TOKENS_MAX};
  double products = 2.0 * STRIPS * PACKED_ROWS * COLUMNS * 1e-9;
  bench->n_strips = STRIPS;
  printf("  %-9s GOP/s:", name);
  for (size_t i = 0; i < sizeof TOKENS / sizeof *TOKENS; i++) {
    bench->n_tokens = TOKENS[i];
    double rate = products * (double)TOKENS[i] / time_of(bench, RUNS);
    printf(" %zu token%s %.1f,", TOKENS[i], TOKENS[i] == 1 ? "" : "s", rate);
  }
  size_t strip_bytes = strip_bytes_of(bench->form);
  bench->n_strips = STREAM_BYTES / strip_bytes;
  bench->n_tokens = 1;
  double rate = (double)(bench->n_strips * strip_bytes) * 1e-9 / time_of(bench, STREAM_RUNS);
  double weights = (double)(bench->n_strips * PACKED_ROWS * COLUMNS) / (double)STREAM_BYTES;
  printf(" 1 token out of memory %.1f GB/s, %.1f G weights/s,", rate, rate * weights);
  bench->fetches = true;
  rate = (double)(bench->n_strips * strip_bytes) * 1e-9 / time_of(bench, STREAM_RUNS);
  printf(" fetched %.1f GB/s\n", rate);
  bench->fetches = false;
}

void bench_packed(const kernel_table *table, const char *wanted) {
  packed_bench bench = {.table = table, .x = {.n_columns = COLUMNS, .rows_per_token = 1}};
  size_t n_x = (size_t)TOKENS_MAX * COLUMNS;
  float *x = malloc(n_x * sizeof *x);
  bench.strips = malloc(STREAM_BYTES);
  bench.x.values = malloc(n_x);
  bench.x.wide = malloc(n_x * sizeof(int16_t));
  bench.x.scales = malloc(n_x / 32 * sizeof(float));
  bench.x.pairs = malloc(n_x / 8 * sizeof(int16_t));
  bench.x.sums = malloc(n_x / 32 * sizeof(int16_t));
  bench.x.n_slab_rows = table->packed_has_slabs ? TOKENS_MAX : 0;
  size_t n_slabs = TOKENS_MAX * (COLUMNS / PACKED_SLAB_COLUMNS) + PACKED_SLAB_TILE;
  bench.x.slabs = calloc(n_slabs, sizeof(packed_slab));
  bench.x.n_table_rows = TOKENS_MAX;
  bench.x.tables = malloc((size_t)TOKENS_MAX * PACKED_TABLE_BYTES * COLUMNS);
  bench.y = malloc((size_t)TOKENS_MAX * PACKED_ROWS * sizeof(float));
  bool has_all = bench.strips != NULL && bench.x.values != NULL && bench.x.scales != NULL &&
                 bench.x.sums != NULL && bench.x.wide != NULL && bench.x.pairs != NULL &&
                 bench.x.tables != NULL && bench.y != NULL && x != NULL;
  if (has_all) {
    /* As halves these bytes are small ordinary numbers. */
    for (size_t i = 0; i < STREAM_BYTES; i++) bench.strips[i] = 0x2d;
    for (size_t i = 0; i < n_x; i++) x[i] = (float)(i * 37 % 127);
#define X(name, columns, ...)                                                               \
  bench.form = PACKED_##name;                                                               \
  bench.x.block_columns = columns;                                                          \
  if (wanted == NULL || strcmp(wanted, #name) == 0) {                                       \
    for (size_t t = 0; t < TOKENS_MAX; t++) table->packed_encode(x + t * COLUMNS, t, &bench.x); \
    bench_form(&bench, #name);                                                              \
  }
    PACKED_FORM_LIST(X)
#undef X
  }
  free(x);
  free(bench.strips);
  free(bench.x.values);
  free(bench.x.wide);
  free(bench.x.scales);
  free(bench.x.pairs);
  free(bench.x.sums);
  free(bench.x.tables);
  free(bench.x.slabs);
  free(bench.y);
}

static int32_t lanes_of(v128_t a) {
  return wasm_i32x4_extract_lane(a, 0) ^ wasm_i32x4_extract_lane(a, 1) ^
         wasm_i32x4_extract_lane(a, 2) ^ wasm_i32x4_extract_lane(a, 3);
}

/* What a tile does without its widening and scaling: 12 sums, operands out of the first cache. */
static int32_t register_products(const int16_t *operands) {
  v128_t sums[12];
  for (size_t i = 0; i < 12; i++) sums[i] = wasm_i32x4_splat(0);
  for (size_t step = 0; step < REGISTER_STEPS; step++) {
    const int16_t *from = operands + 8 * (step % OPERAND_VECTORS);
    v128_t a = wasm_v128_load(from);
    v128_t b = wasm_v128_load(from + 8);
    for (size_t i = 0; i < 12; i += 2) {
      v128_t x = wasm_v128_load32_splat(from + 2 * i);
      sums[i] = wasm_i32x4_add(sums[i], wasm_i32x4_dot_i16x8(a, x));
      sums[i + 1] = wasm_i32x4_add(sums[i + 1], wasm_i32x4_dot_i16x8(b, x));
    }
  }
  v128_t all = sums[0];
  for (size_t i = 1; i < 12; i++) all = wasm_v128_xor(all, sums[i]);
  return lanes_of(all);
}

static int32_t read_all(const uint8_t *bytes, size_t n_bytes) {
  v128_t all[4] = {wasm_i32x4_splat(0), wasm_i32x4_splat(0), wasm_i32x4_splat(0),
                   wasm_i32x4_splat(0)};
  for (size_t i = 0; i < n_bytes; i += 64) {
    for (size_t k = 0; k < 4; k++) {
      all[k] = wasm_v128_xor(all[k], wasm_v128_load(bytes + i + 16 * k));
    }
  }
  return lanes_of(wasm_v128_xor(wasm_v128_xor(all[0], all[1]), wasm_v128_xor(all[2], all[3])));
}

void bench_limits(void) {
  int16_t operands[8 * (OPERAND_VECTORS + 4)];
  volatile int32_t kept = 0;
  /* Not inlined: what is entered once stays in an engine's first compiler. */
  int32_t (*volatile multiply)(const int16_t *) = register_products;
  int32_t (*volatile read)(const uint8_t *, size_t) = read_all;
  double products = 1e9;
  double reading = 1e9;
  uint8_t *bytes = calloc(1, STREAM_BYTES);
  if (bytes == NULL) return;
  memset(bytes, 1, STREAM_BYTES);
  for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) operands[i] = (int16_t)(i % 91);
  for (size_t run = 0; run < 10 * RUNS; run++) {
    double start = seconds_now();
    for (size_t i = 0; i < 10; i++) kept = kept ^ multiply(operands);
    double elapsed = (seconds_now() - start) / 10.0;
    if (elapsed < products) products = elapsed;
  }
  for (size_t run = 0; run < 4 * STREAM_RUNS; run++) {
    double start = seconds_now();
    for (size_t i = 0; i < STREAM_BYTES; i += 1 << 16) kept = kept ^ read(bytes + i, 1 << 16);
    double elapsed = seconds_now() - start;
    if (elapsed < reading) reading = elapsed;
  }
  printf("limits: i16 products out of registers %.1f GOP/s, reading memory %.1f GB/s\n",
         2e-9 * 12 * 8 * REGISTER_STEPS / products, 1e-9 * STREAM_BYTES / reading);
  free(bytes);
}
