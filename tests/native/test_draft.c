/* Drafts: whatever is guessed, a session that drafts is in every bit one that does not.
 *
 * A plain session writes a text first; at each token its logits, its snapshot and its memory are
 * kept. Then another writes the same with drafts that are right for a while and then wrong, and is
 * compared at every token, also after clones, snapshots, cuts and other sessions' steps in between,
 * in windows that slide, behind windows of layers, and with convolutions. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { TEXT = 120, WRITTEN = 90, LOGITS_MAX = 6 };

static const tiny_shape SHAPES[] = {
    {.projection = "QKV", .n_kv_heads = 2, .n_layers = 2},
    {.projection = "Q-K=V", .n_layers = 2},
    {.projection = "Q=K=V", .architecture = "qwen3"},
    {.projection = "Q-K=V", .position = "learned", .type = TENSOR_F16},
    {.architecture = "gemma3", .n_layers = 3, .window = 40, .window_period = 3},
    {.architecture = "gemma3", .n_layers = 2, .window = 1, .window_period = 2},
    {.architecture = "gemma3", .projection = "Q-K=V", .n_layers = 2, .window = 7,
     .window_period = 5},
    {.architecture = "lfm2", .n_layers = 4, .n_taps = 3},
    {.architecture = "lfm2", .n_layers = 3, .n_taps = 5, .window = 7},
};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

/* A session between two choices: the token that was chosen last waits. */
typedef struct moment {
  int32_t token;
  size_t n_tokens;
  size_t n_cached;
  uint64_t n_bytes; /* in the cache */
  uint8_t *saved;
  size_t n_saved;
  float logits[TINY_VOCABULARY];
} moment;

static onekv_pool *pool;

static moment moment_of(const onekv_session *session) {
  moment now = {.n_tokens = onekv_session_n_tokens(session),
                .n_saved = onekv_session_save_bytes(session)};
  onekv_session_memory_report report;
  onekv_session_memory(session, &report);
  now.n_cached = report.n_cached;
  now.n_bytes = report.cached.total;
  now.saved = malloc(now.n_saved);
  if (now.saved == NULL) abort();
  onekv_session_save(session, now.saved);
  return now;
}

