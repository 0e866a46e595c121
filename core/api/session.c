/* Session: the life of one sequence, and steps that carry several of them forward. */
#include "core/api/model.h"

#include <string.h>

onekv_status onekv_session_open(onekv_model *model, const onekv_session_options *options,
                                onekv_session **out, onekv_error *error) {
  static const onekv_session_options DEFAULTS = {0};
  if (options == NULL) options = &DEFAULTS;
  if (!model->config.causal) {
    return error_set(error, ONEKV_WRONG_STATE, "a bidirectional model has no sessions%s",
                     model->config.has_head ? "" : ": it gives vectors of texts, by embed");
  }
  size_t most = model->context_window;
  size_t context_window = options->context_window > 0 ? options->context_window : most;
  if (context_window > most) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "context_window: found %zu, expected at most %zu", context_window, most);
  }
  if (options->n_keep >= context_window) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "n_keep: found %zu, expected less than %zu",
                     options->n_keep, context_window);
  }
  sampler_state sampler;
  onekv_status status =
      sampler_init(&sampler, &options->sampling, model->config.n_vocabulary, error);
  if (status != ONEKV_OK) return status;
  onekv_session *session = memory_take(&model->memory, MEMORY_SESSIONS, sizeof *session);
  bool has_memory = session != NULL;
  if (has_memory) {
    has_memory = kv_cache_open(&model->pages, context_window, &session->cache) == ONEKV_OK;
  }
  if (!has_memory) {
    memory_give_back(&model->memory, MEMORY_SESSIONS, session, sizeof *session);
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for a session");
  }
  session->model = model;
  session->n_ahead = 0;
  session->n_drafted = 0;
  session->drafted_at = 0;
  session->n_pending = 0;
  session->pending = 0;
  session->context_window = context_window;
  session->slides = options->slides;
  session->n_keep = options->n_keep;
  session->cut_at = 0;
  session->sampler = sampler;
  model->n_sessions++;
  *out = session;
  return ONEKV_OK;
}

void onekv_session_close(onekv_session *session) {
  if (session == NULL) return;
  onekv_model *model = session->model;
  kv_cache_close(&session->cache);
  memory_give_back(&model->memory, MEMORY_SESSIONS, session, sizeof *session);
  model->n_sessions--;
}

onekv_status onekv_session_clone(const onekv_session *session, onekv_session **out) {
  onekv_session_options options = {
      .context_window = session->context_window,
      .slides = session->slides,
      .n_keep = session->n_keep,
      .sampling = session->sampler.sampling,
  };
  onekv_session *clone = NULL;
  onekv_status status = onekv_session_open(session->model, &options, &clone, NULL);
  if (status != ONEKV_OK) return status;
  clone->sampler = session->sampler;
  clone->n_pending = session->n_pending;
  clone->pending = session->pending;
  kv_cache_share(&session->cache, session_n_cached(session), &clone->cache);
  *out = clone;
  return ONEKV_OK;
}

size_t onekv_session_n_tokens(const onekv_session *session) {
  return session_n_cached(session) + session->n_pending;
}

size_t onekv_session_context_window(const onekv_session *session) {
  return session->context_window;
}

bool onekv_session_slides(const onekv_session *session) { return session->slides; }

onekv_status onekv_session_tokens(const onekv_session *session, size_t first, size_t n,
                                  int32_t *tokens) {
  size_t n_cached = session_n_cached(session);
  size_t n_tokens = n_cached + session->n_pending;
  if (first > n_tokens || n > n_tokens - first) return ONEKV_INVALID_ARGUMENT;
  size_t n_last = first + n > n_cached ? 1 : 0;
  if (n > n_last) kv_cache_tokens(&session->cache, first, n - n_last, tokens);
  if (n_last > 0) tokens[n - 1] = session->pending;
  return ONEKV_OK;
}

void onekv_session_cut_at(onekv_session *session, size_t position) { session->cut_at = position; }

onekv_status onekv_session_reserve(onekv_session *session, size_t n, onekv_error *error) {
  if (n == 0) return ONEKV_OK;
  draft_forget(session);
  size_t n_left = session->context_window - session->cache.n_positions;
  if (n_left < session->n_pending || n > n_left - session->n_pending) {
    return error_set(error, ONEKV_CONTEXT_FULL,
                     "%zu more tokens do not fit in a window of %zu that holds %zu", n,
                     session->context_window, onekv_session_n_tokens(session));
  }
  onekv_status status = kv_cache_reserve(&session->cache, n + session->n_pending);
  if (status == ONEKV_OK) return ONEKV_OK;
  return error_set(error, status, "no memory for %zu more tokens", n);
}

onekv_status onekv_session_truncate(onekv_session *session, size_t n) {
  size_t n_cached = session_n_cached(session);
  size_t n_tokens = n_cached + session->n_pending;
  if (n > n_tokens) return ONEKV_INVALID_ARGUMENT;
  draft_forget(session);
  onekv_status status = session_cut(session, n < n_cached ? n : n_cached);
  if (status != ONEKV_OK) return status;
  if (n < n_tokens) session->n_pending = 0;
  session->cut_at = 0;
  return ONEKV_OK;
}

uint64_t onekv_session_seed(const onekv_session *session) {
  return session->sampler.sampling.seed;
}

onekv_status onekv_session_set_sampling(onekv_session *session, const onekv_sampling *sampling,
                                        onekv_error *error) {
  return sampler_init(&session->sampler, sampling, session->model->config.n_vocabulary, error);
}

void onekv_session_memory(const onekv_session *session, onekv_session_memory_report *out) {
  kv_cache cache = session_cache(session);
  out->n_cached = cache.n_positions;
  out->n_held = cache.tables[0].end * KV_PAGE_POSITIONS;
  out->cached = bytes_by_kind(kv_cache_used(&cache, &session->model->config));
  out->cache_pages = kv_cache_page_bytes(&cache, false);
  out->cache_own = kv_cache_page_bytes(&cache, true);
}

onekv_status onekv_sample(onekv_session *session, const float *logits, int32_t *token) {
  onekv_model *model = session->model;
  int32_t history[ONEKV_PENALTY_WINDOW_MAX];
  size_t n_tokens = onekv_session_n_tokens(session);
  size_t n_history = sampler_n_history(&session->sampler);
  if (n_history > n_tokens) n_history = n_tokens;
  onekv_session_tokens(session, n_tokens - n_history, n_history, history);
  return sampler_choose(&session->sampler, logits, model->config.n_outputs, history, n_history,
                        model->candidates, token);
}
