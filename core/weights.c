/* Weights: names to views, and a stream of bytes to where the views point.
 *
 * `bind` walks over all tensors that the description asks for. It runs twice: once with an arena
 * that only counts, to check the file and learn the size, and once with the block in hand, to
 * set the pointers and list the pieces. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

typedef struct tensor_binder {
  const gguf *file;
  const onekv_config *config;
  weights_plan *plan;
  memory_arena arena;
  onekv_error *error;
  onekv_status status; /* once it is not OK nothing more is bound */
} tensor_binder;

typedef struct tensor_name {
  char text[GGUF_NAME_MAX];
} tensor_name;

static tensor_name layer_name(size_t layer, const char *suffix) {
  tensor_name name;
  text_format(name.text, sizeof name.text, "blk.%zu.%s", layer, suffix);
  return name;
}

/* The tensor of that name, marked as used; NULL with MISSING_TENSOR when it is required. */
static const gguf_tensor *find(tensor_binder *binder, const char *name, bool required) {
  if (binder->status != ONEKV_OK) return NULL;
  const gguf_tensor *tensor = gguf_find_tensor(binder->file, name);
  if (tensor != NULL) binder->plan->is_used[tensor - binder->file->tensors] = true;
  if (tensor == NULL && required) {
    binder->status =
        error_set(binder->error, ONEKV_MISSING_TENSOR, "tensor %s is missing", name);
  }
  return tensor;
}

static void check_shape(tensor_binder *binder, const gguf_tensor *tensor, size_t n_rows,
                        size_t n_columns) {
  char label[GGUF_LABEL_MAX];
  if (tensor->n_rows == n_rows && tensor->n_columns == n_columns) return;
  binder->status = error_set(binder->error, ONEKV_BAD_TENSOR,
                             "tensor %s: found shape [%zu, %zu], expected [%zu, %zu]",
                             gguf_label(tensor->name, label), tensor->n_rows, tensor->n_columns,
                             n_rows, n_columns);
}

static void add_piece(tensor_binder *binder, const gguf_tensor *tensor, size_t skipped_bytes,
                      size_t n_bytes, void *destination, bool to_f32) {
  weights_plan *plan = binder->plan;
  if (binder->arena.base == NULL || binder->status != ONEKV_OK) return;
  plan->pieces[plan->n_pieces++] = (weights_piece){
      tensor->offset + skipped_bytes, n_bytes, destination, tensor->type, to_f32};
}

/* n elements of a vector, from element `first` of the tensor, as f32. */
static float *bind_part(tensor_binder *binder, const gguf_tensor *tensor, size_t first,
                        size_t n) {
  size_t element_bytes = tensor_type_describe(tensor->type).block_bytes;
  if (tensor_type_describe(tensor->type).block_elements != 1) {
    char label[GGUF_LABEL_MAX];
    binder->status = error_set(binder->error, ONEKV_BAD_TENSOR,
                               "tensor %s: found type %s, expected F32, F16 or BF16",
                               gguf_label(tensor->name, label),
                               tensor_type_describe(tensor->type).name);
    return NULL;
  }
  float *out = arena_take(&binder->arena, n, sizeof *out);
  add_piece(binder, tensor, first * element_bytes, n * element_bytes, out, true);
  return out;
}

static const float *bind_vector(tensor_binder *binder, const char *name, size_t n,
                                bool required) {
  const gguf_tensor *tensor = find(binder, name, required);
  if (tensor == NULL) return NULL;
  check_shape(binder, tensor, 1, n);
  return binder->status == ONEKV_OK ? bind_part(binder, tensor, 0, n) : NULL;
}

static norm_weights bind_norm(tensor_binder *binder, const char *stem, size_t n) {
  tensor_name name;
  norm_weights norm = {NULL, NULL};
  text_format(name.text, sizeof name.text, "%s.weight", stem);
  norm.gain = bind_vector(binder, name.text, n, true);
  text_format(name.text, sizeof name.text, "%s.bias", stem);
  if (binder->config->norm == ONEKV_LAYER_NORM) {
    norm.bias = bind_vector(binder, name.text, n, false);
  }
  return norm;
}

