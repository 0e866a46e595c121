/* Steps: tokens are appended to sessions, several sessions in one batch.
 *
 * Everything that can fail is done before anything changes: arguments are checked, full windows
 * slide, and cache pages are reserved for all items; only then does the transformer run. */
#include "core/api/model.h"

/* Runs one batch and counts its rows as present in their caches. */
static void run_batch(onekv_model *model, const forward_batch *batch) {
  forward_model view = model_view(model);
  pool_limit(model->pool, model->n_threads);
  forward(&view, &model->scratch, batch);
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    const int32_t *tokens = batch->tokens == NULL ? NULL : batch->tokens + slice->first_row;
    kv_cache_advance(slice->cache, tokens, slice->n_rows);
  }
}

void model_prefill(onekv_model *model, kv_cache *cache, const int32_t *tokens, size_t n) {
  for (size_t done = 0; done < n;) {
    size_t n_left = n - done;
    size_t n_rows = n_left < model->scratch.n_rows_max ? n_left : model->scratch.n_rows_max;
    sequence_slice slice = {cache, 0, n_rows, cache->n_positions};
    forward_batch batch = {&slice, 1, n_rows, tokens + done, NULL, NULL, 0, 0};
    run_batch(model, &batch);
    done += n_rows;
  }
}

/* How many of the session's tokens sliding never forgets. */
static size_t n_kept(const onekv_session *session) {
  size_t n_positions = session->cache.n_positions;
  return session->n_keep < n_positions ? session->n_keep : n_positions;
}

/* Forgets the older half of what follows the kept tokens, so that n_more tokens fit, which
 * check_item has seen to: the rest is computed anew at its new positions, as if the session had
 * been fed with it. This is exact for every position scheme, and its cost, half a window every
 * half window, is that of prefill. */
static onekv_status slide(onekv_session *session, size_t n_more, onekv_error *error) {
  onekv_model *model = session->model;
  kv_cache *cache = &session->cache;
  size_t n_keep = n_kept(session);
  size_t n_tail = (cache->n_positions - n_keep) / 2;
  size_t n_room = session->n_context - n_keep - n_more;
  if (n_tail > n_room) n_tail = n_room;
  kv_cache slid;
  size_t n_bytes = (n_tail > 0 ? n_tail : 1) * sizeof(int32_t);
  int32_t *tail = memory_take(&model->memory, MEMORY_SESSIONS, n_bytes);
  onekv_status status = tail == NULL ? ONEKV_OUT_OF_MEMORY : ONEKV_OK;
  if (status == ONEKV_OK) status = kv_cache_open(&model->pages, session->n_context, &slid);
  if (status == ONEKV_OK) {
    kv_cache_tokens(cache, cache->n_positions - n_tail, n_tail, tail);
    kv_cache_share(cache, n_keep, &slid);
    status = kv_cache_reserve(&slid, n_tail);
    if (status == ONEKV_OK) {
      model_prefill(model, &slid, tail, n_tail);
      kv_cache_close(cache);
      *cache = slid;
    } else {
      kv_cache_close(&slid);
    }
  }
  memory_give_back(&model->memory, MEMORY_SESSIONS, tail, n_bytes);
  if (status == ONEKV_OK) return ONEKV_OK;
  return error_set(error, status, "no memory to slide the window");
}

static onekv_status check_item(const onekv_model *model, const onekv_item *item,
                               onekv_error *error) {
  bool is_valid = item->session != NULL && item->session->model == model &&
                  !item->session->is_in_step && item->tokens != NULL && item->n_tokens > 0 &&
                  item->n_logits <= item->n_tokens;
  if (!is_valid) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "an item needs a session of this model that no other item has, tokens, and "
                     "no more logits than tokens");
  }
  for (size_t i = 0; i < item->n_tokens; i++) {
    size_t token = (size_t)item->tokens[i];
    if (item->tokens[i] >= 0 && token < model->config.n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)item->tokens[i], model->config.n_vocabulary - 1);
  }
  const onekv_session *session = item->session;
  /* A full window that slides has room for all but what it keeps. */
  size_t n_before = session->slides ? n_kept(session) : session->cache.n_positions;
  if (item->n_tokens <= session->n_context - n_before) return ONEKV_OK;
  return error_set(error, ONEKV_CONTEXT_FULL, "%zu tokens after %zu%s do not fit in a window of "
                   "%zu", item->n_tokens, n_before, session->slides ? " kept ones" : "",
                   session->n_context);
}

