/* Gated short convolution: products and sums. */
#include "core/net/short_conv.h"

#include <string.h>

void short_conv_project(const forward_model *model, forward_scratch *scratch, size_t n,
                        const float *x, size_t n_rows) {
  size_t d = model->config->n_embedding;
  matmul_product one = {&model->weights->layers[n].convolution, scratch->expanded};
  matmul(model->pool, model->kernels, &one, 1, x, n_rows, &scratch->matmul);
  for (size_t row = 0; row < n_rows; row++) {
    const float *parts = scratch->expanded + row * 3 * d;
    float *u = scratch->rows + row * d;
    memcpy(u, parts, d * sizeof *u);
    model->kernels->f32_multiply(u, parts + 2 * d, d);
  }
}

/* y [d] of one position; u [d] is working memory. Taps that lie before the text are left out. */
static void sum_taps(const kv_cache *cache, size_t layer, const float *taps, size_t n_taps,
                     size_t position, size_t d, float *u, float *y) {
  memset(y, 0, d * sizeof *y);
  for (size_t k = 0; k < n_taps; k++) {
    if (position + k + 1 < n_taps) continue;
    kv_cache_row(cache, layer, KV_ROW, 0, position + k + 1 - n_taps, u);
    for (size_t c = 0; c < d; c++) y[c] += taps[c * n_taps + k] * u[c];
  }
}

void short_conv_mix(const forward_model *model, forward_scratch *scratch,
                    const forward_batch *batch, size_t n) {
  size_t d = model->config->n_embedding;
  size_t n_taps = config_kind(model->config, n)->n_taps;
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    for (size_t i = 0; i < slice->n_rows; i++) {
      size_t row = slice->first_row + i;
      float *y = scratch->heads + row * d;
      sum_taps(slice->cache, n, model->weights->layers[n].taps, n_taps, slice->first_position + i,
               d, scratch->branch, y);
      model->kernels->f32_multiply(y, scratch->expanded + row * 3 * d + d, d);
    }
  }
}
