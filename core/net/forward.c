/* The transformer, as the paper writes it.
 *
 *   x = embed(input)
 *   for each layer:
 *     n = norm(x)
 *     Q = n Wq    C = n Wk    V = n Wv     (Q-K=V: no V;  Q=K-V: Q is C;  Q=K=V: C alone)
 *     append C (and V) to the cache
 *     x = x + softmax(α Q Cᵀ) V Wo         (K=V: V is C)
 *     x = x + mlp(norm(x))
 *   logits = norm(x) W_head
 *
 * Invariant: a row's arithmetic does not depend on the other rows of its batch. */
#include "core/net/forward.h"

#include <math.h>
#include <string.h>

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

void forward_scratch_make(const onekv_config *config, const model_weights *weights,
                          size_t n_context, memory_arena *arena, forward_scratch *scratch) {
  size_t n = scratch->n_rows_max;
  size_t d = config->n_embedding;
  size_t h = config->head_width;
  size_t n_mlp = config->n_feed_forward;
  size_t n_pairs = config->position == ONEKV_ROPE ? config->rope.n_rotated / 2 : 0;
  size_t widest = largest(largest(d, config->n_heads * h), largest(n_mlp, config->n_features));
  scratch->x = arena_take(arena, n, d * sizeof(float));
  scratch->normed = arena_take(arena, n, d * sizeof(float));
  scratch->queries = arena_take(arena, n, config->n_heads * h * sizeof(float));
  scratch->keys = arena_take(arena, n, config->n_kv_heads * h * sizeof(float));
  scratch->values = arena_take(arena, n, config->n_kv_heads * h * sizeof(float));
  scratch->heads = arena_take(arena, n, config->n_heads * h * sizeof(float));
  scratch->gate = arena_take(arena, n, n_mlp * sizeof(float));
  scratch->up = arena_take(arena, n, n_mlp * sizeof(float));
  scratch->cosines = arena_take(arena, n, n_pairs * sizeof(float));
  scratch->sines = arena_take(arena, n, n_pairs * sizeof(float));
  scratch->picked = arena_take(arena, scratch->n_logits_max, d * sizeof(float));
  scratch->logits =
      arena_take(arena, scratch->n_logits_max, config->n_outputs * sizeof(float));
  scratch->tiles = arena_take(arena, attention_scratch_floats(config, scratch->n_threads_max),
                              sizeof(float));
  matmul_scratch_make(largest(n, scratch->n_logits_max), widest, scratch->n_threads_max, arena,
                      &scratch->matmul);
  if (config->position == ONEKV_ROPE) {
    rope_tables_make(&config->rope, n_context, weights->rope_frequencies, arena,
                     &scratch->rope);
  }
}

static void product(const forward_model *model, forward_scratch *scratch, const matrix *w,
                    const float *x, size_t n_rows, float *y) {
  matmul_product one = {w, y};
  matmul(model->pool, model->kernels, &one, 1, x, n_rows, &scratch->matmul);
}

static void normalise(const forward_model *model, const norm_weights *norm, const float *x,
                      size_t n_rows, float *y) {
  size_t d = model->config->n_embedding;
  float epsilon = model->config->norm_epsilon;
  for (size_t row = 0; row < n_rows; row++) {
    const float *from = x + row * d;
    if (model->config->norm == ONEKV_LAYER_NORM) {
      model->kernels->f32_layer_norm(from, norm->gain, norm->bias, epsilon, d, y + row * d);
    } else {
      model->kernels->f32_rms_norm(from, norm->gain, epsilon, d, y + row * d);
    }
  }
}

