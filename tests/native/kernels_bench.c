/* Kernel timings: best of many short runs, so that some of them fall between the moments when
 * the machine does something else, on data that stays in the second-level cache unless said.
 * GFLOP/s count a multiply-add as two, GB/s count floats written, or the bytes of a matrix. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime: the C11 clock has only milliseconds in wasm */

#include "tests/native/kernels_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/f16.h"

enum {
  BENCH_RUNS = 60,
  BENCH_FLOATS = 1 << 18, /* of each buffer */
  BENCH_COLUMNS = 576,    /* the width of a small model */
  BENCH_HEAD = 64,
  TOKEN_COLUMNS = 2048,
  TOKEN_ROWS = 16,
  STREAM_BYTES = 1 << 28
};

static const double RUN_SECONDS = 0.001;

typedef struct bench_data {
  const kernel_table *table;
  float *w;
  float *x;
  float *y;
  uint8_t *bytes;
  size_t n_rows;
  size_t n_tokens;
  tensor_type type;
} bench_data;

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Seconds of one call: the least of the runs' means. */
static double time_of(void (*run)(bench_data *), bench_data *data) {
  double best = 1e9;
  size_t n_calls = 1;
  for (size_t i = 0; i < BENCH_RUNS;) {
    double start = seconds_now();
    for (size_t call = 0; call < n_calls; call++) run(data);
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

static void run_matmul(bench_data *d) {
  d->table->f32_matmul(d->w, BENCH_COLUMNS, d->n_rows, d->x, BENCH_COLUMNS, d->n_tokens,
                       BENCH_COLUMNS, d->y, d->n_rows);
}

static void run_scores(bench_data *d) {
  d->table->f32_matmul(d->w, BENCH_HEAD, d->n_rows, d->x, BENCH_HEAD, d->n_tokens, BENCH_HEAD, d->y,
                       d->n_rows);
}

static void run_attend(bench_data *d) {
  d->table->f32_attend(d->x, d->n_rows, d->n_tokens, d->w, BENCH_HEAD, d->n_rows, BENCH_HEAD, d->x,
                       d->y, BENCH_HEAD);
}

enum { ROW = 4096 };

static void run_layer_norm(bench_data *d) {
  d->table->f32_layer_norm(d->x, d->w, d->w + ROW, 1e-5f, ROW, d->y);
}
static void run_rms_norm(bench_data *d) {
  d->table->f32_rms_norm(d->x, d->w, 1e-5f, ROW, d->y);
}
static void run_gelu_erf(bench_data *d) {
  d->table->f32_activate[ONEKV_GELU_ERF](d->y, ROW);
}
static void run_gelu_tanh(bench_data *d) {
  d->table->f32_activate[ONEKV_GELU_TANH](d->y, ROW);
}
static void run_silu(bench_data *d) {
  d->table->f32_activate[ONEKV_SILU](d->y, ROW);
}
static void run_add(bench_data *d) {
  d->table->f32_add(d->y, d->w, ROW);
}
static void run_softmax(bench_data *d) {
  float maximum = 1.0f;
  float sum = 0.0f;
  memcpy(d->y, d->x, ROW * sizeof(float));
  d->table->f32_softmax_step(d->y, ROW, &maximum, &sum);
}
static void run_adjacent(bench_data *d) {
  d->table->f32_rotate_adjacent(d->x, ROW / BENCH_HEAD, BENCH_HEAD, d->w, d->w + ROW, BENCH_HEAD,
                                BENCH_HEAD / 2, false, d->y);
}
static void run_halves(bench_data *d) {
  d->table->f32_rotate_halves(d->x, ROW / BENCH_HEAD, BENCH_HEAD, d->w, d->w + ROW, BENCH_HEAD,
                              BENCH_HEAD / 2, false, d->y);
}
static void run_f16_encode(bench_data *d) {
  d->table->f16_encode(d->x, ROW, (uint16_t *)(void *)d->bytes);
}
static void run_f16_decode(bench_data *d) {
  d->table->f16_decode((uint16_t *)(void *)d->bytes, ROW, d->y);
}
static void run_i8_encode(bench_data *d) {
  float scale;
  d->table->i8_encode(d->x, ROW, (int8_t *)d->bytes, &scale);
}
static void run_i8_decode(bench_data *d) {
  d->table->i8_decode((int8_t *)d->bytes, ROW, 0.01f, d->y);
}
static void run_dequantize(bench_data *d) {
  d->table->dequantize[d->type](d->bytes, ROW, d->y);
}

static void bench_products(bench_data *data) {
  static const size_t TOKENS[] = {1, 2, 3, 4, 9, 64};
  data->n_rows = 256;
  for (size_t i = 0; i < sizeof TOKENS / sizeof TOKENS[0]; i++) {
    data->n_tokens = TOKENS[i];
    double flops = 2.0 * (double)data->n_rows * (double)data->n_tokens;
    double product = flops * (double)BENCH_COLUMNS / time_of(run_matmul, data) * 1e-9;
    double scores = flops * (double)BENCH_HEAD / time_of(run_scores, data) * 1e-9;
    double attend = flops * (double)BENCH_HEAD / time_of(run_attend, data) * 1e-9;
    printf("  %2zu tokens: f32_matmul %6.1f, scores %6.1f, f32_attend %6.1f GFLOP/s\n", TOKENS[i],
           product, scores, attend);
  }
}

/* One token and a matrix that fits no cache, as a layer multiplies it. */
static void run_token(bench_data *d) {
  size_t row_bytes = TOKEN_COLUMNS * (d->type == TENSOR_F32 ? 4 : 2);
  for (size_t row = 0; row < d->n_rows; row += TOKEN_ROWS) {
    const uint8_t *w = d->bytes + row * row_bytes;
    if (d->type == TENSOR_F32) {
      d->table->f32_matmul((const float *)(const void *)w, TOKEN_COLUMNS, TOKEN_ROWS, d->x,
                           TOKEN_COLUMNS, 1, TOKEN_COLUMNS, d->y, TOKEN_ROWS);
    } else {
      d->table->token_matmul[d->type](w, TOKEN_ROWS, d->x, TOKEN_COLUMNS, d->y);
    }
  }
}

/* Weights as trained ones are, some hundredths in size: of halves a quarter of a percent is
 * subnormal, which processors may be slow with. */
static void fill_weights(bench_data *d) {
  enum { PATTERN_BYTES = 1 << 18 };
  uint32_t state = 1;
  for (size_t n = 0; n < PATTERN_BYTES;) {
    float value = 0;
    for (int k = 0; k < 4; k++) {
      state = state * 1664525u + 1013904223u;
      value += ((float)(state >> 8) * 0x1p-24f - 0.5f) * 0.04f;
    }
    uint32_t bits = f32_to_bits(value);
    if (d->type == TENSOR_F32) memcpy(d->bytes + n, &bits, sizeof bits);
    else if (d->type == TENSOR_F16) store_u16(d->bytes + n, f32_to_f16(value));
    else if (d->type == TENSOR_F16_NORMAL) store_u16(d->bytes + n, f16_normal_from_f32(value));
    else store_u16(d->bytes + n, (uint16_t)(bits >> 16));
    n += d->type == TENSOR_F32 ? 4 : 2;
  }
  for (size_t n = PATTERN_BYTES; n < STREAM_BYTES; n += PATTERN_BYTES) {
    memcpy(d->bytes + n, d->bytes, PATTERN_BYTES);
  }
}

static void bench_tokens(bench_data *data) {
  static const struct {
    tensor_type type;
    const char *name;
  } TYPES[] = {{TENSOR_F32, "F32"}, {TENSOR_F16, "F16 as in files"},
               {TENSOR_F16_NORMAL, "F16 as held"}, {TENSOR_BF16, "BF16"}};
  for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
    data->type = TYPES[i].type;
    if (data->type != TENSOR_F32 && data->table->token_matmul[data->type] == NULL) continue;
    size_t row_bytes = TOKEN_COLUMNS * (data->type == TENSOR_F32 ? 4 : 2);
    data->n_rows = STREAM_BYTES / row_bytes;
    fill_weights(data);
    double rate = (double)(data->n_rows * row_bytes) / time_of(run_token, data) * 1e-9;
    printf("  1 token, %-15s out of memory %5.1f GB/s\n", TYPES[i].name, rate);
  }
}

static void bench_rows(bench_data *data) {
  static const struct {
    const char *name;
    void (*run)(bench_data *);
  } KERNELS[] = {{"f32_layer_norm", run_layer_norm}, {"f32_rms_norm", run_rms_norm},
                 {"gelu_erf", run_gelu_erf},         {"gelu_tanh", run_gelu_tanh},
                 {"silu", run_silu},                 {"f32_add", run_add},
                 {"f32_softmax_step", run_softmax},  {"f32_rotate_adjacent", run_adjacent},
                 {"f32_rotate_halves", run_halves},  {"f16_encode", run_f16_encode},
                 {"f16_decode", run_f16_decode},     {"i8_encode", run_i8_encode},
                 {"i8_decode", run_i8_decode}};
  for (size_t i = 0; i < sizeof KERNELS / sizeof KERNELS[0]; i++) {
    double rate = ROW * sizeof(float) / time_of(KERNELS[i].run, data) * 1e-9;
    printf("  %-20s %6.2f GB/s\n", KERNELS[i].name, rate);
  }
  memset(data->bytes, 0x2d, ROW * sizeof(float)); /* finite halves */
  for (uint32_t type = 0; type < TENSOR_TYPE_END; type++) {
    if (data->table->dequantize[type] == NULL) continue;
    data->type = (tensor_type)type;
    double rate = ROW * sizeof(float) / time_of(run_dequantize, data) * 1e-9;
    printf("  dequantize %-9s %6.2f GB/s\n", tensor_type_describe(type).name, rate);
  }
}

void bench_kernels(const kernel_table *table) {
  size_t n_bytes = BENCH_FLOATS * sizeof(float);
  bench_data data = {.table = table,
                     .w = (float *)calloc(1, n_bytes),
                     .x = (float *)calloc(1, n_bytes),
                     .y = (float *)calloc(1, n_bytes),
                     .bytes = (uint8_t *)malloc(STREAM_BYTES)};
  if (data.w != NULL && data.x != NULL && data.y != NULL && data.bytes != NULL) {
    /* Values that stay ordinary numbers however often a kernel is applied to its own output. */
    for (size_t i = 0; i < BENCH_FLOATS; i++) data.w[i] = data.x[i] = 0.5f - (float)(i % 7) * 0.1f;
    bench_tokens(&data);
    bench_products(&data);
    bench_rows(&data);
  }
  free(data.w);
  free(data.x);
  free(data.y);
  free(data.bytes);
}