/* Rows [first, first + n_rows) of a tensor. */
static matrix bind_rows(tensor_binder *binder, const gguf_tensor *tensor, size_t first,
                        size_t n_rows) {
  matrix out = {.type = tensor->type, .n_rows = n_rows, .n_columns = tensor->n_columns};
  out.row_bytes = tensor->n_bytes / tensor->n_rows;
  out.rows = arena_take(&binder->arena, n_rows, out.row_bytes);
  add_piece(binder, tensor, first * out.row_bytes, n_rows * out.row_bytes, out.rows, false);
  return out;
}

/* A table of rows that are looked up: there is no bias that could be added. */
static matrix bind_table(tensor_binder *binder, const char *name, size_t n_rows,
                         size_t n_columns) {
  matrix out = {0};
  const gguf_tensor *tensor = find(binder, name, true);
  if (tensor == NULL) return out;
  check_shape(binder, tensor, n_rows, n_columns);
  return binder->status == ONEKV_OK ? bind_rows(binder, tensor, 0, n_rows) : out;
}

/* "{stem}.weight" and, where there is one, "{stem}.bias". */
static matrix bind_matrix(tensor_binder *binder, const char *stem, size_t n_rows,
                          size_t n_columns) {
  tensor_name name;
  text_format(name.text, sizeof name.text, "%s.weight", stem);
  matrix out = bind_table(binder, name.text, n_rows, n_columns);
  text_format(name.text, sizeof name.text, "%s.bias", stem);
  out.bias = bind_vector(binder, name.text, n_rows, false);
  return out;
}

/* attn_qkv holds the rows of query, key and value one after the other. */
static void bind_fused_projections(tensor_binder *binder, size_t n, layer_weights *layer) {
  const onekv_config *config = binder->config;
  size_t n_query = config->n_heads * config->head_width;
  size_t n_key = config->n_kv_heads * config->head_width;
  matrix *parts[] = {&layer->query, &layer->key, &layer->value};
  size_t n_rows[] = {n_query, n_key, n_key};
  const gguf_tensor *weight = find(binder, layer_name(n, "attn_qkv.weight").text, true);
  const gguf_tensor *bias = find(binder, layer_name(n, "attn_qkv.bias").text, false);
  if (weight == NULL) return;
  check_shape(binder, weight, n_query + 2 * n_key, config->n_embedding);
  if (bias != NULL && binder->status == ONEKV_OK) {
    check_shape(binder, bias, 1, n_query + 2 * n_key);
  }
  for (size_t i = 0, first = 0; i < 3 && binder->status == ONEKV_OK; first += n_rows[i++]) {
    *parts[i] = bind_rows(binder, weight, first, n_rows[i]);
    if (bias != NULL) parts[i]->bias = bind_part(binder, bias, first, n_rows[i]);
  }
}

static void bind_projections(tensor_binder *binder, size_t n, layer_weights *layer) {
  const onekv_config *config = binder->config;
  size_t n_query = config->n_heads * config->head_width;
  size_t n_key = config->n_kv_heads * config->head_width;
  size_t d = config->n_embedding;
  bool is_fused = config->projection == ONEKV_QKV &&
                  gguf_find_tensor(binder->file, layer_name(n, "attn_qkv.weight").text) != NULL;
  if (is_fused) {
    bind_fused_projections(binder, n, layer);
  } else {
    layer->key = bind_matrix(binder, layer_name(n, "attn_k").text, n_key, d);
    if (!config_shares_qk(config)) {
      layer->query = bind_matrix(binder, layer_name(n, "attn_q").text, n_query, d);
    }
    if (!config_shares_kv(config)) {
      layer->value = bind_matrix(binder, layer_name(n, "attn_v").text, n_key, d);
    }
  }
  layer->output = bind_matrix(binder, layer_name(n, "attn_output").text, d, n_query);
}

