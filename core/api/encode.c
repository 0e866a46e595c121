/* Encoding: a bidirectional model runs one whole sequence, with a cache of its own that is given
 * back before the call returns. */
#include "core/api/model.h"

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
  for (size_t i = 0; takes_tokens && i < n_rows; i++) {
    if (tokens[i] >= 0 && (size_t)tokens[i] < config->n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)tokens[i], config->n_vocabulary - 1);
  }
  size_t n_all = n_rows + n_class_rows;
  kv_cache cache;
  onekv_status status = kv_cache_open(&model->pages, n_all, &cache);
  if (status == ONEKV_OK) status = kv_cache_reserve(&cache, n_all);
  if (status == ONEKV_OK) {
    sequence_slice slice = {&cache, 0, n_all, 0};
    *n_logits = config->pools_first ? 1 : n_rows;
    for (size_t i = 0; i < *n_logits; i++) {
      model->logit_rows[i] = (uint32_t)(config->pools_first ? 0 : i + n_class_rows);
    }
    forward_batch batch = {&slice, 1, n_all, takes_tokens ? tokens : NULL,
                           takes_tokens ? NULL : features, model->logit_rows, *n_logits, 0, NULL};
    model_run(model, &batch);
    *logits = model->scratch.logits;
  } else {
    error_set(error, status, "no memory for %zu rows of input", n_all);
  }
  kv_cache_close(&cache);
  return status;
}
