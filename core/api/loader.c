/* Loading: a stream of bytes becomes a model.
 *
 * States: collecting the header -> header read -> weights allocated and filling -> finished.
 * The model struct is built inside the loader from the start, so that finishing moves nothing.
 * Everything is counted in the model's ledger, the header and the loader too, so that the model's
 * peak is the allocator's. */
#include "core/base/hash.h"
#include "core/api/model.h"

#include <string.h>

enum {
  HEADER_BYTES_FIRST = 1 << 16,
  LOGITS_DEFAULT = 8,
  ROWS_OF_PREFILL = 96, /* a multiple of the 6 tokens of a tile */
  FETCH_BYTES = 1 << 25 /* of weights: fewer may stay in a processor's caches */
};

struct onekv_loader {
  onekv_model *model; /* its ledger counts the loader and the header too */
  onekv_model_options options;
  uint8_t *header; /* [n_header_max], the first n_header are filled */
  size_t n_header;
  size_t n_header_max;
  size_t n_header_needed; /* lower bound of the header's size */
  hash_state hash;
  gguf *file;             /* NULL until the header is read */
  bool failed;
};

onekv_status onekv_loader_open(const onekv_model_options *options, onekv_loader **out,
                               onekv_error *error) {
  if (options->pool == NULL) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "options.pool is NULL");
  }
  if ((unsigned)options->cache_type >= ONEKV_CACHE_TYPE_COUNT) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "options.cache_type: found %d, expected 0 to 3",
                     (int)options->cache_type);
  }
  if ((unsigned)options->arithmetic > ONEKV_F32) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "options.arithmetic: found %d, expected 0 to 2",
                     (int)options->arithmetic);
  }
  memory_ledger memory;
  onekv_loader *loader = NULL;
  memory_init(&memory, &options->allocator);
  onekv_model *model = memory_take(&memory, MEMORY_TABLES, sizeof *model);
  if (model != NULL) loader = memory_take(&memory, MEMORY_TABLES, sizeof *loader);
  if (loader == NULL) {
    memory_give_back(&memory, MEMORY_TABLES, model, sizeof *model);
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for a loader and a model");
  }
  loader->options = *options;
  loader->model = model;
  model->memory = memory;
  loader->model->pool = options->pool;
  hash_start(&loader->hash);
  kernels_select(&loader->model->kernels, options->level);
  *out = loader;
  return ONEKV_OK;
}

onekv_status onekv_loader_rows(onekv_loader *loader, const onekv_row_source *rows) {
  if (loader->n_header > 0 || loader->failed) return ONEKV_WRONG_STATE;
  loader->model->source = *rows;
  return ONEKV_OK;
}

static onekv_status grow_header(onekv_loader *loader, size_t n_bytes) {
  if (n_bytes <= loader->n_header_max) return ONEKV_OK;
  size_t n_new = loader->n_header_max * 2;
  if (n_new < HEADER_BYTES_FIRST) n_new = HEADER_BYTES_FIRST;
  if (n_new < n_bytes) n_new = n_bytes;
  memory_ledger *memory = &loader->model->memory;
  uint8_t *header = memory_take(memory, MEMORY_TABLES, n_new);
  if (header == NULL) return ONEKV_OUT_OF_MEMORY;
  if (loader->n_header > 0) memcpy(header, loader->header, loader->n_header);
  memory_give_back(memory, MEMORY_TABLES, loader->header, loader->n_header_max);
  loader->header = header;
  loader->n_header_max = n_new;
  return ONEKV_OK;
}

