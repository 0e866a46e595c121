/* Scoring: the probability that a model gives to a text, token by token.
 *
 * The logits that judge a token are those of the token before it, so the session's last token runs
 * first (once more, if it has run), and the last token of the text does not run but waits. */
#include "core/api/model.h"

#include <math.h>

/* Room for the rows that will run: all pages first, so that nothing fails half-way. */
static onekv_status reserve(onekv_session *session, size_t n, onekv_error *error) {
  size_t n_before = onekv_session_n_tokens(session);
  if (n_before + n - 1 > session->context_window) {
    return error_set(error, ONEKV_CONTEXT_FULL, "scoring does not slide the window");
  }
  onekv_status status = session_take_back(session);
  if (status == ONEKV_OUT_OF_MEMORY) {
    return error_set(error, status, "no memory to run the last token again");
  }
  if (status != ONEKV_OK) return model_refuse(status, error);
  size_t n_rows = n_before + n - 1 - session->cache.n_positions;
  if (kv_cache_reserve(&session->cache, n_rows) == ONEKV_OK) return ONEKV_OK;
  return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu more tokens", n_rows);
}

onekv_status onekv_score(onekv_session *session, const int32_t *tokens, size_t n,
                         float *logprobs, onekv_error *error) {
  onekv_model *model = session->model;
  size_t n_outputs = model->config.n_outputs;
  onekv_item all = {session, tokens, n, 0, NULL};
  onekv_status status = step_check(model, &all, 1, error);
  if (status == ONEKV_OK) draft_forget(session);
  if (status == ONEKV_OK) status = reserve(session, n, error);
  if (status != ONEKV_OK) return status;
  size_t n_judged = session->n_pending > 0 ? 0 : 1;
  if (n_judged > 0) logprobs[0] = NAN;
  while (n_judged < n && status == ONEKV_OK) {
    size_t n_left = n - n_judged;
    size_t n_now = n_left < model->scratch.n_logits_max ? n_left : model->scratch.n_logits_max;
    /* The row before the first of these: it waits in the session, or is a token of the text. */
    size_t n_waiting = session->n_pending;
    onekv_item item = {session, tokens + (n_judged + n_waiting - 1), n_now - n_waiting, n_now,
                       NULL};
    status = onekv_step(model, &item, 1, error);
    for (size_t i = 0; i < n_now && status == ONEKV_OK; i++) {
      logprobs[n_judged + i] =
          onekv_logprob(item.logits + i * n_outputs, n_outputs, tokens[n_judged + i]);
    }
    n_judged += n_now;
  }
  onekv_item last = {session, tokens + n - 1, 1, 0, NULL};
  return status == ONEKV_OK ? onekv_step(model, &last, 1, error) : status;
}
