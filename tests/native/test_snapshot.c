/* Snapshots: what is restored goes on like the original, and nothing else is restored.
 *
 * Equal sessions give equal bytes, whatever happened to them before. The last token is saved with
 * the others, whether it has run or waits for its logits. Every flipped bit, every
 * other length, another model, cache type or window is refused with its reason, and a refusal
 * or a lack of memory leaves the model as it was. */
#include "core/base/hash.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { N_CONTINUED = 20, HEAD_BYTES = 108 };

static onekv_pool *pool;

static onekv_model *open_typed(onekv_cache_type type, const char *projection, size_t context_window,
                               counted_memory *memory) {
  onekv_model_options options = {
      .pool = pool, .cache_type = type, .context_window = context_window};
  if (memory != NULL) options.allocator = counted_allocator(memory);
  return open_tiny(&(tiny_shape){.projection = projection, .n_layers = 2}, &options);
}

static onekv_session_options sampled_options(void) {
  onekv_session_options options = {.context_window = 80, .slides = true, .n_keep = 2};
  options.sampling = (onekv_sampling){.temperature = 0.9f, .top_p = 0.95f, .seed = 11,
                                      .presence_penalty = 0.5f, .n_biases = 2};
  options.sampling.biases[0] = (onekv_logit_bias){4, -INFINITY};
  options.sampling.biases[1] = (onekv_logit_bias){5, 0.25f};
  return options;
}

/* With `waits` the last token has not run. */
static onekv_session *open_fed(onekv_model *model, size_t n_tokens, bool waits) {
  onekv_session_options options = sampled_options();
  onekv_session *session = open_session(model, &options);
  int32_t tokens[80];
  for (size_t i = 0; i < n_tokens; i++) tokens[i] = (int32_t)(i * 7 % TINY_VOCABULARY);
  if (n_tokens > 0) {
    const float *logits = feed_tokens(session, model, tokens, n_tokens);
    int32_t token = 0;
    CHECK(onekv_sample(session, logits, &token) == ONEKV_OK); /* moves the random numbers on */
  }
  if (waits) {
    onekv_item last = {session, &tokens[n_tokens - 1], 1, 0, NULL};
    CHECK(onekv_session_truncate(session, n_tokens - 1) == ONEKV_OK);
    CHECK(onekv_step(model, &last, 1, NULL) == ONEKV_OK);
  }
  return session;
}

static file_bytes save(const onekv_session *session) {
  size_t n = onekv_session_save_bytes(session);
  check_guard guard = check_guard_take(n, 3);
  onekv_session_save(session, guard.start);
  CHECK(check_guard_is_whole(&guard));
  file_bytes out = {check_allocate(n), n};
  memcpy(out.bytes, guard.start, n);
  check_guard_free(&guard);
  return out;
}

/* Samples and appends in both; they must agree in every bit, over the sliding of the window. */
static void check_same_future(onekv_model *model, onekv_session *a, onekv_session *b) {
  int32_t token = 1;
  float logits[TINY_VOCABULARY];
  for (size_t i = 0; i < N_CONTINUED; i++) {
    int32_t next[2] = {-1, -2};
    memcpy(logits, feed_tokens(a, model, &token, 1), sizeof logits);
    CHECK(onekv_sample(a, logits, &next[0]) == ONEKV_OK);
    const float *found = feed_tokens(b, model, &token, 1);
    CHECK_SAME_FLOATS(found, logits, TINY_VOCABULARY);
    CHECK(onekv_sample(b, found, &next[1]) == ONEKV_OK);
    CHECK_SAY(next[0] == next[1], "token %zu: %d and %d", i, (int)next[0], (int)next[1]);
    token = next[0];
  }
}

