/* Weights: names to views. The stream of bytes that fills them is in weights_feed.c.
 *
 * `bind` walks over all tensors that the description asks for. It runs twice: once with an arena
 * that only counts, to check the file and learn the size, and once with the block in hand, to
 * set the pointers and list the pieces. */
#include "core/net/tensors.h"

#include <stddef.h>
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

static const float *bind_floats(tensor_binder *binder, const char *name, size_t n_rows,
                                size_t n_columns, bool required) {
  const gguf_tensor *tensor = find(binder, name, required);
  if (tensor == NULL) return NULL;
  check_shape(binder, tensor, n_rows, n_columns);
  return binder->status == ONEKV_OK ? bind_part(binder, tensor, 0, n_rows * n_columns) : NULL;
}

static const float *bind_vector(tensor_binder *binder, const char *name, size_t n,
                                bool required) {
  return bind_floats(binder, name, 1, n, required);
}

static norm_weights bind_norm(tensor_binder *binder, const char *stem, size_t n) {
  tensor_name name;
  norm_weights norm = {NULL, NULL};
  text_format(name.text, sizeof name.text, "%s.weight", stem);
  norm.gain = bind_vector(binder, name.text, n, true);
  text_format(name.text, sizeof name.text, "%s.bias", stem);
  if (binder->config->norm == ONEKV_LAYER_NORM) {
    norm.bias = bind_vector(binder, name.text, n, binder->config->needs_biases);
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

/* A table whose rows stay in the file. */
static matrix leave_rows(tensor_binder *binder, const gguf_tensor *tensor) {
  model_weights *weights = &binder->plan->weights;
  weights->left_at = (uint64_t)binder->file->data_offset + tensor->offset;
  /* Its bytes are part of the stream all the same: a file that ends in them is not whole. */
  add_piece(binder, &(weights_piece){.source_offset = tensor->offset,
                                     .source_bytes = tensor->n_bytes,
                                     .kind = PIECE_LEAVE});
  return (matrix){.type = tensor->type,
                  .n_rows = tensor->n_rows,
                  .n_columns = tensor->n_columns,
                  .row_bytes = tensor->n_bytes / tensor->n_rows};
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

/* A matrix of heads can be packed where no strip has rows of two of them, or of W_k and W_v. */
static bool is_packable(slot_holds holds, const layer_kind *kind) {
  if (holds == SLOT_TABLE || holds == SLOT_LEFT) return false;
  return holds != SLOT_HEADS ||
         (kind->latent.rank % PACKED_ROWS == 0 && kind->latent.plain % PACKED_ROWS == 0 &&
          kind->latent.value % PACKED_ROWS == 0);
}

/* "{stem}.weight": rows that are multiplied, or only looked up. */
static matrix bind_matrix(tensor_binder *binder, const char *stem, size_t n_rows,
                          size_t n_columns, slot_holds holds, const layer_kind *kind) {
  tensor_name name;
  matrix out = {0};
  text_format(name.text, sizeof name.text, "%s.weight", stem);
  const gguf_tensor *tensor = find(binder, name.text, true);
  if (tensor == NULL) return out;
  check_shape(binder, tensor, n_rows, n_columns);
  if (binder->status != ONEKV_OK) return out;
  if (holds == SLOT_LEFT) binder->plan->weights.n_row_bytes = tensor->n_bytes;
  if (holds == SLOT_LEFT && binder->plan->leaves_rows) return leave_rows(binder, tensor);
  return is_packable(holds, kind) ? bind_factor(binder, tensor, 0, n_rows)
                                  : bind_rows(binder, tensor, 0, n_rows);
}

/* The tensor of a slot, to its field of *weights; prefix is "" or "blk.N.". */
static void bind_slot(tensor_binder *binder, const tensor_slot *slot, const char *prefix,
                      const layer_kind *kind, void *weights) {
  void *field = (char *)weights + slot->field;
  size_t n_rows = slot_extent_of(slot->rows, binder->config, kind);
  size_t n_columns = slot_extent_of(slot->columns, binder->config, kind);
  tensor_name stem;
  tensor_name name;
  text_format(stem.text, sizeof stem.text, "%s%s", prefix, slot->stem);
  switch (slot->holds) {
    case SLOT_NORM:
      *(norm_weights *)field = bind_norm(binder, stem.text, n_columns);
      break;
    case SLOT_VECTOR:
      text_format(name.text, sizeof name.text, "%s.weight", stem.text);
      *(const float **)field =
          bind_floats(binder, name.text, n_rows, n_columns, !slot_is_optional(slot->when));
      break;
    case SLOT_TABLE:
    case SLOT_LEFT:
    case SLOT_FACTOR:
    case SLOT_HEADS:
    case SLOT_MATRIX:
      *(matrix *)field =
          bind_matrix(binder, stem.text, n_rows, n_columns, slot->holds, kind);
      if (slot->holds != SLOT_MATRIX) break;
      text_format(name.text, sizeof name.text, "%s.bias", stem.text);
      ((matrix *)field)->bias =
          bind_vector(binder, name.text, n_rows, binder->config->needs_biases);
      break;
  }
}

/* attn_qkv holds the rows of query, key and value one after the other. False when the file has no
 * such tensor, or the layer is not one of three projections. */
static bool bind_fused_projections(tensor_binder *binder, size_t n, layer_weights *layer) {
  const onekv_config *config = binder->config;
  const layer_kind *kind = config_kind(config, n);
  bool is_fused = onekv_sharing_of(kind) == ONEKV_SHARE_NONE && config->cached_by[n] == n &&
                  gguf_find_tensor(binder->file, layer_name(n, "attn_qkv.weight").text) != NULL;
  if (!is_fused) return false;
  matrix *parts[] = {&layer->query, &layer->key, &layer->value};
  size_t n_rows[] = {kind->n_heads * kind->key_width, kind->n_kv_heads * kind->key_width,
                     kind->n_kv_heads * kind->value_width};
  size_t n_all = n_rows[0] + n_rows[1] + n_rows[2];
  const gguf_tensor *weight = find(binder, layer_name(n, "attn_qkv.weight").text, true);
  const gguf_tensor *bias = find(binder, layer_name(n, "attn_qkv.bias").text,
                                binder->config->needs_biases);
  if (weight == NULL) return true;
  check_shape(binder, weight, n_all, config->n_embedding);
  if (bias != NULL && binder->status == ONEKV_OK) check_shape(binder, bias, 1, n_all);
  for (size_t i = 0, first = 0; i < 3 && binder->status == ONEKV_OK; first += n_rows[i++]) {
    *parts[i] = bind_factor(binder, weight, first, n_rows[i]);
    if (bias != NULL) parts[i]->bias = bind_part(binder, bias, first, n_rows[i]);
  }
  return true;
}

/* A tensor that the layer may have and does not use. */
static void ignore(tensor_binder *binder, size_t n, const tensor_slot *slot) {
  tensor_name name;
  text_format(name.text, sizeof name.text, "blk.%zu.%s.weight", n, slot->stem);
  find(binder, name.text, false);
}

/* ffn_up may hold the rows of the gate, and then those of up: where there is no ffn_gate, and it
 * has as many rows. False when it does not. */
static bool bind_fused_gate(tensor_binder *binder, size_t n, layer_weights *layer) {
  const onekv_config *config = binder->config;
  size_t n_rows = config_kind(config, n)->n_feed_forward;
  const gguf_tensor *both = gguf_find_tensor(binder->file, layer_name(n, "ffn_up.weight").text);
  bool is_fused = config->is_gated && both != NULL && both->n_rows == 2 * n_rows &&
                  gguf_find_tensor(binder->file, layer_name(n, "ffn_gate.weight").text) == NULL;
  if (!is_fused || binder->status != ONEKV_OK) return false;
  find(binder, layer_name(n, "ffn_up.weight").text, true);
  check_shape(binder, both, 2 * n_rows, config->n_embedding);
  if (binder->status != ONEKV_OK) return true;
  layer->gate = bind_factor(binder, both, 0, n_rows);
  layer->up = bind_factor(binder, both, n_rows, n_rows);
  return true;
}

static void bind_layer(tensor_binder *binder, size_t n, layer_weights *layer) {
  slot_list list = layer_slots();
  memset(layer, 0, sizeof *layer);
  bool is_fused = bind_fused_projections(binder, n, layer);
  bool has_gate = bind_fused_gate(binder, n, layer);
  for (size_t i = 0; i < list.n && binder->status == ONEKV_OK; i++) {
    const tensor_slot *slot = &list.slots[i];
    bool is_bound = is_fused && (slot->field == offsetof(layer_weights, query) ||
                                 slot->field == offsetof(layer_weights, key) ||
                                 slot->field == offsetof(layer_weights, value));
    if (has_gate && (slot->field == offsetof(layer_weights, gate) ||
                     slot->field == offsetof(layer_weights, up))) continue;
    if (is_bound) continue;
    if (!slot_applies(slot->when, binder->config, n)) {
      bool is_spare = binder->config->cached_by[n] != n && slot_is_of_cache(slot->when);
      if (is_spare) ignore(binder, n, slot);
      continue;
    }
    bind_slot(binder, slot, layer_name(n, "").text, config_kind(binder->config, n), layer);
  }
}

static void bind_all(tensor_binder *binder) {
  const onekv_config *config = binder->config;
  model_weights *weights = &binder->plan->weights;
  layer_weights *layers = arena_take(&binder->arena, config->n_layers, sizeof *layers);
  slot_list list = model_slots();
  weights->layers = layers;
  for (size_t i = 0; i < list.n && binder->status == ONEKV_OK; i++) {
    if (!slot_applies(list.slots[i].when, config, 0)) continue;
    bind_slot(binder, &list.slots[i], "", &config->kinds[0], weights);
  }
  if (config->has_head && !config->has_separate_head) {
    weights->head = weights->token_embedding;
    weights->head.bias = bind_vector(binder, "output.bias", config->n_outputs, false);
  }
  for (size_t n = 0; n < config->n_layers && binder->status == ONEKV_OK; n++) {
    layer_weights scratch;
    bind_layer(binder, n, layers != NULL ? &layers[n] : &scratch);
  }
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
                               onekv_sharing_name(onekv_sharing_of(&binder->config->kinds[0])));
  }
}

onekv_status weights_plan_open(memory_ledger *memory, const gguf *file,
                               const onekv_config *config, const kernel_table *kernels,
                               bool packs, bool leaves_rows, weights_plan *plan,
                               onekv_error *error) {
  memset(plan, 0, sizeof *plan);
  plan->kernels = kernels;
  plan->packs = packs;
  plan->leaves_rows = leaves_rows;
  plan->n_tensors = file->n_tensors;
  /* A fused projection becomes three pieces, its bias too; a fused gate two. */
  plan->n_pieces_max = file->n_tensors + 5 * config->n_layers;
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