static void bind_layer(tensor_binder *binder, size_t n, layer_weights *layer) {
  const onekv_config *config = binder->config;
  size_t d = config->n_embedding;
  size_t n_mlp = config->n_feed_forward;
  memset(layer, 0, sizeof *layer);
  layer->attention_norm = bind_norm(binder, layer_name(n, "attn_norm").text, d);
  bind_projections(binder, n, layer);
  if (config->has_qk_norm) {
    size_t h = config->head_width;
    layer->query_norm = bind_vector(binder, layer_name(n, "attn_q_norm.weight").text, h, true);
    layer->key_norm = bind_vector(binder, layer_name(n, "attn_k_norm.weight").text, h, true);
  }
  if (config->has_score_map) {
    layer->score_scale =
        bind_vector(binder, layer_name(n, "attn_score_scale.weight").text, 1, true);
    layer->key_bias = bind_vector(binder, layer_name(n, "attn_key_bias.weight").text,
                                  config->n_context, true);
  }
  layer->mlp_norm = bind_norm(binder, layer_name(n, "ffn_norm").text, d);
  if (config->activation == ONEKV_SWIGLU) {
    layer->gate = bind_matrix(binder, layer_name(n, "ffn_gate").text, n_mlp, d);
  }
  layer->up = bind_matrix(binder, layer_name(n, "ffn_up").text, n_mlp, d);
  layer->down = bind_matrix(binder, layer_name(n, "ffn_down").text, d, n_mlp);
}

static void bind_head(tensor_binder *binder, model_weights *weights) {
  const onekv_config *config = binder->config;
  if (config->has_separate_head) {
    weights->head = bind_matrix(binder, "output", config->n_outputs, config->n_embedding);
  } else {
    weights->head = weights->token_embedding;
    weights->head.bias = bind_vector(binder, "output.bias", config->n_outputs, false);
  }
}

static void bind_all(tensor_binder *binder) {
  const onekv_config *config = binder->config;
  model_weights *weights = &binder->plan->weights;
  layer_weights *layers = arena_take(&binder->arena, config->n_layers, sizeof *layers);
  weights->layers = layers;
  if (config->n_vocabulary > 0) {
    weights->token_embedding =
        bind_table(binder, "token_embd.weight", config->n_vocabulary, config->n_embedding);
  } else {
    weights->input_projection =
        bind_matrix(binder, "input_proj", config->n_embedding, config->n_features);
    if (config->has_class_row) {
      weights->class_row = bind_vector(binder, "cls_embd.weight", config->n_embedding, true);
    }
  }
  if (config->position == ONEKV_LEARNED) {
    weights->position_embedding =
        bind_table(binder, "position_embd.weight", config->n_context, config->n_embedding);
  } else if (config->position == ONEKV_ROPE) {
    weights->rope_frequencies =
        bind_vector(binder, "rope_freqs.weight", config->rope.n_rotated / 2, false);
  }
  for (size_t n = 0; n < config->n_layers && binder->status == ONEKV_OK; n++) {
    layer_weights scratch;
    bind_layer(binder, n, layers != NULL ? &layers[n] : &scratch);
  }
  weights->output_norm = bind_norm(binder, "output_norm", config->n_embedding);
  bind_head(binder, weights);
  if (binder->status == ONEKV_OK && binder->arena.overflow) {
    binder->status = error_set(binder->error, ONEKV_OUT_OF_MEMORY, "the weights' size overflows");
  }
}

static void refuse_unused(tensor_binder *binder) {
  const gguf *file = binder->file;
  for (size_t i = 0; i < file->n_tensors && binder->status == ONEKV_OK; i++) {
    if (binder->plan->is_used[i]) continue;
    char label[GGUF_LABEL_MAX];
    binder->status = error_set(binder->error, ONEKV_UNKNOWN_TENSOR,
                               "tensor %s is not used by a %s model with projection %s",
                               gguf_label(file->tensors[i].name, label),
                               binder->config->architecture,
                               onekv_projection_name(binder->config->projection));
  }
}