/* Restores on the same model and on another one of the same file; both go on as the original. */
static void check_round_trip(onekv_model *model, onekv_model *twin, size_t n_tokens, bool waits) {
  onekv_session *session = open_fed(model, n_tokens, waits);
  file_bytes saved = save(session);
  size_t n_cached = n_tokens - (waits ? 1 : 0);
  onekv_session_memory_report report;
  onekv_session_memory(session, &report);
  size_t cache_bytes = (size_t)report.cached.total;
  CHECK(report.n_cached == n_cached);
  CHECK(saved.n_bytes == HEAD_BYTES + 2 * 8 + n_tokens * 4 + cache_bytes + 8);
  onekv_session *restored = NULL;
  onekv_session *abroad = NULL;
  onekv_session *third = NULL;
  onekv_error error = {ONEKV_OK, ""};
  CHECK_SAY(onekv_session_restore(model, saved.bytes, saved.n_bytes, &restored, &error) ==
            ONEKV_OK, "%s", error.message);
  CHECK(onekv_session_restore(twin, saved.bytes, saved.n_bytes, &abroad, NULL) == ONEKV_OK);
  file_bytes again = save(restored);
  CHECK(again.n_bytes == saved.n_bytes && memcmp(again.bytes, saved.bytes, saved.n_bytes) == 0);
  free(again.bytes);
  onekv_session_memory(restored, &report);
  CHECK(onekv_session_n_tokens(restored) == n_tokens && report.n_cached == n_cached);
  check_same_future(model, session, restored);
  CHECK(onekv_session_restore(twin, saved.bytes, saved.n_bytes, &third, NULL) == ONEKV_OK);
  check_same_future(twin, abroad, third);
  int32_t here[81];
  int32_t there[81];
  size_t n = onekv_session_n_tokens(restored);
  CHECK(n == onekv_session_n_tokens(abroad));
  CHECK(onekv_session_tokens(restored, 0, n, here) == ONEKV_OK &&
        onekv_session_tokens(abroad, 0, n, there) == ONEKV_OK &&
        memcmp(here, there, n * sizeof *here) == 0);
  onekv_session *all[4] = {session, restored, abroad, third};
  for (size_t i = 0; i < 4; i++) onekv_session_close(all[i]);
  free(saved.bytes);
}

static void check_round_trips(onekv_cache_type type, const char *projection) {
  static const size_t LENGTHS[] = {0, 1, 31, 32, 33, 64, 80};
  counted_memory memory = {0};
  onekv_model *model = open_typed(type, projection, 0, &memory);
  onekv_model *twin = open_typed(type, projection, 0, NULL);
  for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
    check_round_trip(model, twin, LENGTHS[i], false);
    if (LENGTHS[i] > 0) check_round_trip(model, twin, LENGTHS[i], true);
  }
  CHECK(onekv_model_close(twin) == ONEKV_OK && onekv_model_close(model) == ONEKV_OK);
  CHECK(memory.n_bytes == 0 && !memory.is_damaged);
}

/* Bytes depend on the session alone: not on its past, nor on what the caller's struct had in its
 * gaps and unused entries. */
