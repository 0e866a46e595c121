/* Snapshots: a session as bytes, little-endian, without gaps, so that equal sessions give equal
 * bytes.
 *
 *   "OKVS", u32 version
 *   u64 model hash, u32 cache type   refused when they differ
 *   u32 slides, u64 n_tokens, u32 n_pending, u64 context_window, u64 n_keep
 *   u64 random state, u64 seed, the sampling fields in their order (4 bytes each), u32 n_biases
 *   biases [n_biases]: i32 token, f32 bias
 *   i32 tokens [n_tokens]
 *   cache of the first n_tokens - n_pending, as kv_cache_save orders it
 *   u64 hash of everything before
 *
 * n_pending is 1 when the last token has not run yet, which is how a session usually is: its
 * cache row is not there, and its logits are what the next choice will need. Two sessions are
 * equal when they agree in this too.
 *
 * Restoring trusts nothing: sizes are compared with what is there before they are used, ids with
 * the vocabulary, and cache rows are only ever read as numbers. */
#include "core/base/hash.h"
#include "core/api/model.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/base/f16.h"

enum {
  SNAPSHOT_VERSION = 3,
  SAMPLING_WORDS = 9, /* fields of 4 bytes before n_biases */
  BIAS_BYTES = 8,
  HEAD_BYTES = 4 + 4 + 8 + 4 + 4 + 8 + 4 + 2 * 8 + 2 * 8 + 4 * SAMPLING_WORDS + 4,
  HASH_BYTES = 8
};

typedef struct snapshot_head {
  uint32_t version;
  uint64_t model_hash;
  uint32_t cache_type;
  uint32_t slides;
  uint64_t n_tokens;
  uint32_t n_pending;
  uint64_t context_window;
  uint64_t n_keep;
  uint64_t random_state;
  onekv_sampling sampling; /* its biases stand behind the head */
} snapshot_head;

static void put_u32(uint8_t **cursor, uint32_t value) {
  for (size_t i = 0; i < 4; i++) *(*cursor)++ = (uint8_t)(value >> (8 * i));
}

static void put_u64(uint8_t **cursor, uint64_t value) {
  put_u32(cursor, (uint32_t)value);
  put_u32(cursor, (uint32_t)(value >> 32));
}

static uint32_t get_u32(const uint8_t **cursor) {
  uint32_t value = load_u32(*cursor);
  *cursor += 4;
  return value;
}

static uint64_t get_u64(const uint8_t **cursor) {
  uint64_t value = load_u64(*cursor);
  *cursor += 8;
  return value;
}

static void put_sampling(uint8_t **cursor, const onekv_sampling *s) {
  const uint32_t words[SAMPLING_WORDS] = {
      f32_to_bits(s->temperature),       s->top_k,
      f32_to_bits(s->top_p),             f32_to_bits(s->min_p),
      f32_to_bits(s->repetition_penalty), f32_to_bits(s->presence_penalty),
      f32_to_bits(s->frequency_penalty), s->penalty_window,
      s->order,
  };
  put_u64(cursor, s->seed);
  for (size_t i = 0; i < SAMPLING_WORDS; i++) put_u32(cursor, words[i]);
  put_u32(cursor, s->n_biases);
}

static void get_sampling(const uint8_t **cursor, onekv_sampling *s) {
  s->seed = get_u64(cursor);
  s->temperature = f32_from_bits(get_u32(cursor));
  s->top_k = get_u32(cursor);
  s->top_p = f32_from_bits(get_u32(cursor));
  s->min_p = f32_from_bits(get_u32(cursor));
  s->repetition_penalty = f32_from_bits(get_u32(cursor));
  s->presence_penalty = f32_from_bits(get_u32(cursor));
  s->frequency_penalty = f32_from_bits(get_u32(cursor));
  s->penalty_window = get_u32(cursor);
  s->order = get_u32(cursor);
  s->n_biases = get_u32(cursor);
}

