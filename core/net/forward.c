/* The transformer, as the paper writes it.
 *
 *   x = embed(input)
 *   for each layer:
 *     n = norm(x)
 *     Q = n Wq    C = n Wk    V = n Wv     (Q-K=V: no V;  Q=K-V: Q is C;  Q=K=V: C alone)
 *     append C (and V) to the cache
 *     x = x + softmax(α Q Cᵀ) V Wo         (K=V: V is C; or a convolution, short_conv.h)
 *     x = x + mlp(norm(x))                  (a branch is normed before, after, both; or x behind)
 *   logits = norm(x) W_head
 *
 * Invariant: a row's arithmetic does not depend on the other rows of its batch. */
#include "core/net/forward.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/net/latent.h"
#include "core/net/per_layer.h"
#include "core/net/short_conv.h"

static void product(const forward_model *model, forward_scratch *scratch, const matrix *w,
                    const float *x, size_t n_rows, float *y) {
  matmul_product one = {w, y};
  matmul(model->pool, model->kernels, &one, 1, x, n_rows, &scratch->matmul);
}

/* y = x, normed where there is a norm. */
static void normalise(const forward_model *model, const norm_weights *norm, const float *x,
                      size_t n_rows, float *y) {
  size_t d = model->config->n_embedding;
  float epsilon = model->config->norm_epsilon;
  if (norm->gain == NULL) memmove(y, x, n_rows * d * sizeof *y);
  for (size_t row = 0; row < n_rows && norm->gain != NULL; row++) {
    const float *from = x + row * d;
    if (model->config->norm == ONEKV_LAYER_NORM) {
      model->kernels->f32_layer_norm(from, norm->gain, norm->bias, epsilon, d, y + row * d);
    } else {
      model->kernels->f32_rms_norm(from, norm->gain, epsilon, d, y + row * d);
    }
  }
}

/* What a branch reads: x, normed where the branch has a norm before it. */
static const float *read_branch(const forward_model *model, forward_scratch *scratch,
                                const norm_weights *norm, size_t n_rows) {
  if (norm->gain == NULL) return scratch->x;
  normalise(model, norm, scratch->x, n_rows, scratch->normed);
  return scratch->normed;
}

static void scale(float *x, size_t n, float factor) {
  for (size_t c = 0; c < n && factor != 1.0f; c++) x[c] *= factor;
}

/* x += what the branch gave, normed where it has a norm behind it; then x is, where the sum has. */
static void add_branch(const forward_model *model, forward_scratch *scratch,
                       const norm_weights *norm, const norm_weights *sum_norm, size_t n_rows) {
  float *branch = scratch->branch;
  size_t n = n_rows * model->config->n_embedding;
  if (norm->gain != NULL) normalise(model, norm, branch, n_rows, branch);
  scale(branch, n, model->config->residual_scale);
  model->kernels->f32_add(scratch->x, branch, n);
  if (sum_norm->gain != NULL) normalise(model, sum_norm, scratch->x, n_rows, scratch->x);
}

static void normalise_heads(const forward_model *model, float *heads, size_t n_heads, size_t width,
                            const float *gain) {
  if (gain == NULL) return;
  for (size_t i = 0; i < n_heads; i++) {
    float *head = heads + i * width;
    model->kernels->f32_rms_norm(head, gain, model->config->norm_epsilon, width, head);
  }
}

/* Rotates n_heads heads of every row by the row's position, as layer n does. */
static void rotate(const forward_model *model, const forward_scratch *scratch, size_t n,
                   float *heads, size_t n_heads, size_t n_rows, bool inverse) {
  size_t i = model->config->kind_of[n];
  size_t k = model->config->kinds[i].key_width;
  size_t n_pairs = model->config->kinds[i].rope.n_rotated / 2;
  for (size_t row = 0; row < n_rows && n_pairs > 0; row++) {
    rope_rotate_heads(&scratch->rope[i], model->kernels, heads + row * n_heads * k, n_heads, k,
                      scratch->cosines[i] + row * n_pairs, scratch->sines[i] + row * n_pairs,
                      inverse);
  }
}

