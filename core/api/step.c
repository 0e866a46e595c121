/* Steps: tokens are appended to sessions, several sessions in one batch.
 *
 * What an item runs is the token that waits in its session, then the item's own tokens; when no
 * logits are wanted, the last of them does not run but waits, since its logits are what the next
 * choice will need.
 *
 * Everything that can fail is done before anything changes: arguments are checked, full windows
 * slide, and cache pages are reserved for all items; only then does the transformer run. */
#include "core/api/model.h"

onekv_status model_refuse(onekv_status status, onekv_error *error) {
  if (status == ONEKV_CORRUPT) {
    return error_set(error, status, "tensor per_layer_token_embd.weight: found a row with a number "
                     "that is not finite: the file was changed, or is damaged");
  }
  if (status == ONEKV_OK) return ONEKV_OK;
  return error_set(error, status, "tensor per_layer_token_embd.weight: a token's row could not be "
                   "read: the file was changed or removed after the model was loaded");
}

onekv_status model_run(onekv_model *model, const forward_batch *batch, onekv_error *error) {
  forward_model view = model_view(model);
  pool_limit(model->pool, model->n_threads);
  onekv_status status = forward(&view, &model->scratch, batch);
  if (status != ONEKV_OK) return model_refuse(status, error);
  model->n_runs++;
  for (size_t s = 0; s < batch->n_slices; s++) {
    const sequence_slice *slice = &batch->slices[s];
    const int32_t *tokens = batch->tokens == NULL ? NULL : batch->tokens + slice->first_row;
    kv_cache_advance(slice->cache, tokens, slice->n_rows);
  }
  return ONEKV_OK;
}

/* Runs rows of one sequence that are reserved in the cache, in batches of the scratch's size,
 * without logits, and counts them as present. Errors: those of forward. */
static onekv_status prefill(onekv_model *model, kv_cache *cache, const int32_t *tokens, size_t n,
                            onekv_error *error) {
  for (size_t done = 0; done < n;) {
    size_t n_left = n - done;
    size_t n_rows = n_left < model->scratch.n_rows_max ? n_left : model->scratch.n_rows_max;
    sequence_slice slice = {cache, 0, n_rows, cache->n_positions};
    forward_batch batch = {&slice, 1, n_rows, tokens + done, NULL, NULL, 0, 0, NULL,
                           false};
    onekv_status status = model_run(model, &batch, error);
    if (status != ONEKV_OK) return status;
    done += n_rows;
  }
  return ONEKV_OK;
}

/* How many of the session's tokens sliding never forgets. */
static size_t n_kept(const onekv_session *session) {
  size_t n_positions = session_n_cached(session);
  return session->n_keep < n_positions ? session->n_keep : n_positions;
}

/* The session's cache becomes one of its first n_keep tokens and its last n_tail. What cannot be
 * shared with the old one, because its position changes or it is behind a window, is computed anew,
 * as if the session had been fed with it. On an error (OUT_OF_MEMORY without a message, those of
 * forward) the session is as it was. */
static onekv_status rebuild(onekv_session *session, size_t n_keep, size_t n_tail,
                            onekv_error *error) {
  onekv_model *model = session->model;
  kv_cache *cache = &session->cache;
  size_t n_shared = kv_cache_can_truncate(cache, n_keep) ? n_keep : 0;
  size_t n_new = n_keep - n_shared + n_tail;
  kv_cache made;
  size_t n_bytes = (n_new > 0 ? n_new : 1) * sizeof(int32_t);
  int32_t *tokens = memory_take(&model->memory, MEMORY_SESSIONS, n_bytes);
  onekv_status status = tokens == NULL ? ONEKV_OUT_OF_MEMORY : ONEKV_OK;
  if (status == ONEKV_OK) status = kv_cache_open(&model->pages, session->context_window, &made);
  if (status == ONEKV_OK) {
    kv_cache_tokens(cache, n_shared, n_keep - n_shared, tokens);
    kv_cache_tokens(cache, cache->n_positions - n_tail, n_tail, tokens + (n_keep - n_shared));
    kv_cache_share(cache, n_shared, &made);
    status = kv_cache_reserve(&made, n_new);
    if (status == ONEKV_OK) status = prefill(model, &made, tokens, n_new, error);
    if (status == ONEKV_OK) {
      kv_cache_close(cache);
      *cache = made;
    } else {
      kv_cache_close(&made);
    }
  }
  memory_give_back(&model->memory, MEMORY_SESSIONS, tokens, n_bytes);
  return status;
}