size_t onekv_session_save_bytes(const onekv_session *session) {
  const kv_layout *layout = &session->model->pages.layout;
  return HEAD_BYTES + session->sampler.sampling.n_biases * (size_t)BIAS_BYTES +
         onekv_session_n_tokens(session) * sizeof(int32_t) +
         (size_t)kv_saved_bytes(layout, session_n_cached(session)) + HASH_BYTES;
}

void onekv_session_save(const onekv_session *session, uint8_t *out) {
  const kv_layout *layout = &session->model->pages.layout;
  const onekv_sampling *sampling = &session->sampler.sampling;
  size_t n_tokens = onekv_session_n_tokens(session);
  uint8_t *cursor = out;
  memcpy(cursor, "OKVS", 4);
  cursor += 4;
  put_u32(&cursor, SNAPSHOT_VERSION);
  put_u64(&cursor, session->model->hash);
  put_u32(&cursor, (uint32_t)layout->type);
  put_u32(&cursor, session->slides ? 1 : 0);
  put_u64(&cursor, n_tokens);
  put_u32(&cursor, (uint32_t)session->n_pending);
  put_u64(&cursor, session->context_window);
  put_u64(&cursor, session->n_keep);
  put_u64(&cursor, session->sampler.random_state);
  put_sampling(&cursor, sampling);
  for (uint32_t i = 0; i < sampling->n_biases; i++) {
    put_u32(&cursor, (uint32_t)sampling->biases[i].token);
    put_u32(&cursor, f32_to_bits(sampling->biases[i].bias));
  }
  for (size_t i = 0; i < n_tokens; i++) {
    int32_t token = 0;
    onekv_session_tokens(session, i, 1, &token);
    put_u32(&cursor, (uint32_t)token);
  }
  kv_cache cache = session_cache(session);
  kv_cache_save(&cache, cursor);
  cursor += kv_saved_bytes(layout, cache.n_positions);
  put_u64(&cursor, hash_bytes(out, (size_t)(cursor - out)));
}

/* The bytes are long enough for a head. */
static snapshot_head get_head(const uint8_t *bytes) {
  snapshot_head head;
  const uint8_t *cursor = bytes + 4;
  memset(&head, 0, sizeof head);
  head.version = get_u32(&cursor);
  head.model_hash = get_u64(&cursor);
  head.cache_type = get_u32(&cursor);
  head.slides = get_u32(&cursor);
  head.n_tokens = get_u64(&cursor);
  head.n_pending = get_u32(&cursor);
  head.context_window = get_u64(&cursor);
  head.n_keep = get_u64(&cursor);
  head.random_state = get_u64(&cursor);
  get_sampling(&cursor, &head.sampling);
  return head;
}

/* Biases, tokens and cache take exactly n bytes. */
static bool has_length(const kv_layout *layout, const snapshot_head *head, size_t n) {
  size_t n_bias_bytes = head->sampling.n_biases * (size_t)BIAS_BYTES;
  size_t n_tokens = (size_t)head->n_tokens;
  uint64_t n_cache = kv_saved_bytes(layout, n_tokens - head->n_pending);
  if (n < n_bias_bytes || n - n_bias_bytes < n_cache) return false;
  size_t n_token_bytes = n - n_bias_bytes - (size_t)n_cache;
  return n_token_bytes / sizeof(int32_t) == n_tokens && n_token_bytes % sizeof(int32_t) == 0;
}

/* Everything that does not need the model's vocabulary or memory. */
static const char *reason_to_refuse(const onekv_model *model, const snapshot_head *head,
                                    const uint8_t *bytes, size_t n_bytes) {
  const kv_layout *layout = &model->pages.layout;
  if (memcmp(bytes, "OKVS", 4) != 0) return "it is no OneKV snapshot";
  if (head->version != SNAPSHOT_VERSION) return "its version is not supported";
  if (head->model_hash != model->hash) return "it was made with another model file";
  if (!model->config.causal) return "a bidirectional model has no sessions";
  if (head->cache_type != (uint32_t)layout->type) return "its cache has another element type";
  if (head->slides > 1) return "its window is damaged";
  if (head->n_pending > 1 || head->n_pending > head->n_tokens) return "its last token is damaged";
  if (head->context_window == 0 || head->n_tokens - head->n_pending > head->context_window) {
    return "it holds more tokens than its window";
  }
  if (head->context_window > model->context_window) return "its window is larger than the model's";
  if (head->sampling.n_biases > ONEKV_BIASES_MAX) return "it has too many biases";
  if (!has_length(layout, head, n_bytes - HEAD_BYTES - HASH_BYTES)) {
    return "its length does not fit its number of tokens";
  }
  uint64_t hash = hash_bytes(bytes, n_bytes - HASH_BYTES);
  return load_u64(bytes + n_bytes - HASH_BYTES) == hash ? NULL : "its checksum is wrong";
}