/* Asks for logits, chooses, appends what was chosen. Gives the logits. */
static const float *choose(onekv_model *model, onekv_session *session, int32_t *token) {
  onekv_item item = {session, NULL, 0, 1, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  const float *logits = item.logits;
  CHECK(onekv_sample(session, logits, token) == ONEKV_OK);
  item = (onekv_item){session, token, 1, 0, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  return logits;
}

/* The same as the plain session at that moment. Bytes of layers with a window may be fewer, by the
 * page that a draft has left behind. */
static void check_moment(const onekv_session *session, const moment *plain, bool has_windows) {
  moment now = moment_of(session);
  CHECK(now.n_tokens == plain->n_tokens && now.n_cached == plain->n_cached);
  CHECK(has_windows ? now.n_bytes <= plain->n_bytes : now.n_bytes == plain->n_bytes);
  CHECK(now.n_saved == plain->n_saved && memcmp(now.saved, plain->saved, now.n_saved) == 0);
  free(now.saved);
}

/* Guesses from the text that is known, of which one may be changed. Gives how many are right. */
static size_t draft(onekv_session *session, const moment *text, size_t at) {
  int32_t guesses[8];
  size_t n = 1 + check_random_below(8);
  size_t n_right = check_random_below(2) == 0 ? n : check_random_below((uint32_t)n);
  for (size_t i = 0; i < n; i++) {
    guesses[i] = at + i < WRITTEN ? text[at + i].token : 0;
    if (i == n_right) guesses[i] = (guesses[i] + 1) % TINY_VOCABULARY;
  }
  CHECK(onekv_session_draft(session, guesses, n, NULL) == ONEKV_OK);
  size_t n_ahead = onekv_session_n_ahead(session);
  CHECK(n_ahead <= LOGITS_MAX && n_ahead != 1 && n_ahead <= n + 1);
  return n_right;
}

/* Something else happens between two choices, after which the session is as it was. */
static void disturb(onekv_model *model, onekv_session **session, onekv_session *other) {
  int32_t token = 1;
  int32_t others[LOGITS_MAX] = {1, 2, 3};
  onekv_session *clone = NULL;
  onekv_item item = {other, others, LOGITS_MAX, LOGITS_MAX, NULL}; /* writes every row */
  size_t n = onekv_session_n_tokens(*session);
  switch (check_random_below(6)) {
    case 0: /* the logits that were ahead are gone */
      CHECK(onekv_session_truncate(other, 0) == ONEKV_OK);
      CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
      break;
    case 1: /* the clone goes on instead, the original ends */
      CHECK(onekv_session_clone(*session, &clone) == ONEKV_OK);
      CHECK(onekv_session_n_ahead(clone) == 0);
      onekv_session_close(*session);
      *session = clone;
      break;
    case 2: /* the clone writes into what is shared */
      CHECK(onekv_session_clone(*session, &clone) == ONEKV_OK);
      choose(model, clone, &token);
      onekv_session_close(clone);
      break;
    case 3:
      CHECK(onekv_session_truncate(*session, n) == ONEKV_OK);
      CHECK(onekv_session_n_ahead(*session) == 0);
      break;
    case 4:
      CHECK(onekv_session_draft(*session, NULL, 0, NULL) == ONEKV_OK);
      CHECK(onekv_session_n_ahead(*session) == 0);
      break;
    default:
      break;
  }
}

static void check_text(onekv_model *model, const onekv_session_options *options, bool has_windows) {
  static moment text[WRITTEN];
  int32_t prompt[TEXT - WRITTEN];
  size_t n_prompt = TEXT - WRITTEN;
  for (size_t i = 0; i < n_prompt; i++) prompt[i] = (int32_t)check_random_below(TINY_VOCABULARY);
  onekv_session *plain = open_session(model, options);
  onekv_session *session = open_session(model, options);
  onekv_session *other = open_session(model, NULL);
  onekv_item item = {plain, prompt, n_prompt, 0, NULL};
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  for (size_t i = 0; i < WRITTEN; i++) {
    int32_t token = 0;
    const float *logits = choose(model, plain, &token);
    text[i] = moment_of(plain);
    text[i].token = token;
    memcpy(text[i].logits, logits, sizeof text[i].logits);
  }
  item.session = session;
  CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
  size_t n_taken = 0;
  for (size_t i = 0; i < WRITTEN; i++) {
    int32_t token = 0;
    if (onekv_session_n_ahead(session) == 0 && check_random_below(4) > 0) draft(session, text, i);
    n_taken += onekv_session_n_ahead(session) > 0;
    const float *logits = choose(model, session, &token);
    CHECK(token == text[i].token);
    CHECK_SAME_FLOATS(logits, text[i].logits, TINY_VOCABULARY);
    check_moment(session, &text[i], has_windows);
    if (check_random_below(8) == 0) disturb(model, &session, other);
    check_moment(session, &text[i], has_windows);
  }
  CHECK_SAY(n_taken > WRITTEN / 2, "%zu of %d", n_taken, (int)WRITTEN);
  for (size_t i = 0; i < WRITTEN; i++) free(text[i].saved);
  onekv_session_close(plain);
  onekv_session_close(session);
  onekv_session_close(other);
}

/* What was drafted and what is there: all guesses stay, then some, then none; logits asked for a
 * second time; tokens that are none; a window that is nearly full; pages that go back. */
static void check_rules(onekv_model *model) {
  onekv_session_options options = {.context_window = 40};
  onekv_session *session = open_session(model, &options);
  int32_t guesses[4] = {3, 5, 7, 9};
  CHECK(onekv_session_draft(session, guesses, 4, NULL) == ONEKV_OK);
  CHECK(onekv_session_n_ahead(session) == 0); /* nothing waits */
  int32_t prompt[37] = {2};
  onekv_item feed = {session, prompt, 30, 0, NULL};
  CHECK(onekv_step(model, &feed, 1, NULL) == ONEKV_OK);
  CHECK(onekv_session_draft(session, guesses, 4, NULL) == ONEKV_OK);
  CHECK(onekv_session_n_ahead(session) == 5 && onekv_session_n_tokens(session) == 30);
  onekv_item ask = {session, NULL, 0, 1, NULL};
  float first[TINY_VOCABULARY];
  CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 4);
  memcpy(first, ask.logits, sizeof first);
  ask.logits[0] = -1000.0f; /* a mask; asked again, they are as they were */
  CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 0);
  CHECK_SAME_FLOATS(ask.logits, first, TINY_VOCABULARY);
  onekv_item append = {session, guesses, 1, 0, NULL};
  CHECK(onekv_step(model, &append, 1, NULL) == ONEKV_OK);
  CHECK(onekv_session_draft(session, guesses + 1, 3, NULL) == ONEKV_OK);
  CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 3);
  append.tokens = guesses + 1;
  CHECK(onekv_step(model, &append, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 3);
  CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 2);
  append.tokens = guesses; /* not what was drafted */
  CHECK(onekv_step(model, &append, 1, NULL) == ONEKV_OK && onekv_session_n_ahead(session) == 0);
  CHECK(onekv_session_n_tokens(session) == 33);
  guesses[1] = TINY_VOCABULARY;
  onekv_status status = onekv_session_draft(session, guesses, 4, NULL);
  CHECK(status == ONEKV_TOKEN_OUT_OF_RANGE && onekv_session_n_ahead(session) == 0);
  onekv_session_memory_report report;
  feed = (onekv_item){session, prompt, 5, 0, NULL};
  CHECK(onekv_step(model, &feed, 1, NULL) == ONEKV_OK);
  guesses[1] = 5;
  CHECK(onekv_session_draft(session, guesses, 4, NULL) == ONEKV_OK);
  CHECK(onekv_session_n_ahead(session) == 3); /* 37 have run, and three fit */
  onekv_session_memory(session, &report);
  CHECK(report.n_cached == 37 && onekv_session_n_tokens(session) == 38);
  onekv_session_close(session);
}