static onekv_status check_items(onekv_model *model, onekv_item *items, size_t n_items,
                                onekv_error *error) {
  onekv_status status = ONEKV_OK;
  size_t n_logits = 0;
  size_t n_checked = 0;
  if (!model->config.causal) {
    return error_set(error, ONEKV_WRONG_STATE, "a bidirectional model takes no steps: encode");
  }
  for (; n_checked < n_items && status == ONEKV_OK; n_checked++) {
    status = check_item(model, &items[n_checked], error);
    if (status != ONEKV_OK) break;
    items[n_checked].session->is_in_step = true;
    n_logits += items[n_checked].n_logits;
  }
  for (size_t i = 0; i < n_checked; i++) items[i].session->is_in_step = false;
  if (status != ONEKV_OK) return status;
  if (n_logits <= model->scratch.n_logits_max) return ONEKV_OK;
  return error_set(error, ONEKV_INVALID_ARGUMENT, "rows of logits: found %zu, expected at most %zu",
                   n_logits, model->scratch.n_logits_max);
}

/* Room for every item's tokens. On failure no session holds a page more than before. */
static onekv_status reserve(onekv_item *items, size_t n_items, onekv_error *error) {
  for (size_t i = 0; i < n_items; i++) {
    onekv_session *session = items[i].session;
    kv_cache *cache = &session->cache;
    onekv_status status = ONEKV_OK;
    if (items[i].n_tokens > session->n_context - cache->n_positions) {
      status = slide(session, items[i].n_tokens, error);
    }
    if (status == ONEKV_OK) {
      status = kv_cache_reserve(cache, items[i].n_tokens);
      if (status == ONEKV_OK) continue;
      error_set(error, status, "no memory for %zu more tokens", items[i].n_tokens);
    }
    for (size_t j = 0; j < i; j++) {
      kv_cache_truncate(&items[j].session->cache, items[j].session->cache.n_positions);
    }
    return status;
  }
  return ONEKV_OK;
}

/* A batch being filled from the items. */
typedef struct batch_builder {
  onekv_model *model;
  sequence_slice slices[64];
  int32_t tokens[256];
  forward_batch batch;
} batch_builder;

enum {
  SLICES_MAX = sizeof(((batch_builder *)0)->slices) / sizeof(sequence_slice),
  ROWS_MAX = sizeof(((batch_builder *)0)->tokens) / sizeof(int32_t)
};

static void flush(batch_builder *builder) {
  forward_batch *batch = &builder->batch;
  if (batch->n_rows == 0) return;
  run_batch(builder->model, batch);
  batch->first_logit += batch->n_logits;
  batch->n_slices = 0;
  batch->n_rows = 0;
  batch->n_logits = 0;
}

/* Adds tokens [done, done + n) of an item; the last n_logits tokens of the item want logits. */
static void add_rows(batch_builder *builder, const onekv_item *item, size_t done, size_t n) {
  forward_batch *batch = &builder->batch;
  kv_cache *cache = &item->session->cache;
  builder->slices[batch->n_slices++] =
      (sequence_slice){cache, batch->n_rows, n, cache->n_positions};
  for (size_t i = done; i < done + n; i++) {
    if (i >= item->n_tokens - item->n_logits) {
      builder->model->logit_rows[batch->n_logits++] = (uint32_t)batch->n_rows;
    }
    builder->tokens[batch->n_rows++] = item->tokens[i];
  }
}

