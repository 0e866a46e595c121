/* Products of many small matrices, one of each head, that stand in one matrix of the file. */
#include <string.h>

#include "core/net/matmul.h"

typedef struct heads_job {
  const kernel_table *kernels;
  const heads_product *product;
  matmul_scratch *scratch;
} heads_job;

static float *thread_scratch(const heads_job *job, size_t thread_index) {
  return job->scratch->rows + thread_index * job->scratch->n_thread_floats;
}

/* The rounded input of one head: its tokens' rows come one after the other. */
static packed_activations head_activations(const heads_job *job, size_t head) {
  packed_activations x = job->scratch->packed;
  size_t row = head * job->product->n_tokens * x.rows_per_token;
  x.values += row * x.n_columns;
  x.wide += row * x.n_columns;
  x.scales += row * (x.n_columns / x.block_columns);
  x.pairs += row * (x.n_columns / PACKED_UNIT * 2);
  x.sums += row * (x.n_columns / 32);
  if (x.n_slab_rows > 0) x.slabs += row;
  size_t n_before = row < x.n_table_rows ? row : x.n_table_rows;
  x.n_table_rows -= n_before;
  x.tables += n_before * x.n_columns * PACKED_TABLE_BYTES;
  return x;
}

/* Rows [row, row + n) of a head, at most a strip. */
static void multiply_packed(const heads_job *job, size_t head, size_t row, size_t n,
                            float *scratch) {
  const heads_product *product = job->product;
  const matrix *w = product->w;
  size_t first = product->first + head * product->stride + row;
  size_t y_stride = product->n_heads * product->y_width;
  float *y = product->y + head * product->y_width + row;
  packed_activations x = head_activations(job, head);
  size_t parts = x.rows_per_token;
  job->kernels->packed_matmul[w->form](w->rows + first / PACKED_ROWS * w->row_bytes, &x,
                                       product->n_tokens * parts, scratch, PACKED_ROWS);
  for (size_t t = 0; t < product->n_tokens; t++, y += y_stride) {
    const float *out = scratch + t * parts * PACKED_ROWS;
    for (size_t i = 0; i < n; i++) y[i] = parts == 1 ? out[i] : out[i] + out[PACKED_ROWS + i];
  }
}

static void multiply_floats(const heads_job *job, size_t head, size_t row, size_t n,
                            float *scratch) {
  const heads_product *product = job->product;
  const matrix *w = product->w;
  size_t first = product->first + head * product->stride + row;
  const float *x = product->x + head * product->x_width;
  float *y = product->y + head * product->y_width + row;
  for (size_t i = 0; i < n; i += MATMUL_ROWS) {
    size_t n_rows = n - i < MATMUL_ROWS ? n - i : MATMUL_ROWS;
    const float *rows = matrix_rows(job->kernels, w, first + i, n_rows, scratch);
    job->kernels->f32_matmul(rows, w->n_columns, n_rows, x, product->n_heads * product->x_width,
                             product->n_tokens, w->n_columns, y + i,
                             product->n_heads * product->y_width);
  }
}

/* A share is a run of strips, those of a head one after the other. */
static void multiply_share(void *context, size_t thread_index, size_t n_threads) {
  const heads_job *job = context;
  const heads_product *product = job->product;
  size_t n_strips = (product->n_rows + PACKED_ROWS - 1) / PACKED_ROWS;
  size_t first = 0;
  size_t end = 0;
  float *scratch = thread_scratch(job, thread_index);
  pool_share(product->n_heads * n_strips, 1, thread_index, n_threads, &first, &end);
  for (size_t i = first; i < end; i++) {
    size_t row = i % n_strips * PACKED_ROWS;
    size_t n_left = product->n_rows - row;
    size_t n = n_left < PACKED_ROWS ? n_left : PACKED_ROWS;
    if (product->w->form == PACKED_NONE) {
      multiply_floats(job, i / n_strips, row, n, scratch);
    } else {
      multiply_packed(job, i / n_strips, row, n, scratch);
    }
  }
}

static void encode_share(void *context, size_t thread_index, size_t n_threads) {
  const heads_job *job = context;
  const heads_product *product = job->product;
  size_t n_tokens = product->n_tokens;
  size_t first = 0;
  size_t end = 0;
  pool_share(product->n_heads * n_tokens, 1, thread_index, n_threads, &first, &end);
  for (size_t i = first; i < end; i++) {
    size_t head = i / n_tokens;
    const float *x = product->x + (i % n_tokens * product->n_heads + head) * product->x_width;
    job->kernels->packed_encode(x, i, &job->scratch->packed);
  }
}

void matmul_heads(onekv_pool *pool, const kernel_table *kernels, const heads_product *product,
                  matmul_scratch *scratch) {
  heads_job job = {kernels, product, scratch};
  if (product->w->form != PACKED_NONE) {
    scratch->packed.n_columns = product->w->n_columns;
    scratch->packed.block_columns = PACKED_GEOMETRY[product->w->form].columns;
    size_t n_rows = product->n_tokens * scratch->packed.rows_per_token;
    matmul_choose_slabs(scratch, product->n_heads * n_rows, n_rows);
    if (product->n_tokens > 1) pool_run(pool, encode_share, &job);
    else encode_share(&job, 0, 1);
  }
  pool_run(pool, multiply_share, &job);
}

/* Whole heads; each is the sum of its rows, weighed by the tokens' elements. */
static void transposed_share(void *context, size_t thread_index, size_t n_threads) {
  const heads_job *job = context;
  const heads_product *product = job->product;
  const matrix *w = product->w;
  size_t x_stride = product->n_heads * product->x_width;
  size_t y_stride = product->n_heads * product->y_width;
  float *ones = thread_scratch(job, thread_index) + MATMUL_ROWS * w->n_columns;
  size_t first = 0;
  size_t end = 0;
  for (size_t t = 0; t < product->n_tokens; t++) ones[t] = 1.0f;
  pool_share(product->n_heads, 1, thread_index, n_threads, &first, &end);
  for (size_t head = first; head < end; head++) {
    const float *x = product->x + head * product->x_width;
    float *y = product->y + head * product->y_width;
    for (size_t t = 0; t < product->n_tokens; t++) {
      memset(y + t * y_stride, 0, w->n_columns * sizeof *y);
    }
    for (size_t row = 0; row < product->n_rows; row += MATMUL_ROWS) {
      size_t n_left = product->n_rows - row;
      size_t n = n_left < MATMUL_ROWS ? n_left : MATMUL_ROWS;
      const float *rows = matrix_rows(job->kernels, w, product->first + head * product->stride +
                                      row, n, thread_scratch(job, thread_index));
      job->kernels->f32_attend(x + row, x_stride, product->n_tokens, rows, w->n_columns, n,
                               w->n_columns, ones, y, y_stride);
    }
  }
}

void matmul_heads_transposed(onekv_pool *pool, const kernel_table *kernels,
                             const heads_product *product, matmul_scratch *scratch) {
  heads_job job = {kernels, product, scratch};
  pool_run(pool, transposed_share, &job);
}