/* x = embedding (or projected features) + position embedding; the angles of every row. */
static void embed(const forward_model *model, forward_scratch *scratch,
                  const forward_batch *batch) {
  const onekv_config *config = model->config;
  const model_weights *weights = model->weights;
  size_t d = config->n_embedding;
  size_t n_pairs = scratch->rope.n_pairs;
  if (batch->tokens == NULL) {
    size_t n_class_rows = weights->class_row != NULL ? 1 : 0;
    product(model, scratch, &weights->input_projection, batch->features,
            batch->n_rows - n_class_rows, scratch->x + n_class_rows * d);
  }
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    for (size_t i = 0; i < slice->n_rows; i++) {
      size_t row = slice->first_row + i;
      size_t position = slice->first_position + i;
      float *x = scratch->x + row * d;
      if (batch->tokens != NULL) {
        matrix_row(model->kernels, &weights->token_embedding, (size_t)batch->tokens[row], x);
      } else if (weights->class_row != NULL && position == 0) {
        memcpy(x, weights->class_row, d * sizeof *x);
      }
      if (config->position == ONEKV_LEARNED) {
        matrix_row(model->kernels, &weights->position_embedding, position, scratch->normed);
        model->kernels->f32_add(x, scratch->normed, d);
      } else if (config->position == ONEKV_ROPE) {
        rope_angles(&scratch->rope, position, scratch->cosines + row * n_pairs,
                    scratch->sines + row * n_pairs);
      }
    }
  }
}

static void normalise_heads(const forward_model *model, float *heads, size_t n_heads,
                            const float *gain) {
  if (gain == NULL) return;
  size_t h = model->config->head_width;
  for (size_t i = 0; i < n_heads; i++) {
    float *head = heads + i * h;
    model->kernels->f32_rms_norm(head, gain, model->config->norm_epsilon, h, head);
  }
}

/* Rotates n_heads heads of every row by the row's position. */
static void rotate(const forward_model *model, forward_scratch *scratch, float *heads,
                   size_t n_heads, size_t n_rows, bool inverse) {
  if (model->config->position != ONEKV_ROPE) return;
  size_t h = model->config->head_width;
  size_t n_pairs = scratch->rope.n_pairs;
  for (size_t row = 0; row < n_rows; row++) {
    rope_rotate_heads(&scratch->rope, model->kernels, heads + row * n_heads * h, n_heads, h,
                      scratch->cosines + row * n_pairs, scratch->sines + row * n_pairs, inverse);
  }
}

/* Query head i of a Q=K model is key head ⌊i·g/H⌋. */
static void copy_keys_to_queries(const onekv_config *config, const forward_scratch *scratch,
                                 size_t n_rows) {
  size_t h = config->head_width;
  size_t group = config->n_heads / config->n_kv_heads;
  for (size_t i = 0; i < n_rows * config->n_heads; i++) {
    memcpy(scratch->queries + i * h, scratch->keys + i / group * h, h * sizeof(float));
  }
}

/* Q, K and V of every row, as far as the projection sharing has them; Q and K rotated. When keys
 * are made at read, scratch->keys keeps the shared tensor as it was projected. */
static void project(const forward_model *model, forward_scratch *scratch,
                    const layer_weights *layer, size_t n_rows) {
  const onekv_config *config = model->config;
  size_t n_kv_heads = config->n_kv_heads;
  matmul_product products[3] = {{&layer->key, scratch->keys}};
  size_t n_products = 1;
  if (!config_shares_kv(config)) {
    products[n_products++] = (matmul_product){&layer->value, scratch->values};
  }
  if (!config_shares_qk(config)) {
    products[n_products++] = (matmul_product){&layer->query, scratch->queries};
  }
  matmul(model->pool, model->kernels, products, n_products, scratch->normed, n_rows,
         &scratch->matmul);
  if (config_shares_qk(config)) copy_keys_to_queries(config, scratch, n_rows);
  normalise_heads(model, scratch->queries, n_rows * config->n_heads, layer->query_norm);
  rotate(model, scratch, scratch->queries, config->n_heads, n_rows, false);
  if (config_makes_keys_at_read(config)) return;
  normalise_heads(model, scratch->keys, n_rows * n_kv_heads, layer->key_norm);
  rotate(model, scratch, scratch->keys, n_kv_heads, n_rows, false);
}

static void append(const forward_model *model, const forward_scratch *scratch,
                   const forward_batch *batch, size_t layer) {
  const onekv_config *config = model->config;
  size_t width = config->n_kv_heads * config->head_width;
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    for (size_t i = 0; i < slice->n_rows; i++) {
      size_t row = slice->first_row + i;
      size_t position = slice->first_position + i;
      kv_cache_write(slice->cache, layer, KV_KEYS, position, scratch->keys + row * width);
      if (config_shares_kv(config)) continue;
      kv_cache_write(slice->cache, layer, KV_VALUES, position, scratch->values + row * width);
    }
  }
}

