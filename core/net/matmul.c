/* Products with weight matrices: shares of rows, kernels, the bias. */
#include "core/net/matmul.h"

enum {
  SHARE_ROWS = PACKED_ROWS, /* shares are cut at multiples of it */
  FETCH_TOKENS = 8          /* of more a product takes far longer than its weights' way */
};

typedef struct matmul_job {
  const kernel_table *kernels;
  const matmul_product *products;
  size_t n_products;
  size_t block_columns; /* of the products that are meant: see block_columns_of */
  const float *x;
  size_t n_columns;
  size_t n_tokens;
  matmul_scratch *scratch;
} matmul_job;

void matmul_scratch_make(size_t n_tokens, size_t n_columns, size_t n_threads, memory_arena *arena,
                         matmul_scratch *scratch) {
  packed_activations *packed = &scratch->packed;
  size_t n_rows = n_tokens * packed->rows_per_token;
  size_t n_units = (n_columns + PACKED_UNIT - 1) / PACKED_UNIT;
  packed->values = arena_take(arena, n_rows, n_columns * sizeof *packed->values);
  packed->wide = arena_take(arena, n_rows, n_columns * sizeof *packed->wide);
  packed->scales = arena_take(arena, n_rows, n_units * sizeof *packed->scales);
  packed->pairs = arena_take(arena, n_rows, 2 * n_units * sizeof *packed->pairs);
  packed->sums = arena_take(arena, n_rows, n_units * sizeof *packed->sums);
  packed->n_table_rows = scratch->meets_one_bit ? n_rows : 0;
  packed->tables = arena_take(arena, packed->n_table_rows, n_columns * PACKED_TABLE_BYTES);
  scratch->n_slabs = scratch->wants_slabs ? n_rows * packed_slabs_of(n_columns) : 0;
  size_t n_behind = scratch->n_slabs > 0 ? PACKED_SLAB_TILE - 1 : 0;
  packed->slabs = arena_take(arena, scratch->n_slabs + n_behind, sizeof *packed->slabs);
  size_t n_decoded = MATMUL_ROWS * n_columns + n_tokens;
  size_t n_strip = PACKED_ROWS * n_rows;
  scratch->n_thread_floats = n_decoded > n_strip ? n_decoded : n_strip;
  scratch->rows = arena_take(arena, n_threads, scratch->n_thread_floats * sizeof(float));
}

void matmul_choose_slabs(matmul_scratch *scratch, size_t n_rows, size_t n_together) {
  packed_activations *packed = &scratch->packed;
  bool has_them = n_together >= PACKED_SLAB_LEAST &&
                  packed->block_columns != PACKED_TABLE_COLUMNS &&
                  n_rows * packed_slabs_of(packed->n_columns) <= scratch->n_slabs;
  packed->n_slab_rows = has_them ? n_rows : 0;
}

/* Columns of the blocks in which the input is rounded for a matrix; 0: it is not. */
static size_t block_columns_of(const matrix *w) { return PACKED_GEOMETRY[w->form].columns; }

void matrix_row(const kernel_table *kernels, const matrix *w, size_t row, float *out) {
  if (w->form == PACKED_NONE) {
    kernels->dequantize[w->type](w->rows + row * w->row_bytes, w->n_columns, out);
    return;
  }
  packed_read(w->form, w->rows + row / PACKED_ROWS * w->row_bytes, row % PACKED_ROWS,
              w->n_columns / block_columns_of(w), out);
}

const float *matrix_rows(const kernel_table *kernels, const matrix *w, size_t first,
                         size_t n_rows, float *scratch) {
  if (w->type == TENSOR_F32) return (const float *)(const void *)(w->rows + first * w->row_bytes);
  for (size_t i = 0; i < n_rows; i++) {
    matrix_row(kernels, w, first + i, scratch + i * w->n_columns);
  }
  return scratch;
}

static void multiply_rows(const matmul_job *job, const matrix *w, size_t first, size_t end,
                          float *y, float *scratch) {
  if (job->n_tokens == 1 && job->kernels->token_matmul[w->type] != NULL) {
    job->kernels->token_matmul[w->type](w->rows + first * w->row_bytes, end - first, job->x,
                                        w->n_columns, y + first);
    return;
  }
  for (size_t row = first; row < end; row += MATMUL_ROWS) {
    size_t n_rows = end - row < MATMUL_ROWS ? end - row : MATMUL_ROWS;
    const float *rows = matrix_rows(job->kernels, w, row, n_rows, scratch);
    job->kernels->f32_matmul(rows, w->n_columns, n_rows, job->x, w->n_columns, job->n_tokens,
                             w->n_columns, y + row, w->n_rows);
  }
}

