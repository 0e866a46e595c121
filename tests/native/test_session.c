/* Sessions: however the tokens got there, the same tokens give the same bits.
 *
 * The yardstick is a fresh session that is fed all tokens in one step. Against it: feeding in
 * pieces, clones that diverge, cutting and feeding again, windows that slide, batches of many
 * sessions, and scores. A failed call is compared by the session's whole snapshot. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

#include <math.h>

enum { TOKENS_MAX = 160, CONTEXT = 96 };

typedef struct token_list {
  size_t n;
  int32_t tokens[TOKENS_MAX];
} token_list;

/* One of each way through the forward pass. */
static const tiny_shape SHAPES[] = {
    {.projection = "QKV", .n_kv_heads = 2, .n_layers = 2},
    {.projection = "Q-K=V", .n_layers = 2},
    {.projection = "Q=K-V", .architecture = "gpt2", .n_heads = 4, .n_kv_heads = 2},
    {.projection = "Q=K=V", .architecture = "qwen3"},
    {.projection = "Q-K=V", .architecture = "qwen3", .position = "none", .n_layers = 2},
    {.projection = "Q-K=V", .position = "learned", .type = TENSOR_F16},
};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static onekv_pool *pool;

static onekv_model *open_shape(size_t shape, onekv_cache_type type, size_t n_logits_max) {
  onekv_model_options options = {.pool = pool, .cache_type = type, .n_logits_max = n_logits_max};
  return open_tiny(&SHAPES[shape], &options);
}

static token_list random_tokens(size_t n) {
  token_list list = {.n = n};
  for (size_t i = 0; i < n; i++) list.tokens[i] = (int32_t)check_random_below(TINY_VOCABULARY);
  return list;
}

/* The last logits of a fresh session that is fed with the list. */
static void expect(onekv_model *model, const token_list *list, float *logits) {
  onekv_session *fresh = open_session(model, NULL);
  const float *found = feed_tokens(fresh, model, list->tokens, list->n);
  memcpy(logits, found, TINY_VOCABULARY * sizeof *logits);
  onekv_session_close(fresh);
}

static bool holds(const onekv_session *session, const token_list *list) {
  int32_t tokens[TOKENS_MAX];
  return onekv_session_n_tokens(session) == list->n &&
         onekv_session_tokens(session, 0, list->n, tokens) == ONEKV_OK &&
         memcmp(tokens, list->tokens, list->n * sizeof *tokens) == 0;
}

/* Appends to both and checks the last logits against a fresh session. */
static void feed_and_check(onekv_model *model, onekv_session *session, token_list *list,
                           const int32_t *tokens, size_t n) {
  float logits[TINY_VOCABULARY];
  float expected[TINY_VOCABULARY];
  memcpy(logits, feed_tokens(session, model, tokens, n), sizeof logits);
  memcpy(list->tokens + list->n, tokens, n * sizeof *tokens);
  list->n += n;
  CHECK(holds(session, list));
  expect(model, list, expected);
  CHECK_SAME_FLOATS(logits, expected, TINY_VOCABULARY);
}

static void check_pieces(onekv_model *model) {
  for (size_t piece = 1; piece <= 40; piece += piece < 4 ? 1 : 9) {
    onekv_session *session = open_session(model, NULL);
    token_list all = random_tokens(80);
    token_list fed = {.n = 0};
    while (fed.n < all.n) {
      size_t n = all.n - fed.n < piece ? all.n - fed.n : piece;
      feed_and_check(model, session, &fed, all.tokens + fed.n, n);
    }
    onekv_session_close(session);
  }
}

static void check_clones(onekv_model *model) {
  static const size_t LENGTHS[] = {0, 1, 31, 32, 33, 64};
  for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
    onekv_session *origin = open_session(model, NULL);
    onekv_session *clone = NULL;
    onekv_session *second = NULL;
    token_list start = random_tokens(LENGTHS[i]);
    if (start.n > 0) feed_tokens(origin, model, start.tokens, start.n);
    CHECK(onekv_session_clone(origin, &clone) == ONEKV_OK && holds(clone, &start));
    CHECK(onekv_session_clone(clone, &second) == ONEKV_OK);
    token_list lists[3] = {start, start, start};
    onekv_session *sessions[3] = {origin, clone, second};
    for (size_t step = 0; step < 6; step++) {
      token_list more = random_tokens(1 + check_random_below(4));
      feed_and_check(model, sessions[step % 3], &lists[step % 3], more.tokens, more.n);
    }
    onekv_session_close(origin);
    token_list more = random_tokens(3);
    feed_and_check(model, clone, &lists[1], more.tokens, more.n);
    onekv_session_close(clone);
    feed_and_check(model, second, &lists[2], more.tokens, more.n);
    onekv_session_close(second);
  }
}