onekv_status weights_plan_open(memory_ledger *memory, const gguf *file,
                               const onekv_config *config, const kernel_table *kernels,
                               weights_plan *plan, onekv_error *error) {
  memset(plan, 0, sizeof *plan);
  plan->kernels = kernels;
  plan->n_tensors = file->n_tensors;
  /* A fused projection becomes three pieces, its bias too. */
  plan->n_pieces_max = file->n_tensors + 4 * config->n_layers;
  plan->pieces = memory_take(memory, MEMORY_TABLES, plan->n_pieces_max * sizeof *plan->pieces);
  plan->is_used = memory_take(memory, MEMORY_TABLES, plan->n_tensors * sizeof *plan->is_used);
  if (plan->pieces == NULL || plan->is_used == NULL) {
    weights_plan_close(memory, plan);
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for the list of tensors");
  }
  tensor_binder binder = {file, config, plan, {NULL, 0, false}, error, ONEKV_OK};
  bind_all(&binder);
  refuse_unused(&binder);
  for (size_t i = 0; i < file->n_tensors; i++) {
    plan->weights.n_parameters += (uint64_t)file->tensors[i].n_rows * file->tensors[i].n_columns;
  }
  plan->weights.n_bytes = binder.arena.n_used;
  if (binder.status != ONEKV_OK) weights_plan_close(memory, plan);
  return binder.status;
}

static int by_source_offset(const void *a, const void *b) {
  const weights_piece *left = a;
  const weights_piece *right = b;
  return (left->source_offset > right->source_offset) -
         (left->source_offset < right->source_offset);
}

onekv_status weights_plan_allocate(memory_ledger *memory, const gguf *file,
                                   const onekv_config *config, weights_plan *plan,
                                   onekv_error *error) {
  size_t n_bytes = plan->weights.n_bytes;
  plan->block = memory_take(memory, MEMORY_WEIGHTS, n_bytes);
  if (plan->block == NULL) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu bytes of weights", n_bytes);
  }
  tensor_binder binder = {file, config, plan, {plan->block, 0, false}, error, ONEKV_OK};
  bind_all(&binder);
  qsort(plan->pieces, plan->n_pieces, sizeof *plan->pieces, by_source_offset);
  return binder.status;
}

/* Bytes [done, done + n) of a piece. */
static void feed_piece(weights_plan *plan, const weights_piece *piece, size_t done,
                       const uint8_t *bytes, size_t n) {
  if (!piece->to_f32) {
    memcpy(piece->destination + done, bytes, n);
    return;
  }
  size_t element_bytes = tensor_type_describe(piece->type).block_bytes;
  float *out = (float *)(void *)piece->destination;
  for (size_t i = 0; i < n; i++) {
    plan->remainder[plan->n_remainder++] = bytes[i];
    if (plan->n_remainder < element_bytes) continue;
    plan->n_remainder = 0;
    plan->kernels->dequantize[piece->type](plan->remainder, 1, &out[(done + i) / element_bytes]);
  }
}

void weights_feed(weights_plan *plan, const uint8_t *bytes, size_t n) {
  size_t start = plan->n_fed;
  size_t end = start + n;
  while (plan->next_piece < plan->n_pieces) {
    const weights_piece *piece = &plan->pieces[plan->next_piece];
    size_t piece_end = piece->source_offset + piece->source_bytes;
    size_t from = piece->source_offset > start ? piece->source_offset : start;
    size_t to = piece_end < end ? piece_end : end;
    if (from < to) {
      feed_piece(plan, piece, from - piece->source_offset, bytes + (from - start), to - from);
    }
    if (piece_end > end) break;
    plan->next_piece++;
  }
  plan->n_fed = end;
}

/* Before the first byte of weights there are no pieces yet: that is not complete. */
bool weights_complete(const weights_plan *plan) {
  return plan->block != NULL && plan->next_piece == plan->n_pieces;
}

void weights_plan_close(memory_ledger *memory, weights_plan *plan) {
  memory_give_back(memory, MEMORY_TABLES, plan->pieces,
                   plan->n_pieces_max * sizeof *plan->pieces);
  memory_give_back(memory, MEMORY_TABLES, plan->is_used, plan->n_tensors * sizeof *plan->is_used);
  plan->pieces = NULL;
  plan->is_used = NULL;
}

void weights_free(memory_ledger *memory, weights_plan *plan) {
  weights_plan_close(memory, plan);
  memory_give_back(memory, MEMORY_WEIGHTS, plan->block, plan->weights.n_bytes);
  plan->block = NULL;
}