/* A strip: into y when it is full and a token is one row, else by way of the scratch, where the
 * rows that fill the strip up stay and the rows of a token are added up. */
static void multiply_strip(const matmul_job *job, const matrix *w, size_t first, size_t n_rows,
                           float *y, float *scratch) {
  const packed_activations *x = &job->scratch->packed;
  const uint8_t *strip = w->rows + first / PACKED_ROWS * w->row_bytes;
  bool is_direct = n_rows == PACKED_ROWS && x->rows_per_token == 1;
  float *out = is_direct ? y + first : scratch;
  size_t stride = is_direct ? w->n_rows : PACKED_ROWS;
  if (job->scratch->fetches && job->n_tokens <= FETCH_TOKENS) packed_fetch(strip, w->row_bytes);
  job->kernels->packed_matmul[w->form](strip, x, job->n_tokens * x->rows_per_token, out, stride);
  if (is_direct) return;
  for (size_t t = 0; t < job->n_tokens; t++, out += x->rows_per_token * PACKED_ROWS) {
    for (size_t i = 0; i < n_rows; i++) {
      float *to = &y[t * w->n_rows + first + i];
      *to = x->rows_per_token == 1 ? out[i] : out[i] + out[PACKED_ROWS + i];
    }
  }
}

/* Rows [first, end) of one matrix, with the bias. */
static void multiply(const matmul_job *job, const matmul_product *product, size_t first,
                     size_t end, size_t thread_index) {
  const matrix *w = product->w;
  float *scratch = job->scratch->rows + thread_index * job->scratch->n_thread_floats;
  for (size_t row = first; row < end; row += SHARE_ROWS) {
    size_t n_rows = end - row < SHARE_ROWS ? end - row : SHARE_ROWS;
    if (w->form == PACKED_NONE) {
      multiply_rows(job, w, row, row + n_rows, product->y, scratch);
    } else {
      multiply_strip(job, w, row, n_rows, product->y, scratch);
    }
    if (w->bias == NULL) continue;
    for (size_t t = 0; t < job->n_tokens; t++) {
      job->kernels->f32_add(product->y + t * w->n_rows + row, w->bias + row, n_rows);
    }
  }
}

/* Strips of a product; none of one that is not meant. */
static size_t strips_of(const matmul_job *job, const matmul_product *product) {
  if (block_columns_of(product->w) != job->block_columns) return 0;
  return (product->w->n_rows + SHARE_ROWS - 1) / SHARE_ROWS;
}

/* The rows of all products, one behind the other, are shared out together. */
static void matmul_share(void *context, size_t thread_index, size_t n_threads) {
  const matmul_job *job = context;
  size_t n_all = 0;
  size_t first = 0;
  size_t end = 0;
  for (size_t i = 0; i < job->n_products; i++) n_all += strips_of(job, &job->products[i]);
  pool_share(n_all, 1, thread_index, n_threads, &first, &end);
  for (size_t i = 0, before = 0; i < job->n_products; i++) {
    size_t n_rows = job->products[i].w->n_rows;
    size_t n = strips_of(job, &job->products[i]);
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
  size_t first = 0;
  size_t end = 0;
  pool_share(job->n_tokens, 1, thread_index, n_threads, &first, &end);
  for (size_t t = first; t < end; t++) {
    job->kernels->packed_encode(job->x + t * job->n_columns, t, &job->scratch->packed);
  }
}

/* The products whose input is rounded in blocks of that length. */
static void matmul_by_blocks(onekv_pool *pool, matmul_job *job, size_t block_columns) {
  job->block_columns = block_columns;
  job->scratch->packed.n_columns = job->n_columns;
  job->scratch->packed.block_columns = block_columns;
  size_t n_rows = job->n_tokens * job->scratch->packed.rows_per_token;
  matmul_choose_slabs(job->scratch, n_rows, n_rows);
  if (block_columns > 0 && job->n_tokens > 1) pool_run(pool, encode_share, job);
  if (block_columns > 0 && job->n_tokens == 1) encode_share(job, 0, 1);
  pool_run(pool, matmul_share, job);
}

void matmul(onekv_pool *pool, const kernel_table *kernels, const matmul_product *products,
            size_t n_products, const float *x, size_t n_tokens, matmul_scratch *scratch) {
  size_t n_columns = products[0].w->n_columns;
  matmul_job job = {kernels, products, n_products, 0, x, n_columns, n_tokens, scratch};
  for (size_t i = 0; i < n_products; i++) {
    size_t block_columns = block_columns_of(products[i].w);
    size_t k = 0;
    while (block_columns_of(products[k].w) != block_columns) k++;
    if (k == i) matmul_by_blocks(pool, &job, block_columns); /* the first of its kind */
  }
}