static void check_equal_bytes(void) {
  onekv_model *model = open_typed(ONEKV_CACHE_I8, "Q-K=V", 0, NULL);
  onekv_session_options clean = sampled_options();
  onekv_session_options dirty;
  memset(&dirty, 0xee, sizeof dirty);
  dirty.context_window = clean.context_window;
  dirty.slides = clean.slides;
  dirty.n_keep = clean.n_keep;
  onekv_sampling *to = &dirty.sampling;
  const onekv_sampling *from = &clean.sampling;
  memcpy(to, from, offsetof(onekv_sampling, biases) + 2 * sizeof from->biases[0]);
  to->seed = from->seed;
  const int32_t tokens[6] = {1, 2, 3, 4, 5, 6};
  onekv_session *one = open_session(model, &clean);
  onekv_session *other = open_session(model, &dirty);
  feed_tokens(one, model, tokens, 4);
  feed_tokens(other, model, tokens, 6);
  onekv_session_truncate(other, 2);
  feed_tokens(other, model, tokens + 2, 2);
  file_bytes a = save(one);
  file_bytes b = save(other);
  CHECK(a.n_bytes == b.n_bytes && memcmp(a.bytes, b.bytes, a.n_bytes) == 0);
  free(a.bytes);
  free(b.bytes);
  onekv_session_close(one);
  onekv_session_close(other);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

static void refuse(onekv_model *model, const uint8_t *bytes, size_t n, const char *reason) {
  onekv_session *session = NULL;
  onekv_error error = {ONEKV_OK, ""};
  onekv_status status = onekv_session_restore(model, bytes, n, &session, &error);
  CHECK_SAY(status == ONEKV_SNAPSHOT_REFUSED && session == NULL &&
                error.status == ONEKV_SNAPSHOT_REFUSED, "%s: %s", reason,
            onekv_status_name(status));
  CHECK_SAY(strstr(error.message, reason) != NULL, "\"%s\" does not say: %s", error.message,
            reason);
}

/* With the checksum put right, as a forger would. */
static void refuse_forged(onekv_model *model, file_bytes saved, size_t at, uint64_t value,
                          size_t n_value, const char *reason) {
  uint8_t *forged = check_allocate(saved.n_bytes);
  memcpy(forged, saved.bytes, saved.n_bytes);
  for (size_t i = 0; i < n_value; i++) forged[at + i] = (uint8_t)(value >> (8 * i));
  uint64_t hash = hash_bytes(forged, saved.n_bytes - 8);
  for (size_t i = 0; i < 8; i++) forged[saved.n_bytes - 8 + i] = (uint8_t)(hash >> (8 * i));
  refuse(model, forged, saved.n_bytes, reason);
  free(forged);
}

/* Nothing of a snapshot can change, and no byte can be missing or too many. */
static void check_damage(onekv_model *model, file_bytes saved) {
  for (size_t bit = 0; bit < saved.n_bytes * 8; bit++) {
    saved.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    refuse(model, saved.bytes, saved.n_bytes, "snapshot is refused: ");
    saved.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  for (size_t n = 0; n < saved.n_bytes; n++) refuse(model, saved.bytes, n, "snapshot is");
  uint8_t *grown = calloc(1, saved.n_bytes + 300);
  memcpy(grown, saved.bytes, saved.n_bytes);
  for (size_t n = 1; n <= 300; n += 7) refuse(model, grown, saved.n_bytes + n, "its length");
  free(grown);
}

static void check_forgeries(onekv_model *model, file_bytes saved) {
  enum { BIASES = HEAD_BYTES, TOKENS = HEAD_BYTES + 2 * 8 };
  refuse_forged(model, saved, 0, 'o', 1, "no OneKV snapshot");
  refuse_forged(model, saved, 4, 2, 4, "version");
  refuse_forged(model, saved, 8, 1, 8, "another model file");
  refuse_forged(model, saved, 16, ONEKV_CACHE_I8, 4, "another element type");
  refuse_forged(model, saved, 20, 2, 4, "window is damaged");
  refuse_forged(model, saved, 24, 82, 8, "more tokens than its window");
  refuse_forged(model, saved, 24, UINT64_MAX, 8, "more tokens than its window");
  refuse_forged(model, saved, 24, 32, 8, "its length");
  refuse_forged(model, saved, 24, 0, 8, "its l"); /* its last token, or its length */
  refuse_forged(model, saved, 32, 2, 4, "last token is damaged");
  refuse_forged(model, saved, 32, UINT32_MAX, 4, "last token is damaged");
  refuse_forged(model, saved, 32, saved.bytes[32] ^ 1u, 4, "its length");
  refuse_forged(model, saved, 36, 0, 8, "window");
  refuse_forged(model, saved, 36, 97, 8, "larger than the model's");
  refuse_forged(model, saved, 36, UINT64_MAX, 8, "larger than the model's");
  refuse_forged(model, saved, 44, 80, 8, "n_keep");
  refuse_forged(model, saved, 44, UINT64_MAX, 8, "n_keep");
  refuse_forged(model, saved, 68, 0x7fc00000u, 4, "sampling.temperature");
  refuse_forged(model, saved, 96, 257, 4, "sampling.penalty_window");
  refuse_forged(model, saved, 100, 2, 4, "sampling.order");
  refuse_forged(model, saved, 104, 65, 4, "biases");
  refuse_forged(model, saved, 104, UINT32_MAX, 4, "biases");
  refuse_forged(model, saved, 104, 3, 4, "its length");
  refuse_forged(model, saved, BIASES, TINY_VOCABULARY, 4, "biases.token");
  refuse_forged(model, saved, TOKENS, TINY_VOCABULARY, 4, "token 0");
  refuse_forged(model, saved, TOKENS + 4, UINT32_MAX, 4, "token 1");
  refuse_forged(model, saved, TOKENS + 4 * 32, TINY_VOCABULARY, 4, "token 32");
}

static void check_refusals(bool waits) {
  counted_memory memory = {0};
  onekv_model *model = open_typed(ONEKV_CACHE_F16, "Q-K=V", 0, &memory);
  onekv_session *session = open_fed(model, 33, waits);
  file_bytes saved = save(session);
  onekv_session_close(session);
  onekv_model_trim(model);
  size_t n_bytes_before = memory.n_bytes;
  check_damage(model, saved);
  check_forgeries(model, saved);
  onekv_model_trim(model);
  onekv_memory report;
  onekv_model_memory(model, &report);
  CHECK(memory.n_bytes == n_bytes_before && report.n_sessions == 0 && report.cache == 0);
  onekv_model *other = open_typed(ONEKV_CACHE_F16, "QKV", 0, NULL);
  onekv_model *typed = open_typed(ONEKV_CACHE_F32, "Q-K=V", 0, NULL);
  onekv_model *small = open_typed(ONEKV_CACHE_F16, "Q-K=V", 48, NULL);
  refuse(other, saved.bytes, saved.n_bytes, "another model file");
  refuse(typed, saved.bytes, saved.n_bytes, "another element type");
  refuse(small, saved.bytes, saved.n_bytes, "larger than the model's");
  onekv_model *all[4] = {other, typed, small, model};
  for (size_t i = 0; i < 4; i++) CHECK(onekv_model_close(all[i]) == ONEKV_OK);
  free(saved.bytes);
}

/* Every allocation of a restore refused in turn. */
static void check_out_of_memory(void) {
  counted_memory memory = {0};
  onekv_model *model = open_typed(ONEKV_CACHE_I8, "QKV", 0, &memory);
  onekv_session *session = open_fed(model, 70, true);
  file_bytes saved = save(session);
  onekv_session_close(session);
  size_t n_failed = 0;
  for (onekv_status status = ONEKV_OUT_OF_MEMORY; status != ONEKV_OK; n_failed++) {
    onekv_memory report;
    onekv_session *restored = NULL;
    onekv_model_trim(model);
    size_t n_bytes_before = memory.n_bytes;
    memory.fail_at = memory.n_calls + 1 + n_failed;
    status = onekv_session_restore(model, saved.bytes, saved.n_bytes, &restored, NULL);
    CHECK(status == ONEKV_OUT_OF_MEMORY || status == ONEKV_OK);
    CHECK((restored != NULL) == (status == ONEKV_OK));
    onekv_session_close(restored);
    onekv_model_trim(model);
    onekv_model_memory(model, &report);
    CHECK(memory.n_bytes == n_bytes_before && report.n_sessions == 0);
  }
  CHECK_SAY(n_failed > 6, "only %zu allocations", n_failed);
  free(saved.bytes);
  CHECK(onekv_model_close(model) == ONEKV_OK && memory.n_bytes == 0);
}

int main(void) {
  pool = open_pool(1);
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    check_round_trips((onekv_cache_type)type, "Q-K=V");
    check_round_trips((onekv_cache_type)type, "QKV");
  }
  check_equal_bytes();
  check_refusals(false);
  check_refusals(true);
  check_out_of_memory();
  onekv_pool_close(pool);
  return check_finish();
}
