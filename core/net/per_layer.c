/* Inputs that each layer has of its own; see per_layer.h. */
#include "core/net/per_layer.h"

#include <math.h>

/* A token's row of the table to scratch->per_layer_row. */
static onekv_status look_up(const forward_model *model, forward_scratch *scratch, size_t token) {
  matrix table = model->weights->per_layer_embedding;
  if (model->weights->left_at == 0) {
    matrix_row(model->kernels, &table, token, scratch->per_layer_row);
    return ONEKV_OK;
  }
  uint64_t at = model->weights->left_at + (uint64_t)token * table.row_bytes;
  table.rows = scratch->per_layer_bytes;
  if (!model->source->read(model->source->context, at, table.row_bytes, table.rows)) {
    return ONEKV_SOURCE_FAILED;
  }
  matrix_row(model->kernels, &table, 0, scratch->per_layer_row);
  for (size_t c = 0; c < table.n_columns; c++) {
    if (!isfinite(scratch->per_layer_row[c])) return ONEKV_CORRUPT;
  }
  return ONEKV_OK;
}

onekv_status per_layer_embed(const forward_model *model, forward_scratch *scratch,
                             const forward_batch *batch) {
  const onekv_config *config = model->config;
  const model_weights *weights = model->weights;
  size_t width = config->n_per_layer;
  size_t n_all = config->n_layers * width;
  float input_scale = 1.0f / sqrtf((float)config->n_embedding);
  float row_scale = sqrtf((float)width);
  const float half = 0.70710678f; /* 1/√2 */
  matmul_product one = {&weights->per_layer_projection, scratch->per_layer};
  matmul(model->pool, model->kernels, &one, 1, scratch->x, batch->n_rows, &scratch->matmul);
  for (size_t row = 0; row < batch->n_rows; row++) {
    float *p = scratch->per_layer + row * n_all;
    const float *looked_up = scratch->per_layer_row;
    onekv_status status = look_up(model, scratch, (size_t)batch->tokens[row]);
    if (status != ONEKV_OK) return status;
    for (size_t c = 0; c < n_all; c++) p[c] *= input_scale;
    for (size_t n = 0; n < config->n_layers; n++) {
      float *part = p + n * width;
      model->kernels->f32_rms_norm(part, weights->per_layer_norm, config->norm_epsilon, width,
                                   part);
    }
    for (size_t c = 0; c < n_all; c++) p[c] = (p[c] + looked_up[c] * row_scale) * half;
  }
  return ONEKV_OK;
}

void per_layer_branch(const forward_model *model, forward_scratch *scratch, size_t n,
                      size_t n_rows) {
  const onekv_config *config = model->config;
  const layer_weights *layer = &model->weights->layers[n];
  size_t width = config->n_per_layer;
  float *hidden = scratch->gate;
  matmul_product gate = {&layer->per_layer_gate, hidden};
  matmul_product back = {&layer->per_layer_back, scratch->branch};
  matmul(model->pool, model->kernels, &gate, 1, scratch->x, n_rows, &scratch->matmul);
  model->kernels->f32_activate[config->activation](hidden, n_rows * width);
  for (size_t row = 0; row < n_rows; row++) {
    const float *p = scratch->per_layer + (row * config->n_layers + n) * width;
    model->kernels->f32_multiply(hidden + row * width, p, width);
  }
  matmul(model->pool, model->kernels, &back, 1, hidden, n_rows, &scratch->matmul);
}
