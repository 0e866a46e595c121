/* Layers with a window, and convolutions, whose rows are kept as one: the same bits as ever, in
 * fewer pages.
 *
 * The yardstick is a fresh session that is fed all tokens in one step. Against it: single steps,
 * cuts before and behind the window, clones, snapshots, sliding, batches; then the pages that are
 * held, counted against the formula, and a window that is as long as the context, which is none. */
#include "core/net/kv_cache.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { CONTEXT = 640, WINDOW = 40 };

typedef struct token_list {
  size_t n;
  int32_t tokens[CONTEXT + 1];
} token_list;

static const tiny_shape SHAPES[] = {
    {.architecture = "gemma3", .n_layers = 3, .window = WINDOW, .window_period = 3},
    {.architecture = "gemma3", .n_layers = 2, .window = 33, .window_period = 2, .n_kv_heads = 2},
    {.architecture = "gemma3", .n_layers = 2, .window = 1, .window_period = 2},
    /* The first span, which keeps the tokens, has no layer. */
    {.architecture = "gemma3", .n_layers = 2, .window = 7, .window_period = 5},
    {.architecture = "gemma3", .projection = "Q-K=V", .n_layers = 2, .window = WINDOW,
     .window_period = 2},
    {.architecture = "lfm2", .n_layers = 4, .n_taps = 3},
    {.architecture = "lfm2", .n_layers = 3, .n_taps = 5, .window = WINDOW},
};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static onekv_pool *pool;

static tiny_shape shape_at(size_t i) {
  tiny_shape shape = SHAPES[i];
  shape.context_window = CONTEXT;
  return shape;
}

static token_list random_tokens(size_t n) {
  token_list list = {.n = n};
  for (size_t i = 0; i < n; i++) list.tokens[i] = (int32_t)check_random_below(TINY_VOCABULARY);
  return list;
}

/* The session's next logits are those of a fresh one that is fed its tokens and these. */
static void feed_and_check(onekv_model *model, onekv_session *session, const int32_t *tokens,
                           size_t n) {
  static token_list all;
  float logits[TINY_VOCABULARY];
  memcpy(logits, feed_tokens(session, model, tokens, n), sizeof logits);
  all.n = onekv_session_n_tokens(session);
  CHECK(onekv_session_tokens(session, 0, all.n, all.tokens) == ONEKV_OK);
  CHECK(memcmp(all.tokens + all.n - n, tokens, n * sizeof *tokens) == 0);
  onekv_session *fresh = open_session(model, NULL);
  const float *expected = feed_tokens(fresh, model, all.tokens, all.n);
  CHECK_SAY(memcmp(logits, expected, sizeof logits) == 0, "after %zu tokens", all.n);
  onekv_session_close(fresh);
}

static void feed_random(onekv_model *model, onekv_session *session, size_t n) {
  token_list more = random_tokens(n);
  feed_and_check(model, session, more.tokens, n);
}

static void check_steps(onekv_model *model) {
  onekv_session *session = open_session(model, NULL);
  for (size_t i = 0; i < 40; i++) feed_random(model, session, 1);
  for (size_t i = 0; i < 12; i++) feed_random(model, session, 1 + check_random_below(9));
  feed_random(model, session, 260);
  for (size_t i = 0; i < 5; i++) feed_random(model, session, 1);
  onekv_session_close(session);
}

/* Cuts of every kind: inside what is kept, behind the window, to nothing; each goes on exactly. */
static void check_cuts(onekv_model *model) {
  static const size_t CUTS[] = {1, 5, 31, 32, 33, 64, 65, 150, 299};
  for (size_t i = 0; i < sizeof CUTS / sizeof CUTS[0]; i++) {
    onekv_session *session = open_session(model, NULL);
    feed_random(model, session, 280);
    for (size_t n = 0; n < 20; n++) feed_tokens(session, model, &(int32_t){(int32_t)n}, 1);
    CHECK(onekv_session_truncate(session, 300 - CUTS[i]) == ONEKV_OK);
    CHECK(onekv_session_n_tokens(session) == 300 - CUTS[i]);
    feed_random(model, session, 3);
    CHECK(onekv_session_truncate(session, onekv_session_n_tokens(session) - 2) == ONEKV_OK);
    feed_random(model, session, 1);
    onekv_session_close(session);
  }
}