/* Sizes that the options and the description fix. */
static onekv_status set_sizes(onekv_loader *loader, onekv_error *error) {
  onekv_model *model = loader->model;
  onekv_config *config = &model->config;
  const onekv_model_options *options = &loader->options;
  /* Learned positions are a table of the file's length, so only its view gets shorter. */
  size_t context_window = config->context_window;
  bool is_bounded = config->causal || !config->has_head;
  if (options->context_window > 0 && is_bounded && options->context_window < context_window) {
    context_window = options->context_window;
  }
  model->context_window = context_window;
  size_t n_logits = options->n_logits_max > 0 ? options->n_logits_max : LOGITS_DEFAULT;
  if (!config->causal) n_logits = config->pools_first ? 1 : context_window;
  model->scratch.n_logits_max = n_logits;
  model->scratch.n_rows_max = config->causal ? ROWS_OF_PREFILL : context_window;
  model->scratch.n_threads_max = pool_n_most(model->pool);
  model->scratch.matmul.packed.rows_per_token = options->arithmetic == ONEKV_INT8 ? 1 : 2;
  model->scratch.matmul.wants_slabs = model->kernels.packed_has_slabs;
  model->scratch.matmul.fetches = model->plan.weights.n_bytes > FETCH_BYTES;
  for (size_t i = 0; i < loader->file->n_tensors; i++) {
    model->scratch.matmul.meets_one_bit |= loader->file->tensors[i].type == TENSOR_Q1_0;
  }
  onekv_status status = kv_pool_open(&model->pages, &model->memory, &model->kernels, config,
                                     options->cache_type);
  if (status != ONEKV_OK) {
    return error_set(error, status, "no memory for the cache's layout, or its pages are too large");
  }
  memory_arena arena = {NULL, 0, false};
  model_scratch_make(model, &arena);
  model->n_scratch_bytes = arena.n_used;
  if (arena.overflow) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "the size of the working memory overflows");
  }
  return ONEKV_OK;
}

/* The header is complete: description, list of tensors, sizes. */
static onekv_status read_header(onekv_loader *loader, onekv_error *error) {
  onekv_model *model = loader->model;
  onekv_status status = config_read(loader->file, &model->config, error);
  if (status != ONEKV_OK) return status;
  status = weights_plan_open(&model->memory, loader->file, &model->config, &model->kernels,
                             loader->options.arithmetic != ONEKV_F32,
                             model->source.read != NULL, &model->plan, error);
  if (status != ONEKV_OK) return status;
  return set_sizes(loader, error);
}

/* Collects header bytes and parses once enough are there. */
static onekv_status feed_header(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes,
                                onekv_error *error) {
  size_t n_total = 0;
  bool fits = size_add(loader->n_header, n_bytes, &n_total);
  if (!fits || grow_header(loader, n_total) != ONEKV_OK) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for the file's header");
  }
  memcpy(loader->header + loader->n_header, bytes, n_bytes);
  loader->n_header = n_total;
  if (n_total < loader->n_header_needed) return ONEKV_OK;
  onekv_error found = {ONEKV_OK, ""};
  onekv_status status = gguf_parse(&loader->model->memory, loader->header, n_total, &loader->file,
                                   &loader->n_header_needed, &found);
  /* More bytes are to come: that is not an error, and the caller's *error stays untouched. */
  if (status == ONEKV_TRUNCATED) return ONEKV_OK;
  if (status != ONEKV_OK) return error_set(error, status, "%s", found.message);
  return read_header(loader, error);
}

/* The error of the tensor that the piece is of. */
static onekv_status refuse_damaged(const gguf *file, const weights_piece *piece,
                                   onekv_error *error) {
  const gguf_tensor *tensor = file->tensors;
  for (size_t i = 0; i < file->n_tensors; i++) {
    if (file->tensors[i].offset <= piece->source_offset) tensor = &file->tensors[i];
  }
  char label[GGUF_LABEL_MAX];
  return error_set(error, ONEKV_CORRUPT,
                   "tensor %s: found a block whose scale is not finite, expected a number: the "
                   "file is damaged", gguf_label(tensor->name, label));
}

static onekv_status feed_weights(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes,
                                 onekv_error *error) {
  onekv_model *model = loader->model;
  if (n_bytes == 0 || loader->options.header_only) return ONEKV_OK;
  if (model->plan.block == NULL) {
    onekv_status status =
        weights_plan_allocate(&model->memory, loader->file, &model->config, &model->plan, error);
    if (status != ONEKV_OK) return status;
  }
  weights_feed(&model->plan, bytes, n_bytes);
  if (model->plan.damaged == NULL) return ONEKV_OK;
  return refuse_damaged(loader->file, model->plan.damaged, error);
}

