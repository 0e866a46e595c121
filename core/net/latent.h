/* Latent attention (MLA) in absorbed form: what stands between the projections of a layer and
 * attention over its cached rows (config.h: latent_widths).
 *
 * The two matrices of each head, W_k and W_v, never meet the cache: W_kᵀ is applied to queries and
 * W_v to a head's sum: attention is that of one KV head whose value is a part of its key. */
#ifndef ONEKV_LATENT_H
#define ONEKV_LATENT_H

#include "core/net/forward.h"

/* After layer n's products with x: scratch->rows hold unnormed latents and keys, and
 * scratch->expanded queries, or scratch->query_latents what they come from. Norms the latents, and
 * leaves in scratch->queries what meets the rows once both are rotated. */
void latent_project(const forward_model *model, forward_scratch *scratch, size_t n,
                    size_t n_rows);

/* scratch->expanded [rows][H·value] = each head's W_v times its sum in scratch->heads. */
void latent_expand(const forward_model *model, forward_scratch *scratch, size_t n, size_t n_rows);

#endif
