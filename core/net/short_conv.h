/* Gated short convolution in attention's place (LFM2).
 *
 *   [b | c | x'] = W n        u = b ⊙ x'
 *   y_t = c ⊙ Σ_k w_k ⊙ u_{t-L+1+k}, k < L; u is 0 before the text
 *
 * u is what the layer caches: one row of a position, of which a query sees the last L. So the cache
 * keeps it as it keeps a window, and clones, cuts, snapshots and batches are those of one. */
#ifndef ONEKV_SHORT_CONV_H
#define ONEKV_SHORT_CONV_H

#include "core/net/forward.h"

/* scratch->rows [rows][d]: u of layer n, from x [rows][d]; c stays in scratch->expanded. */
void short_conv_project(const forward_model *model, forward_scratch *scratch, size_t n,
                        const float *x, size_t n_rows);

/* scratch->heads [rows][d]: y of the batch, whose u is in the caches. */
void short_conv_mix(const forward_model *model, forward_scratch *scratch,
                    const forward_batch *batch, size_t n);

#endif