/* The heads [n_rows][n_heads][k] as they meet each other: normed and rotated, in the model's order.
 * gain [k], [n_heads·k], or NULL. */
static void finish_heads(const forward_model *model, const forward_scratch *scratch, size_t n,
                         float *heads, size_t n_heads, size_t n_rows, const float *gain) {
  const onekv_config *config = model->config;
  size_t k = config_kind(config, n)->key_width;
  size_t n_joined = config->norms_rows ? n_heads : 1;
  if (config->norms_rotated) rotate(model, scratch, n, heads, n_heads, n_rows, false);
  normalise_heads(model, heads, n_rows * n_heads / n_joined, n_joined * k, gain);
  if (!config->norms_rotated) rotate(model, scratch, n, heads, n_heads, n_rows, false);
}

/* Query head i of a Q=K model is key head ⌊i·g/H⌋. */
static void copy_rows_to_queries(const layer_kind *kind, const forward_scratch *scratch,
                                 size_t n_rows) {
  size_t k = kind->key_width;
  size_t group = kind->n_heads / kind->n_kv_heads;
  for (size_t i = 0; i < n_rows * kind->n_heads; i++) {
    memcpy(scratch->queries + i * k, scratch->rows + i / group * k, k * sizeof(float));
  }
}

/* Q, K and V of every row, as far as the layer has them, from x [rows][d]; Q and K normed and
 * rotated. When keys are made at read, scratch->rows keeps the shared tensor as projected. */
static void project(const forward_model *model, forward_scratch *scratch, size_t n, const float *x,
                    size_t n_rows) {
  const layer_weights *layer = &model->weights->layers[n];
  const layer_kind *kind = config_kind(model->config, n);
  bool has_own_cache = model->config->cached_by[n] == n;
  matmul_product products[3];
  size_t n_products = 0;
  assert(has_own_cache || !kind->query_is_key);
  if (has_own_cache) products[n_products++] = (matmul_product){&layer->key, scratch->rows};
  if (has_own_cache && !kind->shares_row) {
    products[n_products++] = (matmul_product){&layer->value, scratch->values};
  }
  if (kind->latent.query_rank > 0) {
    products[n_products++] = (matmul_product){&layer->query_down, scratch->query_latents};
  } else if (!kind->query_is_key) {
    float *queries = kind->latent.rank > 0 ? scratch->expanded : scratch->queries;
    products[n_products++] = (matmul_product){&layer->query, queries};
  }
  matmul(model->pool, model->kernels, products, n_products, x, n_rows, &scratch->matmul);
  if (kind->query_is_key) copy_rows_to_queries(kind, scratch, n_rows);
  if (kind->latent.rank > 0) latent_project(model, scratch, n, n_rows);
  finish_heads(model, scratch, n, scratch->queries, kind->n_heads, n_rows, layer->query_norm);
  size_t n_floats = kind->n_heads * kind->key_width;
  for (size_t row = 0; row < n_rows && model->config->temperature_scale > 0.0f; row++) {
    scale(scratch->queries + row * n_floats, n_floats, scratch->temperatures[row]);
  }
  if (has_own_cache && kind->norms_values) {
    float *values = kind->shares_row ? scratch->rows : scratch->values;
    normalise_heads(model, values, n_rows * kind->n_kv_heads, kind->value_width, scratch->ones);
  }
  if (!has_own_cache || kind->keys == KEYS_AT_READ) return;
  finish_heads(model, scratch, n, scratch->rows, kind->n_kv_heads, n_rows, layer->key_norm);
}