static void check_clones(onekv_model *model) {
  static const size_t LENGTHS[] = {1, 31, 64, 200, 333};
  for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
    onekv_session *origin = open_session(model, NULL);
    onekv_session *clone = NULL;
    feed_random(model, origin, LENGTHS[i]);
    CHECK(onekv_session_clone(origin, &clone) == ONEKV_OK);
    for (size_t step = 0; step < 3; step++) {
      feed_random(model, step % 2 == 0 ? clone : origin, 1 + check_random_below(40));
    }
    feed_random(model, clone, 200);
    feed_random(model, origin, 120);
    CHECK(onekv_session_truncate(clone, LENGTHS[i]) == ONEKV_OK);
    onekv_session_close(origin);
    feed_random(model, clone, 2);
    onekv_session_close(clone);
  }
}

/* Saved and restored at lengths around pages and the window, then cut at once: a restored session
 * holds no more rows than the next token sees. */
static void check_snapshots(onekv_model *model) {
  for (size_t n = 25; n < 330; n += 1 + check_random_below(50)) {
    onekv_session *session = open_session(model, NULL);
    onekv_session *restored = NULL;
    onekv_error error = {ONEKV_OK, ""};
    feed_random(model, session, n);
    if (n % 2 == 0) CHECK(onekv_session_truncate(session, n - n / 10) == ONEKV_OK);
    size_t n_bytes = onekv_session_save_bytes(session);
    check_guard saved = check_guard_take(n_bytes, 1);
    onekv_session_save(session, saved.start);
    CHECK(check_guard_is_whole(&saved));
    onekv_status status =
        onekv_session_restore(model, saved.start, n_bytes, &restored, &error);
    CHECK_SAY(status == ONEKV_OK, "%s", error.message);
    CHECK(onekv_session_save_bytes(restored) == n_bytes);
    uint8_t *again = check_allocate(n_bytes);
    onekv_session_save(restored, again);
    CHECK(memcmp(again, saved.start, n_bytes) == 0);
    if (n % 3 == 0) CHECK(onekv_session_truncate(restored, n / 2) == ONEKV_OK);
    feed_random(model, restored, 2);
    free(again);
    check_guard_free(&saved);
    onekv_session_close(restored);
    onekv_session_close(session);
  }
}

/* The last token runs again for its logits, whatever was let go or restored before. */
static void check_last_again(onekv_model *model) {
  for (size_t n = 30; n < 330; n += 1 + check_random_below(50)) {
    onekv_session *session = open_session(model, NULL);
    token_list list = random_tokens(n);
    float logits[TINY_VOCABULARY];
    memcpy(logits, feed_tokens(session, model, list.tokens, n), sizeof logits);
    size_t n_bytes = onekv_session_save_bytes(session);
    uint8_t *saved = check_allocate(n_bytes);
    onekv_session_save(session, saved);
    onekv_session_close(session);
    CHECK(onekv_session_restore(model, saved, n_bytes, &session, NULL) == ONEKV_OK);
    onekv_item item = {session, NULL, 0, 1, NULL};
    CHECK(onekv_step(model, &item, 1, NULL) == ONEKV_OK);
    CHECK_SAME_FLOATS(item.logits, logits, TINY_VOCABULARY);
    free(saved);
    onekv_session_close(session);
  }
}

