/* Drafts: guessed tokens run together with the one that waits, before it is known whether they will
 * be chosen.
 *
 * The cache then holds n_ahead positions more than the session has tokens that have run: first the
 * token that waits, then the guesses. A row is taken over when its token waits and its logits are
 * asked for; the next guess stays when it is what was appended. All other ways end in draft_forget,
 * which cuts the cache: no window has let go of anything that this brings back into sight, since a
 * draft is shorter than KV_WINDOW_SLACK. */
#include "core/api/model.h"

size_t session_n_cached(const onekv_session *session) {
  return session->cache.n_positions - session->n_ahead;
}

kv_cache session_cache(const onekv_session *session) {
  kv_cache cache = session->cache;
  cache.n_positions = session_n_cached(session);
  return cache;
}

size_t onekv_session_n_ahead(const onekv_session *session) { return session->n_ahead; }

void draft_forget(onekv_session *session) {
  if (session->n_ahead == 0) return;
  kv_cache_truncate(&session->cache, session_n_cached(session));
  session->n_ahead = 0;
}

bool draft_serves(onekv_item *item) {
  onekv_session *session = item->session;
  onekv_model *model = session->model;
  bool asks_for_it = item->n_tokens == 0 && session->n_pending == 1;
  if (!asks_for_it || session->n_ahead == 0 || session->drafted_at != model->n_runs) return false;
  size_t row = session->n_drafted - session->n_ahead;
  item->logits = model->scratch.logits + row * model->config.n_outputs;
  session->n_ahead--;
  session->n_pending = 0;
  return true;
}

void draft_keep_for(const onekv_item *item) {
  onekv_session *session = item->session;
  int32_t drafted = -1;
  bool appends_one = item->n_tokens == 1 && item->n_logits == 0 && session->n_pending == 0;
  if (appends_one && session->n_ahead > 0) {
    kv_cache_tokens(&session->cache, session_n_cached(session), 1, &drafted);
    if (item->tokens[0] == drafted) return;
  }
  draft_forget(session);
}

onekv_status onekv_session_draft(onekv_session *session, const int32_t *tokens, size_t n,
                                 onekv_error *error) {
  onekv_model *model = session->model;
  draft_forget(session);
  size_t n_rows = session->context_window - session->cache.n_positions;
  if (n_rows > model->scratch.n_logits_max) n_rows = model->scratch.n_logits_max;
  if (n_rows > KV_WINDOW_SLACK) n_rows = KV_WINDOW_SLACK;
  if (n < n_rows) n_rows = n + 1;
  if (n_rows < 2 || session->n_pending == 0) return ONEKV_OK;
  int32_t waiting = session->pending;
  onekv_item item = {session, tokens, n_rows - 1, n_rows, NULL};
  onekv_status status = onekv_step(model, &item, 1, error);
  if (status != ONEKV_OK) return status;
  session->n_pending = 1;
  session->pending = waiting;
  session->n_ahead = session->n_drafted = n_rows;
  session->drafted_at = model->n_runs;
  return ONEKV_OK;
}
