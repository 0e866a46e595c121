/* Model: the scratch's layout, description and memory figures, the end. */
#include "core/api/model.h"

void model_scratch_make(onekv_model *model, memory_arena *arena) {
  forward_scratch_make(&model->config, &model->plan.weights, model->context_window, arena,
                       &model->scratch);
  model->candidates =
      arena_take(arena, model->config.n_outputs, sizeof *model->candidates);
  model->logit_rows =
      arena_take(arena, model->scratch.n_logits_max, sizeof *model->logit_rows);
}

forward_model model_view(const onekv_model *model) {
  return (forward_model){&model->config, &model->plan.weights, &model->kernels, model->pool,
                         &model->source};
}

onekv_status onekv_model_close(onekv_model *model) {
  if (model == NULL) return ONEKV_OK;
  if (model->n_sessions > 0) return ONEKV_WRONG_STATE;
  kv_pool_close(&model->pages);
  weights_free(&model->memory, &model->plan);
  memory_give_back(&model->memory, MEMORY_SCRATCH, model->scratch_block,
                   model->n_scratch_bytes);
  memory_ledger memory = model->memory;
  memory_give_back(&memory, MEMORY_TABLES, model, sizeof *model);
  return ONEKV_OK;
}

const onekv_config *onekv_model_config(const onekv_model *model) { return &model->config; }

void onekv_describe(const onekv_config *config, onekv_shape *out) {
  *out = (onekv_shape){
      .architecture = config->architecture,
      .is_causal = config->causal,
      .has_head = config->has_head,
      .pooling = config->pooling,
      .n_embedding = config->n_embedding,
      .n_layers = config->n_layers,
      .context_window = config->context_window,
      .n_vocabulary = config->n_vocabulary,
      .n_features = config->n_features,
      .n_outputs = config->n_outputs,
  };
}

uint64_t onekv_model_hash(const onekv_model *model) { return model->hash; }

void onekv_model_use_threads(onekv_model *model, size_t n_threads) {
  model->n_threads = n_threads;
}

const char *onekv_model_level(const onekv_model *model) { return model->kernels.name; }

void onekv_model_memory(const onekv_model *model, onekv_memory *out) {
  const memory_ledger *memory = &model->memory;
  *out = (onekv_memory){
      .weights = memory->n_bytes[MEMORY_WEIGHTS],
      .cache = memory->n_bytes[MEMORY_CACHE],
      .scratch = memory->n_bytes[MEMORY_SCRATCH],
      .sessions = memory->n_bytes[MEMORY_SESSIONS],
      .tables = memory->n_bytes[MEMORY_TABLES],
      .total = memory->n_bytes_total,
      .peak = memory->n_bytes_peak,
      .cache_used = kv_pool_used_bytes(&model->pages),
      .cache_pooled = kv_pool_free_bytes(&model->pages),
      .n_sessions = model->n_sessions,
  };
}

void onekv_model_trim(onekv_model *model) { kv_pool_trim(&model->pages); }

const onekv_candidate *onekv_model_top(onekv_model *model, const float *logits, size_t n_top) {
  sampler_top(logits, model->config.n_outputs, n_top, model->candidates);
  return model->candidates;
}