static void append(const forward_model *model, const forward_scratch *scratch,
                   const forward_batch *batch, size_t n) {
  const layer_kind *kind = config_kind(model->config, n);
  if (model->config->cached_by[n] != n) return;
  size_t row_width = kind->n_kv_heads * kind->key_width;
  size_t value_width = kind->n_kv_heads * kind->value_width;
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    for (size_t i = 0; i < slice->n_rows; i++) {
      size_t row = slice->first_row + i;
      size_t position = slice->first_position + i;
      kv_cache_write(slice->cache, n, KV_ROW, position, scratch->rows + row * row_width);
      if (kind->shares_row) continue;
      kv_cache_write(slice->cache, n, KV_VALUE, position, scratch->values + row * value_width);
    }
  }
}

/* Turns each head's output back by its row's position and takes the magnitude m away: the angles
 * carry m once in the cached keys and once here. */
static void unrotate(const forward_model *model, forward_scratch *scratch, size_t n,
                     size_t n_rows) {
  const layer_kind *kind = config_kind(model->config, n);
  assert(kind->value_offset == 0 && kind->value_width == kind->key_width);
  rotate(model, scratch, n, scratch->heads, kind->n_heads, n_rows, true);
  float m = kind->rope.attention_factor;
  if (m == 1.0f) return;
  for (size_t head = 0; head < n_rows * kind->n_heads; head++) {
    float *x = scratch->heads + head * kind->value_width + kind->rope.first;
    for (size_t c = 0; c < kind->rope.n_rotated; c++) x[c] /= m * m;
  }
}

attention_call forward_attention(const forward_model *model, const forward_scratch *scratch,
                                 size_t n) {
  const layer_weights *layer = &model->weights->layers[n];
  size_t i = model->config->kind_of[n];
  const layer_kind *kind = &model->config->kinds[i];
  bool at_read = kind->keys == KEYS_AT_READ;
  const float *key_norm = model->weights->layers[model->config->cached_by[n]].key_norm;
  float temperature = layer->score_scale != NULL ? layer->score_scale[0] : 1.0f;
  return (attention_call){
      .config = model->config,
      .kernels = model->kernels,
      .kind = kind,
      .rope = at_read && kind->rope.n_rotated > 0 ? &scratch->rope[i] : NULL,
      .layer = model->config->cached_by[n],
      .score_scale = temperature / kind->score_divisor,
      .key_bias = layer->key_bias,
      .key_norm = at_read && !kind->norms_values ? key_norm : NULL,
      .key_gain = at_read && kind->norms_values ? key_norm : NULL,
  };
}

/* heads = softmax(σ α Q Kᵀ + κ) V */
static void attend(const forward_model *model, forward_scratch *scratch,
                   const forward_batch *batch, size_t n) {
  attention_call call = forward_attention(model, scratch, n);
  call.slices = batch->slices;
  call.n_slices = batch->n_slices;
  call.queries = scratch->queries;
  call.out = scratch->heads;
  call.scratch = scratch->tiles;
  attention(model->pool, &call);
  if (call.kind->keys == KEYS_AND_BACK) unrotate(model, scratch, n, batch->n_rows);
  if (call.kind->latent.rank > 0) latent_expand(model, scratch, n, batch->n_rows);
}

/* branch = down(act(gate(x)) · up(x)), or without a gate down(act(up(x))). */
static void mlp(const forward_model *model, forward_scratch *scratch, size_t n, const float *x,
                size_t n_rows) {
  const kernel_table *kernels = model->kernels;
  const layer_weights *layer = &model->weights->layers[n];
  bool is_gated = model->config->is_gated;
  float *hidden = is_gated ? scratch->gate : scratch->up;
  size_t n_hidden = n_rows * config_kind(model->config, n)->n_feed_forward;
  matmul_product products[2] = {{&layer->up, scratch->up}, {&layer->gate, scratch->gate}};
  matmul(model->pool, kernels, products, is_gated ? 2 : 1, x, n_rows, &scratch->matmul);
  kernels->f32_activate[model->config->activation](hidden, n_hidden);
  if (is_gated) kernels->f32_multiply(hidden, scratch->up, n_hidden);
  product(model, scratch, &layer->down, hidden, n_rows, scratch->branch);
}

