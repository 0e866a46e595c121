/* Products with weight matrices: shares of rows, kernels, the bias. */
#include "core/net/matmul.h"

enum {
  ROWS_AT_ONCE = 8,        /* decoded at a time */
  SHARE_ROWS = PACKED_ROWS /* shares are cut at multiples of it */
};

typedef struct matmul_job {
  const kernel_table *kernels;
  const matmul_product *products;
  size_t n_products;
  const float *x;
  size_t n_columns;
  size_t n_tokens;
  matmul_scratch *scratch;
} matmul_job;

void matmul_scratch_make(size_t n_tokens, size_t n_columns, size_t n_threads, memory_arena *arena,
                         matmul_scratch *scratch) {
  size_t n_blocks = n_columns / PACKED_COLUMNS;
  packed_activations *packed = &scratch->packed;
  packed->values = arena_take(arena, n_tokens, n_columns * sizeof *packed->values);
  packed->scales = arena_take(arena, n_tokens, n_blocks * sizeof *packed->scales);
  packed->sums = arena_take(arena, n_tokens, n_blocks * sizeof *packed->sums);
  packed->bytes = arena_take(arena, n_tokens, n_columns * packed->value_bytes);
  size_t n_decoded = ROWS_AT_ONCE * n_columns;
  size_t n_strip = PACKED_ROWS * n_tokens;
  scratch->n_thread_floats = n_decoded > n_strip ? n_decoded : n_strip;
  scratch->rows = arena_take(arena, n_threads, scratch->n_thread_floats * sizeof(float));
  scratch->n_thread_starts = n_columns;
  scratch->starts = arena_take(arena, n_threads, n_columns * sizeof *scratch->starts);
}

void matrix_row(const kernel_table *kernels, const matrix *w, size_t row, float *out) {
  if (w->form == PACKED_NONE) {
    kernels->dequantize[w->type](w->rows + row * w->row_bytes, w->n_columns, out);
    return;
  }
  packed_read(w->form, w->rows + row / PACKED_ROWS * w->row_bytes, row % PACKED_ROWS,
              w->n_columns / PACKED_COLUMNS, out);
}

/* Rows [first, first + n_rows) as f32 [n_rows][n_columns]: in place when they are f32. */
static const float *decode_rows(const matmul_job *job, const matrix *w, size_t first,
                                size_t n_rows, float *scratch) {
  if (w->type == TENSOR_F32) return (const float *)(const void *)(w->rows + first * w->row_bytes);
  for (size_t i = 0; i < n_rows; i++) {
    matrix_row(job->kernels, w, first + i, scratch + i * w->n_columns);
  }
  return scratch;
}

static void multiply_rows(const matmul_job *job, const matrix *w, size_t first, size_t end,
                          float *y, float *scratch) {
  for (size_t row = first; row < end; row += ROWS_AT_ONCE) {
    size_t n_rows = end - row < ROWS_AT_ONCE ? end - row : ROWS_AT_ONCE;
    const float *rows = decode_rows(job, w, row, n_rows, scratch);
    job->kernels->f32_matmul(rows, w->n_columns, n_rows, job->x, w->n_columns, job->n_tokens,
                             w->n_columns, y + row, w->n_rows);
  }
}

/* A strip: into y when it is full, else by way of the scratch, without the rows that fill it up. */
static void multiply_strip(const matmul_job *job, const matrix *w, size_t first, size_t n_rows,
                           float *y, float *scratch, int32_t *starts) {
  const packed_activations *x = &job->scratch->packed;
  const uint8_t *strip = w->rows + first / PACKED_ROWS * w->row_bytes;
  float *out = n_rows == PACKED_ROWS ? y + first : scratch;
  size_t stride = n_rows == PACKED_ROWS ? w->n_rows : PACKED_ROWS;
  job->kernels->packed_matmul[w->form](strip, x, job->n_tokens, starts, out, stride);
  if (out != scratch) return;
  for (size_t t = 0; t < job->n_tokens; t++) {
    for (size_t i = 0; i < n_rows; i++) y[t * w->n_rows + first + i] = out[t * stride + i];
  }
}