/* Forgets what follows the kept tokens up to where the session is to be cut, or else the older half
 * of it, so that n_more tokens fit, which step_check has seen to. This is exact for every position
 * scheme, and its cost, half a window every half window, is that of prefill. */
static onekv_status slide(onekv_session *session, size_t n_more, onekv_error *error) {
  size_t n_keep = n_kept(session);
  size_t n_cached = session->cache.n_positions;
  size_t n_tail = (n_cached - n_keep) / 2;
  size_t n_room = session->context_window - n_keep - n_more;
  if (n_tail > n_room) n_tail = n_room;
  bool is_between = session->cut_at > n_keep && session->cut_at <= n_cached;
  if (is_between && n_cached - session->cut_at <= n_room) n_tail = n_cached - session->cut_at;
  onekv_status status = rebuild(session, n_keep, n_tail, error);
  if (status == ONEKV_OK) session->cut_at = 0;
  if (status != ONEKV_OUT_OF_MEMORY) return status;
  return error_set(error, status, "no memory to slide the window");
}

onekv_status session_cut(onekv_session *session, size_t n) {
  if (!kv_cache_can_truncate(&session->cache, n)) return rebuild(session, n, 0, NULL);
  kv_cache_truncate(&session->cache, n);
  return ONEKV_OK;
}

/* The item has no tokens of its own and none waits: the last one runs once more. */
static bool repeats_last(const onekv_item *item) {
  return item->n_tokens == 0 && item->session->n_pending == 0;
}

/* How many tokens the item runs; repeats_last is dealt with, by session_take_back. */
static size_t n_rows_of(const onekv_item *item) {
  return item->session->n_pending + item->n_tokens - (item->n_logits == 0 ? 1 : 0);
}

/* Token i of those that the item runs. */
static int32_t row_token(const onekv_item *item, size_t i) {
  const onekv_session *session = item->session;
  return i < session->n_pending ? session->pending : item->tokens[i - session->n_pending];
}

onekv_status session_take_back(onekv_session *session) {
  size_t n_cached = session->cache.n_positions;
  int32_t last = 0;
  if (session->n_pending > 0 || n_cached == 0) return ONEKV_OK;
  kv_cache_tokens(&session->cache, n_cached - 1, 1, &last);
  onekv_status status = session_cut(session, n_cached - 1);
  if (status != ONEKV_OK) return status;
  session->pending = last;
  session->n_pending = 1;
  return ONEKV_OK;
}

/* Every item has a session of this model, and tokens or one that can run for its logits. */
static bool is_item(const onekv_model *model, const onekv_item *item) {
  const onekv_session *session = item->session;
  if (session == NULL || session->model != model || session->is_in_step) return false;
  if (item->n_tokens > 0) {
    return item->tokens != NULL && item->n_logits <= session->n_pending + item->n_tokens;
  }
  return item->n_logits == 1;
}

static onekv_status check_item(const onekv_model *model, const onekv_item *item,
                               onekv_error *error) {
  if (!is_item(model, item)) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "an item needs a session of this model that no other item has, a token that "
                     "can run, and no more logits than tokens that run");
  }
  if (item->n_tokens == 0 && onekv_session_n_tokens(item->session) == 0) {
    return error_set(error, ONEKV_WRONG_STATE, "the session has no tokens yet");
  }
  for (size_t i = 0; i < item->n_tokens; i++) {
    size_t token = (size_t)item->tokens[i];
    if (item->tokens[i] >= 0 && token < model->config.n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)item->tokens[i], model->config.n_vocabulary - 1);
  }
  const onekv_session *session = item->session;
  if (repeats_last(item)) return ONEKV_OK;
  /* A full window that slides has room for all but what it keeps. */
  size_t n_before = session->slides ? n_kept(session) : session_n_cached(session);
  size_t n_rows = n_rows_of(item);
  if (n_rows <= session->context_window - n_before) return ONEKV_OK;
  return error_set(error, ONEKV_CONTEXT_FULL, "%zu tokens after %zu%s do not fit in a window of "
                   "%zu", n_rows, n_before, session->slides ? " kept ones" : "",
                   session->context_window);
}