/* logits = c·tanh(logits / c) */
static void cap_logits(const onekv_config *config, size_t n, float *logits) {
  float c = config->logit_softcap;
  for (size_t i = 0; i < n && c > 0.0f; i++) logits[i] = c * tanhf(logits[i] / c);
}

static void read_out(const forward_model *model, forward_scratch *scratch,
                     const forward_batch *batch) {
  const norm_weights *norm = &model->weights->output_norm;
  size_t d = model->config->n_embedding;
  for (size_t i = 0; i < batch->n_logits; i++) {
    const float *x = scratch->x + batch->logit_rows[i] * d;
    normalise(model, norm, x, 1, scratch->picked + i * d);
    scale(scratch->picked + i * d, d, model->config->logit_scale);
  }
  if (batch->wants_rows) normalise(model, norm, scratch->x, batch->n_rows, scratch->normed);
  if (batch->n_logits == 0) return;
  size_t n_floats = batch->n_logits * model->config->n_outputs;
  float *logits = scratch->logits + batch->first_logit * model->config->n_outputs;
  if (model->config->has_head) {
    product(model, scratch, &model->weights->head, scratch->picked, batch->n_logits, logits);
    cap_logits(model->config, n_floats, logits);
  } else {
    memcpy(logits, scratch->picked, n_floats * sizeof *logits);
  }
}

static bool is_seen(const forward_batch *batch, size_t n, const float *queries) {
  const forward_observer *observer = batch->observer;
  return observer == NULL || observer->see(observer->context, n, queries);
}

onekv_status forward(const forward_model *model, forward_scratch *scratch,
                     const forward_batch *batch) {
  size_t n_rows = batch->n_rows;
  onekv_status status = ONEKV_OK;
  forward_embed(model, scratch, batch);
  if (model->config->n_per_layer > 0) status = per_layer_embed(model, scratch, batch);
  if (status != ONEKV_OK) return status;
  for (size_t n = 0; n < model->config->n_layers; n++) {
    const layer_weights *layer = &model->weights->layers[n];
    const float *x = read_branch(model, scratch, &layer->attention_norm, n_rows);
    bool convolves = config_kind(model->config, n)->n_taps > 0;
    if (convolves) short_conv_project(model, scratch, n, x, n_rows);
    else project(model, scratch, n, x, n_rows);
    append(model, scratch, batch, n);
    if (!convolves && !is_seen(batch, n, scratch->queries)) return ONEKV_OK;
    if (convolves) short_conv_mix(model, scratch, batch, n);
    else attend(model, scratch, batch, n);
    bool has_latent = config_kind(model->config, n)->latent.rank > 0;
    const float *heads = has_latent ? scratch->expanded : scratch->heads;
    product(model, scratch, &layer->output, heads, n_rows, scratch->branch);
    add_branch(model, scratch, &layer->attention_post_norm, &layer->attention_sum_norm, n_rows);
    x = read_branch(model, scratch, &layer->mlp_norm, n_rows);
    mlp(model, scratch, n, x, n_rows);
    add_branch(model, scratch, &layer->mlp_post_norm, &layer->mlp_sum_norm, n_rows);
    if (model->config->n_per_layer > 0) {
      per_layer_branch(model, scratch, n, n_rows);
      add_branch(model, scratch, &layer->per_layer_norm, &(norm_weights){NULL, NULL}, n_rows);
    }
    float factor = layer->output_scale != NULL ? layer->output_scale[0] : 1.0f;
    scale(scratch->x, n_rows * model->config->n_embedding, factor);
  }
  read_out(model, scratch, batch);
  return ONEKV_OK;
}