/* The tokens and the cache, at bytes, into a session that has room for them. */
static onekv_status fill(onekv_session *session, const snapshot_head *head, const uint8_t *bytes,
                         onekv_error *error) {
  onekv_model *model = session->model;
  size_t n_tokens = (size_t)head->n_tokens;
  size_t n_cached = n_tokens - head->n_pending;
  size_t n_token_bytes = (n_tokens > 0 ? n_tokens : 1) * sizeof(int32_t);
  int32_t *tokens = memory_take(&model->memory, MEMORY_SESSIONS, n_token_bytes);
  if (tokens == NULL) return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for a snapshot");
  onekv_status status = ONEKV_OK;
  for (size_t i = 0; i < n_tokens && status == ONEKV_OK; i++) {
    tokens[i] = (int32_t)get_u32(&bytes);
    if (tokens[i] >= 0 && (size_t)tokens[i] < model->config.n_vocabulary) continue;
    status = error_set(error, ONEKV_SNAPSHOT_REFUSED, "token %zu of the snapshot: found %d", i,
                       (int)tokens[i]);
  }
  if (status == ONEKV_OK) {
    status = kv_cache_load(&session->cache, tokens, n_cached, bytes);
    if (status != ONEKV_OK) error_set(error, status, "no memory for %zu tokens", n_tokens);
    session->n_pending = head->n_pending;
    if (n_tokens > 0) session->pending = tokens[n_tokens - 1];
  }
  memory_give_back(&model->memory, MEMORY_SESSIONS, tokens, n_token_bytes);
  return status;
}

onekv_status onekv_session_restore(onekv_model *model, const uint8_t *bytes, size_t n_bytes,
                                   onekv_session **out, onekv_error *error) {
  if (n_bytes < HEAD_BYTES + HASH_BYTES) {
    return error_set(error, ONEKV_SNAPSHOT_REFUSED, "the snapshot is too short: %zu bytes",
                     n_bytes);
  }
  snapshot_head head = get_head(bytes);
  const char *reason = reason_to_refuse(model, &head, bytes, n_bytes);
  if (reason != NULL) {
    return error_set(error, ONEKV_SNAPSHOT_REFUSED, "the snapshot is refused: %s", reason);
  }
  const uint8_t *cursor = bytes + HEAD_BYTES;
  for (uint32_t i = 0; i < head.sampling.n_biases; i++) {
    head.sampling.biases[i].token = (int32_t)get_u32(&cursor);
    head.sampling.biases[i].bias = f32_from_bits(get_u32(&cursor));
  }
  uint64_t n_keep = head.n_keep < head.context_window ? head.n_keep : head.context_window;
  onekv_session_options options = {
      .context_window = (size_t)head.context_window,
      .slides = head.slides != 0,
      .n_keep = (size_t)n_keep,
      .sampling = head.sampling,
  };
  onekv_session *session = NULL;
  onekv_error inner = {ONEKV_OK, ""};
  onekv_status status = onekv_session_open(model, &options, &session, &inner);
  if (status == ONEKV_INVALID_ARGUMENT) status = ONEKV_SNAPSHOT_REFUSED;
  if (status != ONEKV_OK) return error_set(error, status, "snapshot: %s", inner.message);
  session->sampler.random_state = head.random_state;
  status = fill(session, &head, cursor, error);
  if (status != ONEKV_OK) {
    onekv_session_close(session);
    return status;
  }
  *out = session;
  return ONEKV_OK;
}