onekv_status step_check(onekv_model *model, onekv_item *items, size_t n_items,
                        onekv_error *error) {
  onekv_status status = ONEKV_OK;
  size_t n_logits = 0;
  size_t n_checked = 0;
  if (!model->config.causal) {
    return error_set(error, ONEKV_WRONG_STATE,
                     "a bidirectional model is run by encode, not by steps");
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
    if (repeats_last(&items[i])) status = session_take_back(session);
    if (status == ONEKV_OUT_OF_MEMORY) {
      error_set(error, status, "no memory to run the last token again");
    } else {
      model_refuse(status, error);
    }
    size_t n_rows = n_rows_of(&items[i]);
    if (status == ONEKV_OK && n_rows > session->context_window - cache->n_positions) {
      status = slide(session, n_rows, error);
    }
    if (status == ONEKV_OK) {
      session->n_before = cache->n_positions;
      status = kv_cache_reserve(cache, n_rows);
      if (status == ONEKV_OK) continue;
      error_set(error, status, "no memory for %zu more tokens", n_rows);
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

static onekv_status flush(batch_builder *builder, onekv_error *error) {
  forward_batch *batch = &builder->batch;
  if (batch->n_rows == 0) return ONEKV_OK;
  onekv_status status = model_run(builder->model, batch, error);
  if (status != ONEKV_OK) return status;
  batch->first_logit += batch->n_logits;
  batch->n_slices = 0;
  batch->n_rows = 0;
  batch->n_logits = 0;
  return ONEKV_OK;
}

/* Adds rows [done, done + n) of an item's n_rows; the last n_logits of them want logits. */
static void add_rows(batch_builder *builder, const onekv_item *item, size_t n_rows, size_t done,
                     size_t n) {
  forward_batch *batch = &builder->batch;
  kv_cache *cache = &item->session->cache;
  builder->slices[batch->n_slices++] =
      (sequence_slice){cache, batch->n_rows, n, cache->n_positions};
  for (size_t i = done; i < done + n; i++) {
    if (i >= n_rows - item->n_logits) {
      builder->model->logit_rows[batch->n_logits++] = (uint32_t)batch->n_rows;
    }
    builder->tokens[batch->n_rows++] = row_token(item, i);
  }
}

/* A batch did not run: takes the tokens out again that ran before it. Where windows have let go of
 * what the session saw before, they stay, with the one that waited in front. */
static void undo(onekv_item *items, size_t n_items) {
  for (size_t i = 0; i < n_items; i++) {
    onekv_session *session = items[i].session;
    kv_cache *cache = &session->cache;
    bool can_cut = kv_cache_can_truncate(cache, session->n_before);
    if (!can_cut && cache->n_positions > session->n_before) session->n_pending = 0;
    kv_cache_truncate(cache, can_cut ? session->n_before : cache->n_positions);
  }
}

/* What ran waits no more; a last token that did not run does. */
static void settle(const onekv_item *item) {
  onekv_session *session = item->session;
  session->n_pending = item->n_logits == 0 ? 1 : 0;
  if (session->n_pending > 0) session->pending = item->tokens[item->n_tokens - 1];
}

onekv_status onekv_step(onekv_model *model, onekv_item *items, size_t n_items,
                        onekv_error *error) {
  onekv_status status = step_check(model, items, n_items, error);
  if (status == ONEKV_OK && n_items == 1 && draft_serves(items)) return ONEKV_OK;
  for (size_t i = 0; i < n_items && status == ONEKV_OK; i++) draft_keep_for(&items[i]);
  if (status == ONEKV_OK) status = reserve(items, n_items, error);
  if (status != ONEKV_OK) return status;
  batch_builder builder = {.model = model};
  builder.batch.slices = builder.slices;
  builder.batch.tokens = builder.tokens;
  builder.batch.logit_rows = model->logit_rows;
  size_t n_rows_max = model->scratch.n_rows_max < ROWS_MAX ? model->scratch.n_rows_max : ROWS_MAX;
  for (size_t i = 0; i < n_items && status == ONEKV_OK; i++) {
    size_t n_rows = n_rows_of(&items[i]);
    for (size_t done = 0; done < n_rows && status == ONEKV_OK;) {
      size_t n_left = n_rows - done;
      size_t n_room = n_rows_max - builder.batch.n_rows;
      size_t n = n_left < n_room ? n_left : n_room;
      add_rows(&builder, &items[i], n_rows, done, n);
      done += n;
      bool is_full = builder.batch.n_rows == n_rows_max || builder.batch.n_slices == SLICES_MAX;
      if (is_full) status = flush(&builder, error);
    }
  }
  if (status == ONEKV_OK) status = flush(&builder, error);
  if (status != ONEKV_OK) {
    undo(items, n_items);
    return status;
  }
  float *logits = model->scratch.logits;
  for (size_t i = 0; i < n_items; i++) {
    items[i].logits = logits;
    logits += items[i].n_logits * model->config.n_outputs;
    settle(&items[i]);
  }
  return ONEKV_OK;
}
