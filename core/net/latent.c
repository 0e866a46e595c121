/* Latent attention: norms of latents, and the products of each head. */
#include "core/net/latent.h"

#include <string.h>

/* Norms the first `width` elements of rows that are `stride` apart. */
static void norm_latents(const forward_model *model, const float *gain, size_t width,
                         size_t n_rows, size_t stride, float *rows) {
  for (size_t i = 0; i < n_rows; i++) {
    float *row = rows + i * stride;
    model->kernels->f32_rms_norm(row, gain, model->config->latent_epsilon, width, row);
  }
}

/* queries [rows][H][rank + rotated] = [W_kᵀ q | q'] of expanded [rows][H][plain + rotated]. */
static void absorb(const forward_model *model, forward_scratch *scratch, size_t n,
                   size_t n_rows) {
  const layer_weights *layer = &model->weights->layers[n];
  const layer_kind *kind = config_kind(model->config, n);
  const latent_widths *latent = &kind->latent;
  size_t x_width = kind_query_width(kind);
  heads_product product = {.n_heads = kind->n_heads,
                           .x = scratch->expanded,
                           .x_width = x_width,
                           .n_tokens = n_rows,
                           .y = scratch->queries,
                           .y_width = kind->key_width};
  for (size_t i = 0; i < n_rows * kind->n_heads; i++) {
    memcpy(scratch->queries + i * kind->key_width + latent->rank,
           scratch->expanded + i * x_width + latent->plain,
           kind->rope.n_rotated * sizeof(float));
  }
  if (model->config->has_joined_latent) {
    product.w = &layer->latent_both;
    product.stride = latent->plain + latent->value;
    product.n_rows = latent->plain;
    matmul_heads_transposed(model->pool, model->kernels, &product, &scratch->matmul);
  } else {
    product.w = &layer->latent_key;
    product.stride = product.n_rows = latent->rank;
    matmul_heads(model->pool, model->kernels, &product, &scratch->matmul);
  }
}

void latent_project(const forward_model *model, forward_scratch *scratch, size_t n,
                    size_t n_rows) {
  const layer_weights *layer = &model->weights->layers[n];
  const layer_kind *kind = config_kind(model->config, n);
  const latent_widths *latent = &kind->latent;
  norm_latents(model, layer->latent_norm, latent->rank, n_rows, kind->key_width, scratch->rows);
  if (latent->query_rank > 0) {
    matmul_product query = {&layer->query, scratch->expanded};
    norm_latents(model, layer->query_latent_norm, latent->query_rank, n_rows, latent->query_rank,
                 scratch->query_latents);
    matmul(model->pool, model->kernels, &query, 1, scratch->query_latents, n_rows,
           &scratch->matmul);
  }
  absorb(model, scratch, n, n_rows);
}

void latent_expand(const forward_model *model, forward_scratch *scratch, size_t n,
                   size_t n_rows) {
  const layer_weights *layer = &model->weights->layers[n];
  const layer_kind *kind = config_kind(model->config, n);
  const latent_widths *latent = &kind->latent;
  bool is_joined = model->config->has_joined_latent;
  heads_product product = {.w = is_joined ? &layer->latent_both : &layer->latent_value,
                           .n_heads = kind->n_heads,
                           .first = is_joined ? latent->plain : 0,
                           .stride = is_joined ? latent->plain + latent->value : latent->value,
                           .n_rows = latent->value,
                           .x = scratch->heads,
                           .x_width = latent->rank,
                           .n_tokens = n_rows,
                           .y = scratch->expanded,
                           .y_width = latent->value};
  matmul_heads(model->pool, model->kernels, &product, &scratch->matmul);
}