/* The session's own window slides over those of the layers. */
static void check_slides(onekv_model *model, size_t n_keep) {
  onekv_session_options options = {.context_window = 130, .slides = true, .n_keep = n_keep};
  onekv_session *session = open_session(model, &options);
  for (size_t i = 0; i < 30; i++) feed_random(model, session, 1 + check_random_below(30));
  CHECK(onekv_session_n_tokens(session) <= 130);
  onekv_session_close(session);
}

enum { SESSIONS = 6 };

/* Sessions of very different lengths step together; two of them are clones. */
static void check_batch(onekv_model *model) {
  static const size_t LENGTHS[SESSIONS] = {1, 40, 41, 150, 300, 300};
  onekv_session *sessions[SESSIONS];
  onekv_item items[SESSIONS];
  token_list lists[SESSIONS];
  for (size_t i = 0; i + 1 < SESSIONS; i++) {
    lists[i] = random_tokens(LENGTHS[i] + 3);
    sessions[i] = open_session(model, NULL);
    feed_tokens(sessions[i], model, lists[i].tokens, LENGTHS[i]);
  }
  lists[SESSIONS - 1] = lists[SESSIONS - 2];
  lists[SESSIONS - 1].tokens[300] = 5;
  CHECK(onekv_session_clone(sessions[SESSIONS - 2], &sessions[SESSIONS - 1]) == ONEKV_OK);
  for (size_t i = 0; i < SESSIONS; i++) {
    items[i] = (onekv_item){sessions[i], lists[i].tokens + LENGTHS[i], 3, 1, NULL};
  }
  CHECK(onekv_step(model, items, SESSIONS, NULL) == ONEKV_OK);
  static float logits[SESSIONS][TINY_VOCABULARY];
  for (size_t i = 0; i < SESSIONS; i++) memcpy(logits[i], items[i].logits, sizeof logits[i]);
  for (size_t i = 0; i < SESSIONS; i++) {
    onekv_session *fresh = open_session(model, NULL);
    const float *expected = feed_tokens(fresh, model, lists[i].tokens, lists[i].n);
    CHECK_SAME_FLOATS(logits[i], expected, TINY_VOCABULARY);
    onekv_session_close(fresh);
    onekv_session_close(sessions[i]);
  }
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* What a session holds is what was computed for its length, and pages behind a window are used
 * again: a prefill in pieces never takes more than the window, the slack and a batch. */
static void check_bytes(onekv_model *model) {
  const onekv_config *config = onekv_model_config(model);
  onekv_session *session = open_session(model, NULL);
  onekv_cache_plan rows = {.type = ONEKV_CACHE_F16};
  onekv_cache_plan pages = {.type = ONEKV_CACHE_F16, .whole_pages = true};
  token_list list = random_tokens(CONTEXT);
  for (size_t n = 0; n < CONTEXT;) {
    size_t n_more = 1 + check_random_below(n % 3 == 0 ? 90 : 4);
    if (n_more > CONTEXT - n) n_more = CONTEXT - n;
    feed_tokens(session, model, list.tokens + n, n_more);
    n += n_more;
    onekv_session_memory_report report;
    onekv_bytes expected;
    onekv_bytes expected_pages;
    onekv_session_memory(session, &report);
    onekv_cache_bytes(config, &rows, n, &expected);
    onekv_cache_bytes(config, &pages, n, &expected_pages);
    CHECK_SAY(memcmp(&report.cached, &expected, sizeof expected) == 0, "%zu tokens: %llu, not %llu",
              n, (unsigned long long)report.cached.total, (unsigned long long)expected.total);
    CHECK(report.cache_pages == expected_pages.total && report.cache_own == report.cache_pages);
    CHECK(report.n_cached == n);
  }
  onekv_session_close(session);
}

/* Room for many tokens is asked for again and again: the windowed layers' pages stay few, and the
 * prefill in that room takes no memory more. */
static void check_reserve(size_t shape_index) {
  counted_memory memory = {0};
  tiny_shape shape = shape_at(shape_index);
  onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&memory)};
  onekv_model *model = open_tiny(&shape, &options);
  onekv_session *session = open_session(model, NULL);
  token_list list = random_tokens(CONTEXT);
  feed_tokens(session, model, list.tokens, 100);
  CHECK(onekv_session_reserve(session, 500, NULL) == ONEKV_OK);
  size_t n_bytes = memory.n_bytes;
  for (size_t i = 0; i < 5; i++) CHECK(onekv_session_reserve(session, 500, NULL) == ONEKV_OK);
  size_t n_calls = memory.n_calls;
  feed_tokens(session, model, list.tokens + 100, 300);
  for (size_t i = 0; i < 200; i++) feed_tokens(session, model, list.tokens + 400 + i, 1);
  CHECK_SAY(memory.n_calls == n_calls && memory.n_bytes == n_bytes, "%zu more calls",
            memory.n_calls - n_calls);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK && memory.n_bytes == 0 && !memory.is_damaged);
}

