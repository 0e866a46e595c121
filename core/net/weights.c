/* Weights: names to views. The stream of bytes that fills them is in weights_feed.c.
 *
 * `bind` walks over all tensors that the description asks for. It runs twice: once with an arena
 * that only counts, to check the file and learn the size, and once with the block in hand, to
 * set the pointers and list the pieces. */
#include "core/net/weights.h"

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

static void add_piece(tensor_binder *binder, const weights_piece *piece) {
  weights_plan *plan = binder->plan;
  if (binder->arena.base == NULL || binder->status != ONEKV_OK) return;
  plan->pieces[plan->n_pieces++] = *piece;
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
  add_piece(binder, &(weights_piece){.source_offset = tensor->offset + first * element_bytes,
                                     .source_bytes = n * element_bytes,
                                     .destination = (uint8_t *)out,
                                     .type = tensor->type,
                                     .kind = PIECE_TO_F32});
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

/* Rows [first, first + n_rows) of a tensor as the file has them. */
static matrix bind_rows(tensor_binder *binder, const gguf_tensor *tensor, size_t first,
                        size_t n_rows) {
  matrix out = {.type = tensor->type, .n_rows = n_rows, .n_columns = tensor->n_columns};
  out.row_bytes = tensor->n_bytes / tensor->n_rows;
  out.rows = arena_take(&binder->arena, n_rows, out.row_bytes);
  add_piece(binder, &(weights_piece){.source_offset = tensor->offset + first * out.row_bytes,
                                     .source_bytes = n_rows * out.row_bytes,
                                     .destination = out.rows,
                                     .type = tensor->type});
  return out;
}

/* The same as a factor: packed in strips, if its type can be. */
static matrix bind_factor(tensor_binder *binder, const gguf_tensor *tensor, size_t first,
                          size_t n_rows) {
  packed_form form = binder->plan->packs ? packed_form_of(tensor->type) : PACKED_NONE;
  if (form == PACKED_NONE) return bind_rows(binder, tensor, first, n_rows);
  matrix out = {
      .type = tensor->type, .form = form, .n_rows = n_rows, .n_columns = tensor->n_columns};
  size_t source_bytes = tensor->n_bytes / tensor->n_rows;
  size_t n_blocks = tensor->n_columns / PACKED_GEOMETRY[form].columns;
  size_t n_strips = (n_rows + PACKED_ROWS - 1) / PACKED_ROWS;
  if (!size_multiply(n_blocks, packed_block_bytes(form), &out.row_bytes)) {
    binder->arena.overflow = true;
  }
  out.rows = arena_take(&binder->arena, n_strips, out.row_bytes);
  add_piece(binder, &(weights_piece){.source_offset = tensor->offset + first * source_bytes,
                                     .source_bytes = n_rows * source_bytes,
                                     .destination = out.rows,
                                     .type = tensor->type,
                                     .kind = PIECE_PACK,
                                     .n_columns = tensor->n_columns,
                                     .strip_bytes = out.row_bytes});
  if (out.rows == NULL) return out;
  uint8_t *last = out.rows + (n_strips - 1) * out.row_bytes;
  for (size_t row = n_rows; row < n_strips * PACKED_ROWS; row++) {
    packed_clear(form, row % PACKED_ROWS, n_blocks, last);
  }
  return out;
}

/* A tensor of rows that are multiplied, or only looked up; without a bias. */
static matrix bind_tensor(tensor_binder *binder, const char *name, size_t n_rows,
                          size_t n_columns, bool is_factor) {
  matrix out = {0};
  const gguf_tensor *tensor = find(binder, name, true);
  if (tensor == NULL) return out;
  check_shape(binder, tensor, n_rows, n_columns);
  if (binder->status != ONEKV_OK) return out;
  return is_factor ? bind_factor(binder, tensor, 0, n_rows) : bind_rows(binder, tensor, 0, n_rows);
}

/* "{stem}.weight" and, where there is one, "{stem}.bias". */
static matrix bind_matrix(tensor_binder *binder, const char *stem, size_t n_rows,
                          size_t n_columns) {
  tensor_name name;
  text_format(name.text, sizeof name.text, "%s.weight", stem);
  matrix out = bind_tensor(binder, name.text, n_rows, n_columns, true);
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
    *parts[i] = bind_factor(binder, weight, first, n_rows[i]);
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
        bind_tensor(binder, "token_embd.weight", config->n_vocabulary, config->n_embedding,
                    !config->has_separate_head);
  } else {
    weights->input_projection =
        bind_matrix(binder, "input_proj", config->n_embedding, config->n_features);
    if (config->has_class_row) {
      weights->class_row = bind_vector(binder, "cls_embd.weight", config->n_embedding, true);
    }
  }
  if (config->position == ONEKV_LEARNED) {
    weights->position_embedding =
        bind_tensor(binder, "position_embd.weight", config->n_context, config->n_embedding, false);
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
                               bool packs, weights_plan *plan, onekv_error *error) {
  memset(plan, 0, sizeof *plan);
  plan->kernels = kernels;
  plan->packs = packs;
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
  plan->block = memory_take_raw(memory, MEMORY_WEIGHTS, n_bytes);
  if (plan->block == NULL) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu bytes of weights", n_bytes);
  }
  tensor_binder binder = {file, config, plan, {plan->block, 0, false}, error, ONEKV_OK};
  bind_all(&binder);
  qsort(plan->pieces, plan->n_pieces, sizeof *plan->pieces, by_source_offset);
  return binder.status;
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