/* Turns each head's output back by its row's position and takes the magnitude m away: the angles
 * carry m once in the cached keys and once here. */
static void unrotate(const forward_model *model, forward_scratch *scratch, size_t n_rows) {
  const onekv_config *config = model->config;
  rotate(model, scratch, scratch->heads, config->n_heads, n_rows, true);
  float m = config->rope.attention_factor;
  if (m == 1.0f) return;
  for (size_t head = 0; head < n_rows * config->n_heads; head++) {
    float *x = scratch->heads + head * config->head_width;
    for (size_t c = 0; c < config->rope.n_rotated; c++) x[c] /= m * m;
  }
}

/* heads = softmax(σ α Q Kᵀ + κ) V */
static void attend(const forward_model *model, forward_scratch *scratch,
                   const forward_batch *batch, size_t n) {
  const layer_weights *layer = &model->weights->layers[n];
  float temperature = layer->score_scale != NULL ? layer->score_scale[0] : 1.0f;
  attention_call call = {
      .config = model->config,
      .kernels = model->kernels,
      .rope = &scratch->rope,
      .slices = batch->slices,
      .n_slices = batch->n_slices,
      .layer = n,
      .score_scale = temperature / sqrtf((float)model->config->head_width),
      .key_bias = layer->key_bias,
      .key_norm = layer->key_norm,
      .queries = scratch->queries,
      .out = scratch->heads,
      .scratch = scratch->tiles,
  };
  attention(model->pool, &call);
  if (config_unrotates(model->config)) unrotate(model, scratch, batch->n_rows);
}

/* gate = act(up) or silu(gate) · up; then y = down. */
static void mlp(const forward_model *model, forward_scratch *scratch, const layer_weights *layer,
                size_t n_rows) {
  const kernel_table *kernels = model->kernels;
  size_t n = n_rows * model->config->n_feed_forward;
  const float *hidden = scratch->up;
  matmul_product products[2] = {{&layer->up, scratch->up}, {&layer->gate, scratch->gate}};
  matmul(model->pool, kernels, products, model->config->activation == ONEKV_SWIGLU ? 2 : 1,
         scratch->normed, n_rows, &scratch->matmul);
  switch (model->config->activation) {
    case ONEKV_SWIGLU:
      kernels->f32_silu_multiply(scratch->gate, scratch->up, n);
      hidden = scratch->gate;
      break;
    case ONEKV_GELU_TANH:
      kernels->f32_gelu_tanh(scratch->up, n);
      break;
    default:
      kernels->f32_gelu_erf(scratch->up, n);
  }
  product(model, scratch, &layer->down, hidden, n_rows, scratch->normed);
}

static void read_out(const forward_model *model, forward_scratch *scratch,
                     const forward_batch *batch) {
  size_t d = model->config->n_embedding;
  for (size_t i = 0; i < batch->n_logits; i++) {
    const float *x = scratch->x + batch->logit_rows[i] * d;
    normalise(model, &model->weights->output_norm, x, 1, scratch->picked + i * d);
  }
  if (batch->n_logits == 0) return;
  product(model, scratch, &model->weights->head, scratch->picked, batch->n_logits,
          scratch->logits + batch->first_logit * model->config->n_outputs);
}

void forward(const forward_model *model, forward_scratch *scratch, const forward_batch *batch) {
  const kernel_table *kernels = model->kernels;
  size_t n_rows = batch->n_rows;
  size_t n_residual = n_rows * model->config->n_embedding;
  embed(model, scratch, batch);
  for (size_t n = 0; n < model->config->n_layers; n++) {
    const layer_weights *layer = &model->weights->layers[n];
    normalise(model, &layer->attention_norm, scratch->x, n_rows, scratch->normed);
    project(model, scratch, layer, n_rows);
    append(model, scratch, batch, n);
    attend(model, scratch, batch, n);
    product(model, scratch, &layer->output, scratch->heads, n_rows, scratch->normed);
    kernels->f32_add(scratch->x, scratch->normed, n_residual);
    normalise(model, &layer->mlp_norm, scratch->x, n_rows, scratch->normed);
    mlp(model, scratch, layer, n_rows);
    kernels->f32_add(scratch->x, scratch->normed, n_residual);
  }
  read_out(model, scratch, batch);
}
