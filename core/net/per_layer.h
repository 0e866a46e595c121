/* Inputs that each layer has of its own (Gemma 4's per-layer embeddings).
 *
 *   p = (RMSNorm(W x0 / √d) + √P · row of the token) / √2      [L][P], from the embedded x0
 *   layer n, at its end: x += norm(W_n (gelu(G_n x) ⊙ p_n))
 *
 * P is config->n_per_layer, L the number of layers. The table of rows is only looked up: where the
 * model can read its file (onekv_loader_rows), it is left there. */
#ifndef ONEKV_PER_LAYER_H
#define ONEKV_PER_LAYER_H

#include "core/net/forward.h"

/* scratch->per_layer [rows][L][P] of the batch's tokens, from scratch->x as it was embedded.
 * Errors: SOURCE_FAILED, CORRUPT: a row that was left in the file cannot be read, is not finite. */
onekv_status per_layer_embed(const forward_model *model, forward_scratch *scratch,
                             const forward_batch *batch);

/* scratch->branch [rows][d]: what layer n adds to x for them, before its norm. */
void per_layer_branch(const forward_model *model, forward_scratch *scratch, size_t n,
                      size_t n_rows);

#endif