/* As many tokens as fit at every length on the way, against all lengths one by one. */
static void check_tokens_for(onekv_model *model) {
  const onekv_config *config = onekv_model_config(model);
  for (int whole = 0; whole < 2; whole++) {
    onekv_cache_plan plan = {.type = ONEKV_CACHE_I8, .whole_pages = whole != 0};
    uint64_t most[CONTEXT + 1];
    for (size_t n = 0; n <= CONTEXT; n++) {
      onekv_bytes bytes;
      onekv_cache_bytes(config, &plan, n, &bytes);
      most[n] = n > 0 && most[n - 1] > bytes.total ? most[n - 1] : bytes.total;
    }
    for (uint64_t budget = 0; budget < most[CONTEXT] + 40; budget += 37) {
      size_t expected = CONTEXT;
      while (most[expected] > budget) expected--;
      size_t found = onekv_cache_tokens(config, &plan, budget);
      CHECK_SAY(found == expected, "%llu bytes: %zu tokens, not %zu", (unsigned long long)budget,
                found, expected);
    }
  }
}

/* Rows of convolutions, which a standard counterpart has too. */
static uint64_t convolution_bytes(const onekv_config *config, size_t n_positions) {
  uint64_t sum = 0;
  for (size_t n = 0; n < config->n_layers; n++) {
    const layer_kind *kind = config_kind(config, n);
    if (kind->n_taps == 0) continue;
    sum += 2 * config->n_embedding * (n_positions - kv_first_kept(kind->n_taps, n_positions));
  }
  return sum;
}

/* The standard counterpart has the same windows; only its KV heads are more. */
static void check_standard(onekv_model *model) {
  const onekv_config *config = onekv_model_config(model);
  const layer_kind *kind = &config->kinds[0];
  onekv_cache_plan own = {.type = ONEKV_CACHE_F16};
  onekv_cache_plan standard = {.type = ONEKV_CACHE_F16, .n_standard_heads = kind->n_heads};
  size_t ratio = kind->n_heads / kind->n_kv_heads * (kind->shares_row ? 2 : 1);
  for (size_t n = 1; n < CONTEXT; n += 31) {
    onekv_bytes a;
    onekv_bytes b;
    onekv_cache_bytes(config, &own, n, &a);
    onekv_cache_bytes(config, &standard, n, &b);
    uint64_t same = convolution_bytes(config, n);
    CHECK(b.total - same == ratio * (a.total - same) && b.by_kind[ONEKV_CACHED_SHARED] == 0);
  }
}