static void check_truncation(onekv_model *model) {
  onekv_session *session = open_session(model, NULL);
  token_list list = {.n = 0};
  for (size_t i = 0; i < 20; i++) {
    token_list more = random_tokens(1 + check_random_below(CONTEXT - list.n));
    feed_and_check(model, session, &list, more.tokens, more.n);
    list.n = check_random_below(list.n + 1);
    if (i % 4 == 0) list.n = list.n / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
    if (list.n == CONTEXT) list.n--;
    CHECK(onekv_session_truncate(session, list.n) == ONEKV_OK && holds(session, &list));
  }
  onekv_session_close(session);
}

/* --- the sliding window ----------------------------------------------------------------------- */

/* What the header promises, on the plain list: the kept tokens, what follows the cut, or the
 * younger half of the rest (or less, if there is no room), then what waits and the new tokens.
 * n_run of them run. Whether it slid. */
static bool slide_list_at(token_list *list, size_t n_window, size_t n_keep, size_t n_pending,
                          size_t n_run, size_t cut_at) {
  size_t n_cached = list->n - n_pending;
  if (n_run <= n_window - n_cached) return false;
  size_t n_kept = n_keep < n_cached ? n_keep : n_cached;
  size_t n_room = n_window - n_kept - n_run;
  size_t n_tail = (n_cached - n_kept) / 2;
  if (n_tail > n_room) n_tail = n_room;
  bool is_between = cut_at > n_kept && cut_at <= n_cached;
  if (is_between && n_cached - cut_at <= n_room) n_tail = n_cached - cut_at;
  memmove(list->tokens + n_kept, list->tokens + n_cached - n_tail,
          (n_tail + n_pending) * sizeof(int32_t));
  list->n = n_kept + n_tail + n_pending;
  return true;
}

static void slide_list(token_list *list, size_t n_window, size_t n_keep, size_t n_pending,
                       size_t n_run) {
  slide_list_at(list, n_window, n_keep, n_pending, n_run, 0);
}

static void check_slides(onekv_model *model, size_t n_window, size_t n_keep) {
  onekv_session_options options = {.context_window = n_window, .slides = true, .n_keep = n_keep};
  onekv_session *session = open_session(model, &options);
  token_list list = {.n = 0};
  size_t cut_at = 0;
  for (size_t i = 0; i < 24; i++) {
    size_t n_room = n_window - (n_keep < list.n ? n_keep : list.n);
    /* Single tokens mostly, at times as many as go in at all. */
    size_t n = i % 3 == 2 ? 1 + check_random_below(n_room) : 1;
    if (i % 7 == 6) n = n_room;
    token_list more = random_tokens(n);
    if (i % 4 == 1) cut_at = check_random_below(n_window + 2);
    if (i % 4 == 1) onekv_session_cut_at(session, cut_at);
    if (slide_list_at(&list, n_window, n_keep, 0, n, cut_at)) cut_at = 0;
    feed_and_check(model, session, &list, more.tokens, n);
  }
  onekv_session_close(session);
}

static uint8_t *snapshot_of(const onekv_session *session, size_t *n) {
  *n = onekv_session_save_bytes(session);
  uint8_t *bytes = check_allocate(*n);
  onekv_session_save(session, bytes);
  return bytes;
}

static void check_unchanged(const onekv_session *session, const uint8_t *before, size_t n_before) {
  size_t n = 0;
  uint8_t *now = snapshot_of(session, &n);
  CHECK(n == n_before && memcmp(now, before, n) == 0);
  free(now);
}

/* A full window without sliding, and with more tokens than sliding makes room for. In a batch no
 * session changes when one of them is refused, not even by sliding. */
