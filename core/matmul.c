/* Products with weight matrices: decode rows, multiply, add the bias. */
#include "matmul.h"

typedef struct matmul_job {
  const kernel_table *kernels;
  const matrix *w;
  const float *x;
  size_t n_tokens;
  float *y;
  float *scratch;
} matmul_job;

void matrix_row(const kernel_table *kernels, const matrix *w, size_t row, float *out) {
  kernels->dequantize[w->type](w->rows + row * w->row_bytes, w->n_columns, out);
}

/* Rows [first, first + n_rows) as f32 [n_rows][n_columns]: in place when they are f32. */
static const float *decode_rows(const matmul_job *job, size_t first, size_t n_rows,
                                float *scratch) {
  const matrix *w = job->w;
  if (w->type == TENSOR_F32) return (const float *)(const void *)(w->rows + first * w->row_bytes);
  for (size_t i = 0; i < n_rows; i++) {
    matrix_row(job->kernels, w, first + i, scratch + i * w->n_columns);
  }
  return scratch;
}

static void matmul_share(void *context, size_t thread_index, size_t n_threads) {
  const matmul_job *job = context;
  const matrix *w = job->w;
  float *scratch = job->scratch + thread_index * MATMUL_ROWS * w->n_columns;
  size_t first = 0;
  size_t end = 0;
  pool_share(w->n_rows, MATMUL_ROWS, thread_index, n_threads, &first, &end);
  for (size_t row = first; row < end; row += MATMUL_ROWS) {
    size_t n_rows = end - row < MATMUL_ROWS ? end - row : MATMUL_ROWS;
    const float *rows = decode_rows(job, row, n_rows, scratch);
    float *y = job->y + row;
    job->kernels->f32_matmul(rows, w->n_columns, n_rows, job->x, w->n_columns, job->n_tokens,
                             w->n_columns, y, w->n_rows);
    if (w->bias == NULL) continue;
    for (size_t t = 0; t < job->n_tokens; t++) {
      job->kernels->f32_add(y + t * w->n_rows, w->bias + row, n_rows);
    }
  }
}

void matmul(onekv_pool *pool, const kernel_table *kernels, const matrix *w, const float *x,
            size_t n_tokens, float *y, float *scratch) {
  matmul_job job = {kernels, w, x, n_tokens, y, scratch};
  pool_run(pool, matmul_share, &job);
}