/* A clone of `plain` drafts 3, 5, 7, 9; it may ask for the first logits; then tokens are appended.
 * Gives how many rows are still ahead. The logits that follow are those of a clone that has not
 * drafted. */
static size_t ahead_after(onekv_model *model, const onekv_session *plain, bool asks,
                          const int32_t *appended, size_t n, size_t n_logits) {
  onekv_session *session = NULL;
  onekv_session *same = NULL;
  CHECK(onekv_session_clone(plain, &session) == ONEKV_OK);
  CHECK(onekv_session_clone(plain, &same) == ONEKV_OK);
  int32_t guesses[4] = {3, 5, 7, 9};
  CHECK(onekv_session_draft(session, guesses, 4, NULL) == ONEKV_OK);
  CHECK(onekv_session_n_ahead(session) == 5);
  onekv_item ask = {session, NULL, 0, 1, NULL};
  if (asks) CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK);
  onekv_item append = {session, appended, n, n_logits, NULL};
  CHECK(onekv_step(model, &append, 1, NULL) == ONEKV_OK);
  size_t n_ahead = onekv_session_n_ahead(session);
  CHECK(onekv_step(model, &ask, 1, NULL) == ONEKV_OK);
  float row[TINY_VOCABULARY];
  memcpy(row, ask.logits, sizeof row);
  append = (onekv_item){same, appended, n, 1, NULL};
  CHECK(onekv_step(model, &append, 1, NULL) == ONEKV_OK);
  CHECK_SAME_FLOATS(row, append.logits, TINY_VOCABULARY);
  onekv_session_close(session);
  onekv_session_close(same);
  return n_ahead;
}

/* What is appended ends a draft, but for the one token that was guessed next. */
static void check_endings(onekv_model *model) {
  onekv_session *plain = open_session(model, NULL);
  int32_t prompt[30] = {2, [29] = 6};
  onekv_item feed = {plain, prompt, 30, 0, NULL};
  CHECK(onekv_step(model, &feed, 1, NULL) == ONEKV_OK);
  int32_t guessed[2] = {3, 5};
  CHECK(ahead_after(model, plain, true, guessed, 1, 0) == 4);
  CHECK(ahead_after(model, plain, true, guessed + 1, 1, 0) == 0);
  CHECK(ahead_after(model, plain, true, guessed, 2, 0) == 0);
  CHECK(ahead_after(model, plain, true, guessed, 1, 1) == 0);
  CHECK(ahead_after(model, plain, false, guessed, 1, 0) == 0);
  CHECK(ahead_after(model, plain, false, prompt + 29, 1, 0) == 0); /* the one that waits, again */
  onekv_session_close(plain);
}

/* However many rows a model has, layers with a window let a draft have no more than their slack. */
static void check_slack(void) {
  tiny_shape shape = {.architecture = "gemma3", .n_layers = 3, .window = 7, .window_period = 3,
                      .context_window = 160};
  onekv_model_options options = {.pool = pool, .n_logits_max = KV_WINDOW_SLACK + 8};
  onekv_model *model = open_tiny(&shape, &options);
  onekv_session *session = open_session(model, NULL);
  int32_t tokens[KV_WINDOW_SLACK + 8] = {1};
  onekv_item feed = {session, tokens, KV_WINDOW_SLACK, 0, NULL};
  CHECK(onekv_step(model, &feed, 1, NULL) == ONEKV_OK);
  CHECK(onekv_session_draft(session, tokens, KV_WINDOW_SLACK + 7, NULL) == ONEKV_OK);
  CHECK(onekv_session_n_ahead(session) == KV_WINDOW_SLACK);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

int main(void) {
  check_seed(14);
  pool = open_pool(1);
  for (size_t i = 0; i < SHAPES_COUNT; i++) {
    tiny_shape shape = SHAPES[i];
    shape.context_window = 160;
    onekv_model_options options = {
        .pool = pool,
        .cache_type = (onekv_cache_type)(i % ONEKV_CACHE_TYPE_COUNT),
        .n_logits_max = LOGITS_MAX,
    };
    onekv_model *model = open_tiny(&shape, &options);
    bool has_windows = shape.window > 0 || shape.n_taps > 0;
    onekv_sampling varied = {.temperature = 0.9f, .top_k = 9, .repetition_penalty = 1.2f,
                             .frequency_penalty = 0.1f, .penalty_window = 20, .seed = 7 + i};
    onekv_session_options sessions[] = {
        {0}, {.sampling = varied}, {.context_window = 50, .slides = true, .n_keep = 5},
        {.context_window = 64, .slides = true, .sampling = varied},
    };
    for (size_t s = 0; s < sizeof sessions / sizeof sessions[0]; s++) {
      check_text(model, &sessions[s], has_windows);
    }
    check_rules(model);
    check_endings(model);
    onekv_memory memory;
    onekv_model_memory(model, &memory);
    CHECK(memory.cache_used == 0 && memory.n_sessions == 0);
    CHECK(onekv_model_close(model) == ONEKV_OK);
  }
  check_slack();
  onekv_pool_close(pool);
  return check_finish();
}