onekv_status onekv_loader_feed(onekv_loader *loader, const uint8_t *bytes, size_t n_bytes,
                               onekv_error *error) {
  if (loader->failed) {
    return error_set(error, ONEKV_WRONG_STATE, "the loader was fed after an error");
  }
  if (n_bytes == 0) return ONEKV_OK;
  hash_feed(&loader->hash, bytes, n_bytes);
  onekv_status status = ONEKV_OK;
  if (loader->file != NULL) {
    /* Bytes between the header's end and the data section are padding. */
    size_t n_missing = loader->file->data_offset - loader->n_header;
    size_t n_padding = n_bytes < n_missing ? n_bytes : n_missing;
    loader->n_header += n_padding;
    status = feed_weights(loader, bytes + n_padding, n_bytes - n_padding, error);
  } else {
    status = feed_header(loader, bytes, n_bytes, error);
    if (status == ONEKV_OK && loader->file != NULL) {
      size_t data_offset = loader->file->data_offset;
      if (loader->n_header > data_offset) {
        status = feed_weights(loader, loader->header + data_offset,
                              loader->n_header - data_offset, error);
        loader->n_header = data_offset;
      }
    }
  }
  loader->failed = status != ONEKV_OK;
  return status;
}

bool onekv_loader_has_header(const onekv_loader *loader) {
  return loader->file != NULL && !loader->failed;
}

const onekv_config *onekv_loader_config(const onekv_loader *loader) {
  return onekv_loader_has_header(loader) ? &loader->model->config : NULL;
}

bool onekv_loader_find(const onekv_loader *loader, const char *key, onekv_value *out) {
  const gguf_value *found = loader->file != NULL ? gguf_find(loader->file, key) : NULL;
  if (found == NULL) return false;
  *out = (onekv_value){found->type, found->item_type, found->n_items, found->bytes,
                       found->n_bytes};
  return true;
}

size_t onekv_loader_file_bytes(const onekv_loader *loader) {
  if (!onekv_loader_has_header(loader)) return 0;
  return loader->file->data_offset + loader->file->n_data_bytes;
}

onekv_status onekv_loader_estimate(const onekv_loader *loader, onekv_estimate *out) {
  if (!onekv_loader_has_header(loader)) return ONEKV_WRONG_STATE;
  const onekv_model *model = loader->model;
  out->n_parameters = model->plan.weights.n_parameters;
  out->weight_bytes = model->plan.weights.n_bytes;
  out->row_bytes = model->plan.weights.n_row_bytes;
  out->scratch_bytes = model->n_scratch_bytes;
  return ONEKV_OK;
}

/* The loader and the header; the model stays. */
static void free_loader(onekv_loader *loader) {
  memory_ledger *memory = &loader->model->memory;
  gguf_free(memory, loader->file);
  memory_give_back(memory, MEMORY_TABLES, loader->header, loader->n_header_max);
  memory_give_back(memory, MEMORY_TABLES, loader, sizeof *loader);
}

onekv_status onekv_loader_finish(onekv_loader *loader, onekv_model **out, onekv_error *error) {
  onekv_model *model = loader->model;
  if (loader->failed) {
    return error_set(error, ONEKV_WRONG_STATE, "the loader was finished after an error");
  }
  if (loader->file == NULL) {
    return error_set(error, ONEKV_TRUNCATED, "the file ends inside its header, after %zu bytes",
                     loader->n_header);
  }
  if (!weights_complete(&model->plan)) {
    return error_set(error, ONEKV_TRUNCATED, "the file ends after %zu of %zu bytes",
                     loader->n_header + model->plan.n_fed, onekv_loader_file_bytes(loader));
  }
  model->scratch_block = memory_take(&model->memory, MEMORY_SCRATCH, model->n_scratch_bytes);
  if (model->scratch_block == NULL) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu bytes of working memory",
                     model->n_scratch_bytes);
  }
  memory_arena arena = {model->scratch_block, 0, false};
  model_scratch_make(model, &arena);
  weights_plan_close(&model->memory, &model->plan);
  weights_make_normal(&model->kernels, model->config.n_layers, &model->plan.weights);
  model->hash = hash_value(&loader->hash);
  free_loader(loader);
  *out = model;
  return ONEKV_OK;
}

void onekv_loader_close(onekv_loader *loader) {
  if (loader == NULL) return;
  onekv_model *model = loader->model;
  free_loader(loader);
  onekv_model_close(model);
}