/* A window as long as the context is none: the same bits as of the file without the key. */
static void check_wide_window(void) {
  tiny_shape shape = {.architecture = "gemma3", .n_layers = 2, .context_window = 128};
  onekv_model_options options = {.pool = pool};
  gguf_draft plain = tiny_draft(&shape);
  gguf_draft wide = plain;
  draft_set_u32(&wide, "gemma3.attention.sliding_window", 128);
  onekv_model *models[2] = {NULL, NULL};
  CHECK(open_draft(&plain, &options, 0, &models[0], NULL) == ONEKV_OK);
  CHECK(open_draft(&wide, &options, 0, &models[1], NULL) == ONEKV_OK);
  token_list list = random_tokens(128);
  float logits[2][TINY_VOCABULARY];
  for (size_t i = 0; i < 2; i++) {
    onekv_session *session = open_session(models[i], NULL);
    memcpy(logits[i], feed_tokens(session, models[i], list.tokens, 128), sizeof logits[i]);
    onekv_session_close(session);
    CHECK(onekv_model_close(models[i]) == ONEKV_OK);
  }
  CHECK_SAME_FLOATS(logits[0], logits[1], TINY_VOCABULARY);
}

/* Every allocation of a life with cuts and clones fails once: an error, and nothing changes. */
static void check_out_of_memory(void) {
  tiny_shape shape = shape_at(0);
  for (size_t fail_at = 1, n_failed = 1; n_failed > 0; fail_at++) {
    counted_memory memory = {0};
    onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&memory)};
    onekv_model *model = open_tiny(&shape, &options);
    onekv_session *session = open_session(model, NULL);
    onekv_session *clone = NULL;
    token_list list = random_tokens(320);
    memory.fail_at = memory.n_calls + fail_at;
    n_failed = 0;
    for (size_t step = 0; step < 6; step++) {
      onekv_status status = ONEKV_OUT_OF_MEMORY;
      for (size_t attempt = 0; attempt < 2 && status != ONEKV_OK; attempt++) {
        size_t n_before = onekv_session_n_tokens(session);
        onekv_item prefill = {session, list.tokens, 300, 1, NULL};
        onekv_item one = {session, list.tokens + 300, 20, 1, NULL};
        status = step == 0   ? onekv_step(model, &prefill, 1, NULL)
                 : step == 1 ? onekv_session_clone(session, &clone)
                 : step == 2 ? onekv_step(model, &one, 1, NULL)
                 : step == 3 ? onekv_session_truncate(session, 200)
                 : step == 4 ? onekv_session_reserve(session, 300, NULL)
                             : onekv_step(model, &one, 1, NULL);
        if (status == ONEKV_OK) continue;
        CHECK(status == ONEKV_OUT_OF_MEMORY && onekv_session_n_tokens(session) == n_before);
        n_failed++;
      }
      CHECK(status == ONEKV_OK);
    }
    memory.fail_at = 0;
    feed_random(model, session, 2);
    feed_random(model, clone, 2);
    onekv_session_close(session);
    onekv_session_close(clone);
    CHECK(onekv_model_close(model) == ONEKV_OK && memory.n_bytes == 0 && !memory.is_damaged);
  }
}

int main(int argc, char **argv) {
  check_seed(11);
  pool = open_pool(2);
  /* Under valgrind the first and the last, which share no way of keeping a row. */
  const size_t step = check_is_short(argc, argv) ? SHAPES_COUNT - 1 : 1;
  for (size_t i = 0; i < SHAPES_COUNT; i += step) {
    tiny_shape shape = shape_at(i);
    onekv_model_options options = {.pool = pool};
    onekv_model *model = open_tiny(&shape, &options);
    char context[32];
    snprintf(context, sizeof context, "shape %zu", i);
    check_state.context = context;
    check_steps(model);
    check_cuts(model);
    check_clones(model);
    check_snapshots(model);
    check_last_again(model);
    check_slides(model, 0);
    check_slides(model, 50);
    check_batch(model);
    check_bytes(model);
    check_tokens_for(model);
    check_standard(model);
    CHECK(onekv_model_close(model) == ONEKV_OK);
    check_reserve(i);
  }
  check_wide_window();
  check_out_of_memory();
  onekv_pool_close(pool);
  return check_finish();
}
