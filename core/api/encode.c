/* Encoding: one whole sequence runs, with a cache of its own that is given back before the call
 * returns. A bidirectional model takes it as one batch, a causal one in batches of prefill. */
#include "core/api/model.h"

#include <string.h>

static onekv_status check_tokens(const onekv_model *model, const int32_t *tokens, size_t n,
                                 onekv_error *error) {
  size_t n_vocabulary = model->config.n_vocabulary;
  for (size_t i = 0; i < n; i++) {
    if (tokens[i] >= 0 && (size_t)tokens[i] < n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)tokens[i], n_vocabulary - 1);
  }
  return ONEKV_OK;
}

static onekv_status open_cache(onekv_model *model, size_t n, kv_cache *cache, onekv_error *error) {
  onekv_status status = kv_cache_open(&model->pages, n, cache);
  if (status == ONEKV_OK) {
    status = kv_cache_reserve(cache, n);
    if (status == ONEKV_OK) return ONEKV_OK;
    kv_cache_close(cache);
  }
  return error_set(error, status, "no memory for %zu rows of input", n);
}

onekv_status onekv_encode(onekv_model *model, const int32_t *tokens, const float *features,
                          size_t n_rows, const float **logits, size_t *n_logits,
                          onekv_error *error) {
  const onekv_config *config = &model->config;
  if (config->causal) {
    return error_set(error, ONEKV_WRONG_STATE, "a causal model is run by steps, not by encode");
  }
  bool takes_tokens = config->n_vocabulary > 0;
  if (n_rows == 0 || (takes_tokens ? tokens : (const void *)features) == NULL) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "the input is empty or of the wrong kind");
  }
  size_t n_class_rows = config->has_class_row ? 1 : 0;
  if (n_rows > model->context_window - n_class_rows) {
    return error_set(error, ONEKV_CONTEXT_FULL, "rows of input: found %zu, expected at most %zu",
                     n_rows, model->context_window - n_class_rows);
  }
  onekv_status status = takes_tokens ? check_tokens(model, tokens, n_rows, error) : ONEKV_OK;
  size_t n_all = n_rows + n_class_rows;
  kv_cache cache;
  if (status == ONEKV_OK) status = open_cache(model, n_all, &cache, error);
  if (status != ONEKV_OK) return status;
  sequence_slice slice = {&cache, 0, n_all, 0};
  *n_logits = config->pools_first ? 1 : n_rows;
  for (size_t i = 0; i < *n_logits; i++) {
    model->logit_rows[i] = (uint32_t)(config->pools_first ? 0 : i + n_class_rows);
  }
  forward_batch batch = {.slices = &slice,
                         .n_slices = 1,
                         .n_rows = n_all,
                         .tokens = takes_tokens ? tokens : NULL,
                         .features = takes_tokens ? NULL : features,
                         .logit_rows = model->logit_rows,
                         .n_logits = *n_logits};
  status = model_run(model, &batch, error);
  if (status == ONEKV_OK) *logits = model->scratch.logits;
  kv_cache_close(&cache);
  return status;
}

/* sum [d] += rows [n][d], one after the other: batches of any size give the same bits. */
static void add_rows(const float *rows, size_t n, size_t d, float *sum) {
  for (size_t row = 0; row < n; row++) {
    for (size_t c = 0; c < d; c++) sum[c] += rows[row * d + c];
  }
}

/* What rows [first, first + n) of n_all add to the vector. */
static void pool_rows(onekv_pooling pooling, const float *rows, size_t first, size_t n,
                      size_t n_all, size_t d, float *vector) {
  if (pooling == ONEKV_POOL_MEAN) {
    add_rows(rows, n, d, vector);
    for (size_t c = 0; first + n == n_all && c < d; c++) vector[c] /= (float)n_all;
  } else if (pooling == ONEKV_POOL_FIRST && first == 0) {
    memcpy(vector, rows, d * sizeof *vector);
  } else if (pooling == ONEKV_POOL_LAST && first + n == n_all) {
    memcpy(vector, rows + (n - 1) * d, d * sizeof *vector);
  }
}

static onekv_status check_embed(const onekv_model *model, const int32_t *tokens, size_t n_tokens,
                                onekv_pooling pooling, onekv_error *error) {
  if (model->config.n_vocabulary == 0) {
    return error_set(error, ONEKV_WRONG_STATE, "the model's input is features, not tokens");
  }
  if ((unsigned)pooling > ONEKV_POOL_LAST) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "pooling: found %d, expected 0 to 3",
                     (int)pooling);
  }
  if (n_tokens == 0 || tokens == NULL) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "the text has no tokens");
  }
  if (n_tokens > model->context_window) {
    return error_set(error, ONEKV_CONTEXT_FULL, "tokens of a text: found %zu, expected at most %zu",
                     n_tokens, model->context_window);
  }
  return check_tokens(model, tokens, n_tokens, error);
}

onekv_status onekv_embed(onekv_model *model, const int32_t *tokens, size_t n_tokens,
                         onekv_pooling pooling, float *vector, onekv_error *error) {
  kv_cache cache;
  onekv_status status = check_embed(model, tokens, n_tokens, pooling, error);
  if (status == ONEKV_OK) status = open_cache(model, n_tokens, &cache, error);
  if (status != ONEKV_OK) return status;
  size_t d = model->config.n_embedding;
  size_t n_most = model->scratch.n_rows_max;
  if (pooling == ONEKV_POOL_DEFAULT) pooling = model->config.pooling;
  memset(vector, 0, d * sizeof *vector);
  for (size_t done = 0, n = 0; done < n_tokens; done += n) {
    n = n_tokens - done < n_most ? n_tokens - done : n_most;
    sequence_slice slice = {&cache, 0, n, done};
    forward_batch batch = {.slices = &slice,
                           .n_slices = 1,
                           .n_rows = n,
                           .tokens = tokens + done,
                           .wants_rows = true};
    status = model_run(model, &batch, error);
    if (status != ONEKV_OK) break;
    pool_rows(pooling, model->scratch.normed, done, n, n_tokens, d, vector);
  }
  kv_cache_close(&cache);
  return status;
}
