/* Products with weight matrices of any element type, rows shared out among threads.
 *
 * Packed matrices are multiplied in integers: the input is rounded to 7 or 14 bits and a sign, in
 * blocks as long as the weights', once for all matrices of the call that have the same (packed.h).
 * Others are decoded to f32, a few rows at a time, and multiplied with all tokens, or, where that
 * is quicker, with a single token as they stand. Invariant: y[t][r] has the same bits for any
 * number of tokens, threads and matrices in one call (kernels.h). */
#ifndef ONEKV_MATMUL_H
#define ONEKV_MATMUL_H

#include "core/base/pool.h"
#include "core/net/weights.h"

enum { MATMUL_ROWS = 8 /* decoded at a time */ };

/* Working memory, carved once; nothing in it is read before it is written. */
typedef struct matmul_scratch {
  packed_activations packed;
  bool meets_one_bit; /* there are matrices whose products want tables */
  bool wants_slabs;   /* the kernels do */
  bool fetches;       /* the weights are more than a processor's caches hold */
  size_t n_slabs;
  float *rows; /* [threads][n_thread_floats]: decoded rows and a number per token, or the products
                  of a strip */
  size_t n_thread_floats;
} matmul_scratch;

/* For n_tokens rows of up to n_columns columns, packed.rows_per_token, meets_one_bit and
 * wants_slabs, which are to be set before; counts when the arena has no base. */
void matmul_scratch_make(size_t n_tokens, size_t n_columns, size_t n_threads, memory_arena *arena,
                         matmul_scratch *scratch);

/* Whether the rows of packed.n_columns columns that are encoded next get slabs. n_together: rows
 * that a matrix meets at once. */
void matmul_choose_slabs(matmul_scratch *scratch, size_t n_rows, size_t n_together);

typedef struct matmul_product {
  const matrix *w;
  float *y; /* [n_tokens][w->n_rows] */
} matmul_product;

/* y[t][r] = W[r] · x[t] + bias[r] for each of the products, all of the same n_columns;
 * x [n_tokens][n_columns]. */
void matmul(onekv_pool *pool, const kernel_table *kernels, const matmul_product *products,
            size_t n_products, const float *x, size_t n_tokens, matmul_scratch *scratch);

/* Matrices of heads that stand in one: head h's are the rows [first + h·stride, + n_rows). A
 * token's row of x and of y is [n_heads][width], the widths at least what is read and written. */
typedef struct heads_product {
  const matrix *w; /* packed only if first, stride and n_rows are multiples of PACKED_ROWS */
  size_t n_heads;
  size_t first, stride, n_rows;
  const float *x; /* [n_tokens][n_heads][x_width] */
  size_t x_width;
  size_t n_tokens;
  float *y; /* [n_tokens][n_heads][y_width] */
  size_t y_width;
} heads_product;

/* y[t][h] = W_h · x[t][h]: reads n_columns, writes n_rows of each head. */
void matmul_heads(onekv_pool *pool, const kernel_table *kernels, const heads_product *product,
                  matmul_scratch *scratch);

/* y[t][h] = W_hᵀ · x[t][h]: reads n_rows, writes n_columns of each head. In floats, whatever the
 * matrix's type; head by head on one thread each. */
void matmul_heads_transposed(onekv_pool *pool, const kernel_table *kernels,
                             const heads_product *product, matmul_scratch *scratch);

/* Rows [first, first + n_rows) as f32 [n_rows][n_columns]: in place when they are f32, else in
 * scratch. */
const float *matrix_rows(const kernel_table *kernels, const matrix *w, size_t first,
                         size_t n_rows, float *scratch);

/* out[n_columns] = row r of the matrix as f32. */
void matrix_row(const kernel_table *kernels, const matrix *w, size_t row, float *out);

#endif
