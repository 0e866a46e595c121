/* What the first layer reads: tokens, features, positions; and each row's angles. See forward.h. */
#include "core/net/forward.h"

#include <math.h>
#include <string.h>

/* The angles of a position, for each kind of layer that rotates. */
static void find_angles(const onekv_config *config, forward_scratch *scratch, size_t row,
                        size_t position) {
  for (size_t i = 0; i < config->n_kinds; i++) {
    size_t n_pairs = config->kinds[i].rope.n_rotated / 2;
    if (n_pairs == 0) continue;
    rope_angles(&scratch->rope[i], position, scratch->cosines[i] + row * n_pairs,
                scratch->sines[i] + row * n_pairs);
  }
}

/* Queries of long texts are scaled up, so that attention stays sharp (Llama 4's temperature). */
static void find_temperature(const onekv_config *config, forward_scratch *scratch, size_t row,
                             size_t position) {
  float beta = config->temperature_scale;
  if (beta == 0.0f) return;
  float lengths = (float)(position / config->temperature_length);
  scratch->temperatures[row] = 1.0f + beta * logf(1.0f + lengths);
}

void forward_embed(const forward_model *model, forward_scratch *scratch,
                   const forward_batch *batch) {
  const onekv_config *config = model->config;
  const model_weights *weights = model->weights;
  size_t d = config->n_embedding;
  if (batch->tokens == NULL) {
    size_t n_class_rows = weights->class_row != NULL ? 1 : 0;
    matmul_product one = {&weights->input_projection, scratch->x + n_class_rows * d};
    matmul(model->pool, model->kernels, &one, 1, batch->features, batch->n_rows - n_class_rows,
           &scratch->matmul);
  }
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    for (size_t i = 0; i < slice->n_rows; i++) {
      size_t row = slice->first_row + i;
      size_t position = slice->first_position + i;
      float *x = scratch->x + row * d;
      if (batch->tokens != NULL) {
        matrix_row(model->kernels, &weights->token_embedding, (size_t)batch->tokens[row], x);
        for (size_t c = 0; c < d; c++) x[c] *= config->embedding_scale;
      } else if (weights->class_row != NULL && position == 0) {
        memcpy(x, weights->class_row, d * sizeof *x);
      }
      if (config->position == ONEKV_LEARNED) {
        matrix_row(model->kernels, &weights->position_embedding, position, scratch->branch);
        model->kernels->f32_add(x, scratch->branch, d);
      }
      if (config->n_token_types > 0) {
        matrix_row(model->kernels, &weights->token_types, 0, scratch->branch);
        model->kernels->f32_add(x, scratch->branch, d);
        const norm_weights *norm = &weights->embedding_norm;
        model->kernels->f32_layer_norm(x, norm->gain, norm->bias, config->norm_epsilon, d, x);
      }
      find_angles(config, scratch, row, position);
      find_temperature(config, scratch, row, position);
    }
  }
}
