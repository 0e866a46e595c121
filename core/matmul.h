/* Products with weight matrices of any element type, rows shared out among threads.
 *
 * A few rows at a time are decoded to f32 and multiplied with all tokens of the call, so the cost
 * of decoding is shared by a prefill chunk or a batch. Invariant: y[t][r] has the same bits for
 * any number of tokens and threads (kernels.h, f32_matmul). */
#ifndef ONEKV_MATMUL_H
#define ONEKV_MATMUL_H

#include "pool.h"
#include "weights.h"

enum { MATMUL_ROWS = 8 }; /* rows decoded at a time */

/* y[t][r] = W[r] · x[t] + bias[r]; x [n_tokens][n_columns], y [n_tokens][n_rows].
 * scratch [threads][MATMUL_ROWS × n_columns] floats, not read before it is written. */
void matmul(onekv_pool *pool, const kernel_table *kernels, const matrix *w, const float *x,
            size_t n_tokens, float *y, float *scratch);

/* out[n_columns] = row r of the matrix as f32. */
void matrix_row(const kernel_table *kernels, const matrix *w, size_t row, float *out);

#endif