static void check_full(onekv_model *model) {
  onekv_session_options options = {.context_window = 40, .n_keep = 10};
  onekv_session *full = open_session(model, &options);
  options.slides = true;
  onekv_session *slides = open_session(model, &options);
  onekv_session *refused = open_session(model, &options);
  token_list list = random_tokens(40);
  feed_tokens(full, model, list.tokens, 40);
  feed_tokens(slides, model, list.tokens, 40);
  feed_tokens(refused, model, list.tokens, 38);
  size_t n[3];
  onekv_session *sessions[3] = {full, slides, refused};
  uint8_t *before[3];
  for (size_t i = 0; i < 3; i++) before[i] = snapshot_of(sessions[i], &n[i]);
  onekv_error error = {ONEKV_OK, ""};
  onekv_item one = {full, list.tokens, 1, 1, NULL};
  CHECK(onekv_step(model, &one, 1, &error) == ONEKV_CONTEXT_FULL && one.logits == NULL);
  CHECK_SAY(strstr(error.message, "window of 40") != NULL, "%s", error.message);
  onekv_item items[2] = {{slides, list.tokens, 1, 1, NULL}, {refused, list.tokens, 31, 1, NULL}};
  CHECK(onekv_step(model, items, 2, &error) == ONEKV_CONTEXT_FULL && items[0].logits == NULL);
  onekv_item mixed[2] = {{slides, list.tokens, 1, 1, NULL}, {full, list.tokens, 1, 1, NULL}};
  CHECK(onekv_step(model, mixed, 2, NULL) == ONEKV_CONTEXT_FULL);
  float logprobs[40];
  for (size_t i = 0; i < 40; i++) logprobs[i] = 7.0f;
  CHECK(onekv_score(slides, list.tokens, 2, logprobs, NULL) == ONEKV_CONTEXT_FULL);
  CHECK(onekv_score(refused, list.tokens, 4, logprobs, NULL) == ONEKV_CONTEXT_FULL);
  CHECK(logprobs[0] == 7.0f);
  for (size_t i = 0; i < 3; i++) {
    check_unchanged(sessions[i], before[i], n[i]);
    free(before[i]);
  }
  items[1].n_tokens = 30;
  CHECK(onekv_step(model, items, 2, NULL) == ONEKV_OK);
  for (size_t i = 0; i < 3; i++) onekv_session_close(sessions[i]);
}

/* --- batches and scores ----------------------------------------------------------------------- */

enum { SESSIONS = 70, ROUNDS = 3 };

/* More sessions than a batch has slices, more rows than it has room for, some of them sliding. */
static void check_batches(onekv_model *model) {
  static onekv_session *sessions[SESSIONS];
  static onekv_item items[SESSIONS];
  static token_list lists[SESSIONS];
  static token_list more[SESSIONS];
  static size_t n_pending[SESSIONS];
  float expected[TINY_VOCABULARY];
  onekv_session_options options = {.context_window = 48, .slides = true, .n_keep = 3};
  for (size_t i = 0; i < SESSIONS; i++) {
    sessions[i] = open_session(model, &options);
    lists[i] = random_tokens(i % 49);
    if (lists[i].n > 0) feed_tokens(sessions[i], model, lists[i].tokens, lists[i].n);
    n_pending[i] = 0;
  }
  for (size_t round = 0; round < ROUNDS; round++) {
    for (size_t i = 0; i < SESSIONS; i++) {
      /* Of those that had a token wait, some run it alone. */
      bool runs_alone = n_pending[i] > 0 && i % 4 == 0;
      size_t n_logits = runs_alone ? 1 : (i + round) % 2;
      more[i] = random_tokens(runs_alone ? 0 : i % 11 == 5 ? 40 : 1 + i % 3);
      items[i] = (onekv_item){sessions[i], more[i].tokens, more[i].n, n_logits, NULL};
      slide_list(&lists[i], 48, 3, n_pending[i], n_pending[i] + more[i].n - (n_logits == 0));
      n_pending[i] = n_logits == 0;
      memcpy(lists[i].tokens + lists[i].n, more[i].tokens, more[i].n * sizeof(int32_t));
      lists[i].n += more[i].n;
    }
    CHECK(onekv_step(model, items, SESSIONS, NULL) == ONEKV_OK);
    float *kept = check_allocate(SESSIONS * sizeof expected);
    for (size_t i = 0; i < SESSIONS; i++) {
      if (items[i].n_logits > 0) {
        memcpy(kept + i * TINY_VOCABULARY, items[i].logits, sizeof expected);
      }
    }
    for (size_t i = 0; i < SESSIONS; i++) {
      CHECK(holds(sessions[i], &lists[i]));
      if (items[i].n_logits == 0) continue;
      expect(model, &lists[i], expected);
      CHECK_SAME_FLOATS(kept + i * TINY_VOCABULARY, expected, TINY_VOCABULARY);
    }
    free(kept);
  }
  for (size_t i = 0; i < SESSIONS; i++) onekv_session_close(sessions[i]);
}