/* Rows [first, end) of one matrix, with the bias. */
static void multiply(const matmul_job *job, const matmul_product *product, size_t first,
                     size_t end, size_t thread_index) {
  const matrix *w = product->w;
  float *scratch = job->scratch->rows + thread_index * job->scratch->n_thread_floats;
  int32_t *starts = job->scratch->starts + thread_index * job->scratch->n_thread_starts;
  for (size_t row = first; row < end; row += SHARE_ROWS) {
    size_t n_rows = end - row < SHARE_ROWS ? end - row : SHARE_ROWS;
    if (w->form == PACKED_NONE) {
      multiply_rows(job, w, row, row + n_rows, product->y, scratch);
    } else {
      multiply_strip(job, w, row, n_rows, product->y, scratch, starts);
    }
    if (w->bias == NULL) continue;
    for (size_t t = 0; t < job->n_tokens; t++) {
      job->kernels->f32_add(product->y + t * w->n_rows + row, w->bias + row, n_rows);
    }
  }
}

/* The rows of all products, one behind the other, are shared out together. */
static void matmul_share(void *context, size_t thread_index, size_t n_threads) {
  const matmul_job *job = context;
  size_t n_all = 0;
  size_t first = 0;
  size_t end = 0;
  for (size_t i = 0; i < job->n_products; i++) {
    n_all += (job->products[i].w->n_rows + SHARE_ROWS - 1) / SHARE_ROWS;
  }
  pool_share(n_all, 1, thread_index, n_threads, &first, &end);
  for (size_t i = 0, before = 0; i < job->n_products; i++) {
    size_t n_rows = job->products[i].w->n_rows;
    size_t n = (n_rows + SHARE_ROWS - 1) / SHARE_ROWS;
    size_t from = first > before ? first - before : 0;
    size_t to = end > before ? end - before : 0;
    size_t last = to < n ? to * SHARE_ROWS : n_rows;
    if (from < n && from < to) {
      multiply(job, &job->products[i], from * SHARE_ROWS, last, thread_index);
    }
    before += n;
  }
}

static void encode_share(void *context, size_t thread_index, size_t n_threads) {
  const matmul_job *job = context;
  const packed_activations *packed = &job->scratch->packed;
  size_t n_blocks = job->n_columns / PACKED_COLUMNS;
  size_t first = 0;
  size_t end = 0;
  pool_share(job->n_tokens, 1, thread_index, n_threads, &first, &end);
  int limit = packed_limit(packed->value_bytes);
  for (size_t t = first; t < end; t++) {
    int16_t *values = packed->values + t * job->n_columns;
    job->kernels->packed_encode(job->x + t * job->n_columns, job->n_columns, limit, values,
                                packed->scales + t * n_blocks, packed->sums + t * n_blocks);
    if (job->kernels->packed_split == NULL) continue;
    job->kernels->packed_split(values, job->n_columns, packed->value_bytes, packed->offset,
                               packed->bytes + t * job->n_columns * packed->value_bytes);
  }
}

/* Rounds the input, if any of the matrices is packed. */
static void encode(onekv_pool *pool, matmul_job *job) {
  packed_activations *packed = &job->scratch->packed;
  bool is_needed = false;
  for (size_t i = 0; i < job->n_products; i++) {
    is_needed = is_needed || job->products[i].w->form != PACKED_NONE;
  }
  if (!is_needed) return;
  packed->n_columns = job->n_columns;
  packed->offset = job->kernels->packed_offset;
  if (job->n_tokens > 1) {
    pool_run(pool, encode_share, job);
  } else {
    encode_share(job, 0, 1);
  }
}

void matmul(onekv_pool *pool, const kernel_table *kernels, const matmul_product *products,
            size_t n_products, const float *x, size_t n_tokens, matmul_scratch *scratch) {
  size_t n_columns = products[0].w->n_columns;
  matmul_job job = {kernels, products, n_products, x, n_columns, n_tokens, scratch};
  encode(pool, &job);
  pool_run(pool, matmul_share, &job);
}
