/* The token that waits: one of a session's tokens, whose logits are wanted later.
 *
 * However tokens are appended, cut, cloned or slid, the logits of the last one are in every bit
 * those of a fresh session that is fed all tokens in one step. */
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

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

/* The last logits of the session, and the list it holds, against a fresh one. */
static void check_last(onekv_model *model, onekv_session *session, const token_list *list) {
  float expected[TINY_VOCABULARY];
  onekv_item item = {session, NULL, 0, 1, NULL};
  expect(model, list, expected);
  CHECK(holds(session, list));
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK && holds(session, list));
  CHECK_SAME_FLOATS(item.logits, expected, TINY_VOCABULARY);
}

/* However tokens are cut into appends without logits, and wherever their last one stands: it
 * waits, is part of the session's tokens, and gives the logits that it gives at once; when it has
 * run it does so again. Of k rows of logits with a waiting token the first is that token's. */
static void check_waiting(onekv_model *model) {
  for (size_t piece = 1; piece <= 33; piece += piece < 3 ? 1 : 15) {
    onekv_session *session = open_session(model, NULL);
    onekv_session *clone = NULL;
    onekv_session_memory_report report;
    token_list all = random_tokens(66);
    token_list fed = {.n = 0};
    while (fed.n < all.n) {
      size_t n = all.n - fed.n < piece ? all.n - fed.n : piece;
      onekv_item item = {session, all.tokens + fed.n, n, 0, NULL};
      CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
      memcpy(fed.tokens + fed.n, all.tokens + fed.n, n * sizeof(int32_t));
      fed.n += n;
      onekv_session_memory(session, &report);
      CHECK(holds(session, &fed) && report.n_cached == fed.n - 1);
    }
    CHECK(onekv_session_clone(session, &clone) == ONEKV_OK);
    check_last(model, session, &fed);
    check_last(model, session, &fed); /* once more */
    check_last(model, clone, &fed);
    onekv_session_close(clone);
    /* Two rows: of the token that waits, and of the one that is appended. */
    int32_t token = 3;
    onekv_item wait = {session, &token, 1, 0, NULL};
    CHECK(onekv_step(model, &wait, 1, NULL) == ONEKV_OK);
    onekv_item rows = {session, &token, 1, 2, NULL};
    float expected[2 * TINY_VOCABULARY];
    for (size_t i = 0; i < 2; i++) {
      fed.tokens[fed.n++] = token;
      expect(model, &fed, expected + i * TINY_VOCABULARY);
    }
    CHECK(onekv_step(model, &rows, 1, NULL) == ONEKV_OK && holds(session, &fed));
    CHECK_SAME_FLOATS(rows.logits, expected, 2 * TINY_VOCABULARY);
    onekv_session_close(session);
  }
}

/* Cutting: at the waiting token, before it, and to nothing. */
static void check_waiting_cut(onekv_model *model) {
  onekv_session *session = open_session(model, NULL);
  token_list list = random_tokens(34);
  onekv_item item = {session, list.tokens, list.n, 0, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  CHECK(onekv_session_truncate(session, 35) == ONEKV_INVALID_ARGUMENT && holds(session, &list));
  CHECK(onekv_session_truncate(session, 34) == ONEKV_OK && holds(session, &list));
  check_last(model, session, &list);
  item = (onekv_item){session, list.tokens, 1, 0, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  CHECK(onekv_session_truncate(session, 34) == ONEKV_OK);
  check_last(model, session, &list);
  list.n = 33;
  CHECK(onekv_session_truncate(session, 33) == ONEKV_OK);
  check_last(model, session, &list);
  list.n = 0;
  CHECK(onekv_session_truncate(session, 0) == ONEKV_OK && holds(session, &list));
  item = (onekv_item){session, NULL, 0, 1, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_WRONG_STATE);
  onekv_session_close(session);
}

/* A full window takes one token more, which waits and cannot run; a window that slides makes room
 * when it does. */
static void check_waiting_full(onekv_model *model) {
  onekv_session_options options = {.context_window = 40};
  onekv_session *full = open_session(model, &options);
  options.slides = true;
  options.n_keep = 5;
  onekv_session *slides = open_session(model, &options);
  token_list list = random_tokens(41);
  onekv_item items[2] = {{full, list.tokens, 41, 0, NULL}, {slides, list.tokens, 41, 0, NULL}};
  CHECK(onekv_step(model, items, 2, NULL) == ONEKV_OK);
  CHECK(holds(full, &list) && holds(slides, &list));
  CHECK(onekv_session_reserve(full, 0, NULL) == ONEKV_OK);
  CHECK(onekv_session_reserve(full, 1, NULL) == ONEKV_CONTEXT_FULL);
  items[0] = (onekv_item){full, NULL, 0, 1, NULL};
  CHECK(onekv_step(model, items, 1, NULL) == ONEKV_CONTEXT_FULL && holds(full, &list));
  /* Five are kept, of the 35 after them the younger 17; then the one that waited. */
  memmove(list.tokens + 5, list.tokens + 40 - 17, 18 * sizeof(int32_t));
  list.n = 23;
  items[1] = (onekv_item){slides, NULL, 0, 1, NULL};
  CHECK(onekv_step(model, &items[1], 1, NULL) == ONEKV_OK);
  float expected[TINY_VOCABULARY];
  expect(model, &list, expected);
  CHECK(holds(slides, &list));
  CHECK_SAME_FLOATS(items[1].logits, expected, TINY_VOCABULARY);
  onekv_session_close(full);
  onekv_session_close(slides);
}

int main(void) {
  check_seed(11);
  pool = open_pool(1);
  for (size_t i = 0; i < SHAPES_COUNT; i++) {
    onekv_cache_type type = (onekv_cache_type)(i % ONEKV_CACHE_TYPE_COUNT);
    onekv_model *model = open_shape(i, type, 2);
    check_waiting(model);
    check_waiting_cut(model);
    check_waiting_full(model);
    CHECK(onekv_model_close(model) == ONEKV_OK);
  }
  onekv_pool_close(pool);
  return check_finish();
}