/* score() in its own pieces gives the logprobs of the logits of one token at a time. The token
 * before the text may have run or wait; the last one of the text waits in the end. */
static void check_score(onekv_model *model, size_t n_before, bool waits) {
  enum { SCORED = 45 };
  token_list list = random_tokens(n_before + SCORED);
  onekv_session *scored = open_session(model, NULL);
  onekv_session *stepped = open_session(model, NULL);
  float logprobs[SCORED + 1];
  onekv_item before = {scored, list.tokens, n_before, waits ? 0 : 1, NULL};
  if (n_before > 0) CHECK(onekv_step(model, &before, 1, NULL) == ONEKV_OK);
  logprobs[SCORED] = 7.0f;
  CHECK(onekv_score(scored, list.tokens + n_before, SCORED, logprobs, NULL) == ONEKV_OK);
  CHECK(logprobs[SCORED] == 7.0f && holds(scored, &list));
  CHECK(isnan(logprobs[0]) == (n_before == 0));
  for (size_t i = 0; i + 1 < list.n; i++) {
    const float *logits = feed_tokens(stepped, model, &list.tokens[i], 1);
    if (i + 1 < n_before) continue;
    float expected = onekv_logprob(logits, TINY_VOCABULARY, list.tokens[i + 1]);
    CHECK_SAME_FLOATS(&logprobs[i + 1 - n_before], &expected, 1);
  }
  onekv_session_memory_report report;
  onekv_session_memory(scored, &report);
  CHECK(report.n_cached == list.n - 1);
  onekv_session_close(scored);
  onekv_session_close(stepped);
}

/* Scoring that runs out of memory on the way: no token, no logprob. */
static void check_score_out_of_memory(void) {
  counted_memory memory = {0};
  onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&memory)};
  onekv_model *model = open_tiny(&SHAPES[0], &options);
  onekv_session *session = open_session(model, NULL);
  token_list list = random_tokens(90);
  float logprobs[90] = {7.0f};
  onekv_item before = {session, list.tokens, 3, 0, NULL};
  CHECK(onekv_step(model, &before, 1, NULL) == ONEKV_OK);
  memory.fail_at = memory.n_calls + 3;
  CHECK(onekv_score(session, list.tokens, 90, logprobs, NULL) == ONEKV_OUT_OF_MEMORY);
  CHECK(logprobs[0] == 7.0f && onekv_session_n_tokens(session) == 3);
  onekv_session_memory_report report;
  onekv_session_memory(session, &report);
  CHECK(report.cache_pages == report.cache_own && report.n_cached == 2);
  CHECK(onekv_score(session, list.tokens, 90, logprobs, NULL) == ONEKV_OK && logprobs[0] < 0.0f);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK && memory.n_bytes == 0);
}

int main(void) {
  static const size_t KEEPS[] = {0, 1, 5, 31, 32, 33, 39};
  check_seed(7);
  pool = open_pool(1);
  for (size_t i = 0; i < SHAPES_COUNT; i++) {
    onekv_cache_type type = (onekv_cache_type)(i % ONEKV_CACHE_TYPE_COUNT);
    onekv_model *model = open_shape(i, type, SESSIONS);
    char context[32];
    snprintf(context, sizeof context, "shape %zu", i);
    check_state.context = context;
    check_pieces(model);
    check_clones(model);
    check_truncation(model);
    for (size_t k = 0; k < sizeof KEEPS / sizeof KEEPS[0]; k++) check_slides(model, 40, KEEPS[k]);
    check_slides(model, CONTEXT, 7);
    check_slides(model, 1, 0);
    check_slides(model, 2, 1);
    check_full(model);
    check_batches(model);
    check_score(model, 0, false);
    check_score(model, 1, true);
    check_score(model, 33, false);
    check_score(model, 33, true);
    CHECK(onekv_model_close(model) == ONEKV_OK);
    model = open_shape(i, type, 1);
    check_score(model, 0, false);
    check_score(model, 2, true);
    CHECK(onekv_model_close(model) == ONEKV_OK);
  }
  check_score_out_of_memory();
  onekv_pool_close(pool);
  return check_finish();
}