onekv_status onekv_step(onekv_model *model, onekv_item *items, size_t n_items,
                        onekv_error *error) {
  onekv_status status = check_items(model, items, n_items, error);
  if (status == ONEKV_OK) status = reserve(items, n_items, error);
  if (status != ONEKV_OK) return status;
  batch_builder builder = {.model = model};
  builder.batch.slices = builder.slices;
  builder.batch.tokens = builder.tokens;
  builder.batch.logit_rows = model->logit_rows;
  size_t n_rows_max = model->scratch.n_rows_max < ROWS_MAX ? model->scratch.n_rows_max : ROWS_MAX;
  size_t first_logit = 0;
  for (size_t i = 0; i < n_items; i++) {
    for (size_t done = 0; done < items[i].n_tokens;) {
      size_t n_left = items[i].n_tokens - done;
      size_t n_room = n_rows_max - builder.batch.n_rows;
      size_t n = n_left < n_room ? n_left : n_room;
      add_rows(&builder, &items[i], done, n);
      done += n;
      bool is_full = builder.batch.n_rows == n_rows_max || builder.batch.n_slices == SLICES_MAX;
      if (is_full) flush(&builder);
    }
    items[i].logits = model->scratch.logits + first_logit * model->config.n_outputs;
    first_logit += items[i].n_logits;
  }
  flush(&builder);
  return ONEKV_OK;
}

onekv_status onekv_score(onekv_session *session, const int32_t *tokens, size_t n,
                         float *logprobs, onekv_error *error) {
  onekv_model *model = session->model;
  size_t n_outputs = model->config.n_outputs;
  if (n < 2) return error_set(error, ONEKV_INVALID_ARGUMENT, "scoring takes two tokens or more");
  onekv_item all = {session, tokens, n, 0, NULL};
  onekv_status status = check_items(model, &all, 1, error);
  if (status == ONEKV_OK && n > session->n_context - session->cache.n_positions) {
    status = error_set(error, ONEKV_CONTEXT_FULL, "scoring does not slide the window");
  }
  size_t n_before = session->cache.n_positions;
  /* All pages first: without them no logprob has been written. */
  if (status == ONEKV_OK && kv_cache_reserve(&session->cache, n) != ONEKV_OK) {
    status = error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu more tokens", n);
  }
  for (size_t done = 0; done < n && status == ONEKV_OK;) {
    size_t n_left = n - done;
    size_t n_now = n_left < model->scratch.n_logits_max ? n_left : model->scratch.n_logits_max;
    onekv_item item = {session, tokens + done, n_now, n_now, NULL};
    status = onekv_step(model, &item, 1, error);
    for (size_t i = 0; i < n_now && done + i + 1 < n && status == ONEKV_OK; i++) {
      logprobs[done + i] =
          onekv_logprob(item.logits + i * n_outputs, n_outputs, tokens[done + i + 1]);
    }
    done += n_now;
  }
  if (status != ONEKV_OK) kv_cache_truncate(&session->cache, n_before);
  return status;
}

onekv_status onekv_encode(onekv_model *model, const int32_t *tokens, const float *features,
                          size_t n_rows, const float **logits, size_t *n_logits,
                          onekv_error *error) {
  const onekv_config *config = &model->config;
  if (config->causal) {
    return error_set(error, ONEKV_WRONG_STATE, "a causal model is run by steps, not encode");
  }
  bool takes_tokens = config->n_vocabulary > 0;
  if (n_rows == 0 || (takes_tokens ? tokens : (const void *)features) == NULL) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "the input is empty or of the wrong kind");
  }
  size_t n_class_rows = config->has_class_row ? 1 : 0;
  if (n_rows > model->n_context - n_class_rows) {
    return error_set(error, ONEKV_CONTEXT_FULL, "rows of input: found %zu, expected at most %zu",
                     n_rows, model->n_context - n_class_rows);
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
                           takes_tokens ? NULL : features, model->logit_rows, *n_logits, 0};
    run_batch(model, &batch);
    *logits = model->scratch.logits;
  } else {
    error_set(error, status, "no memory for %zu rows of input", n_all);
  }
  kv_cache_close(&cache);
  return status;
}
