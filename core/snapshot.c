/* Snapshots: a session as bytes, little-endian.
 *
 *   "OKVS", u32 version
 *   u64 model hash, u32 cache type, u32 bytes per token   refused when they differ
 *   u64 n_tokens, u64 n_context, u64 n_keep, u32 slides, u32 sampling bytes
 *   u64 random state, the sampling struct
 *   i32 tokens [n_tokens]
 *   cache [n_tokens × bytes per token], as kv_cache_save orders it
 *   u64 hash of everything before
 *
 * Restoring trusts nothing: sizes are compared with what is there before they are used, ids with
 * the vocabulary, and cache rows are only ever read as numbers. */
#include "model.h"

#include <string.h>

enum { SNAPSHOT_VERSION = 1, HASH_BYTES = 8 };

typedef struct snapshot_header {
  char magic[4];
  uint32_t version;
  uint64_t model_hash;
  uint32_t cache_type;
  uint32_t bytes_per_token;
  uint64_t n_tokens;
  uint64_t n_context;
  uint64_t n_keep;
  uint32_t slides;
  uint32_t n_sampling_bytes;
  uint64_t random_state;
  onekv_sampling sampling;
} snapshot_header;

/* The struct is written as it lies in memory, so its layout is part of the format. */
_Static_assert(offsetof(snapshot_header, sampling) == 64, "the header has no padding");
_Static_assert(sizeof(onekv_sampling) == 40 + 8 * ONEKV_BIASES_MAX + 8, "nor has sampling");

static uint64_t hash_bytes(const uint8_t *bytes, size_t n) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
  return hash;
}

size_t onekv_session_save_bytes(const onekv_session *session) {
  return sizeof(snapshot_header) + session->cache.n_positions * sizeof(int32_t) +
         kv_cache_saved_bytes(&session->cache) + HASH_BYTES;
}

void onekv_session_save(const onekv_session *session, uint8_t *out) {
  const onekv_model *model = session->model;
  const kv_layout *layout = &model->pages.layout;
  size_t n_tokens = session->cache.n_positions;
  snapshot_header header = {
      .magic = {'O', 'K', 'V', 'S'},
      .version = SNAPSHOT_VERSION,
      .model_hash = model->hash,
      .cache_type = (uint32_t)layout->type,
      .bytes_per_token = (uint32_t)kv_bytes_per_position(layout),
      .n_tokens = n_tokens,
      .n_context = session->n_context,
      .n_keep = session->n_keep,
      .slides = session->slides,
      .n_sampling_bytes = sizeof(onekv_sampling),
      .random_state = session->sampler.random_state,
      .sampling = session->sampler.sampling,
  };
  uint8_t *cursor = out;
  memcpy(cursor, &header, sizeof header);
  cursor += sizeof header;
  for (size_t i = 0; i < n_tokens; i++, cursor += sizeof(int32_t)) {
    int32_t token = 0;
    kv_cache_tokens(&session->cache, i, 1, &token);
    memcpy(cursor, &token, sizeof token);
  }
  kv_cache_save(&session->cache, cursor);
  cursor += kv_cache_saved_bytes(&session->cache);
  uint64_t hash = hash_bytes(out, (size_t)(cursor - out));
  memcpy(cursor, &hash, sizeof hash);
}

/* Everything that does not need the model's vocabulary or memory. */
static const char *reason_to_refuse(const onekv_model *model, const snapshot_header *header,
                                    const uint8_t *bytes, size_t n_bytes) {
  const kv_layout *layout = &model->pages.layout;
  if (memcmp(header->magic, "OKVS", 4) != 0) return "it is no OneKV snapshot";
  if (header->version != SNAPSHOT_VERSION) return "its version is not supported";
  if (header->model_hash != model->hash) return "it was made with another model file";
  if (header->cache_type != (uint32_t)layout->type) return "its cache has another element type";
  if (header->bytes_per_token != kv_bytes_per_position(layout)) return "its cache rows differ";
  if (header->n_sampling_bytes != sizeof(onekv_sampling)) return "its sampling fields differ";
  if (header->n_tokens > header->n_context) return "it holds more tokens than its window";
  if (header->n_context > model->n_context) return "its window is larger than the model's";
  size_t row_bytes = sizeof(int32_t) + header->bytes_per_token;
  size_t n_left = n_bytes - sizeof *header - HASH_BYTES;
  if (n_left / row_bytes != header->n_tokens || n_left % row_bytes != 0) {
    return "its length does not fit its number of tokens";
  }
  uint64_t hash = 0;
  memcpy(&hash, bytes + n_bytes - HASH_BYTES, HASH_BYTES);
  if (hash != hash_bytes(bytes, n_bytes - HASH_BYTES)) return "its checksum is wrong";
  return NULL;
}

static onekv_status fill(onekv_session *session, const snapshot_header *header,
                         const uint8_t *bytes, onekv_error *error) {
  onekv_model *model = session->model;
  size_t n_tokens = (size_t)header->n_tokens;
  size_t n_token_bytes = (n_tokens > 0 ? n_tokens : 1) * sizeof(int32_t);
  int32_t *tokens = memory_take(&model->memory, MEMORY_SESSIONS, n_token_bytes);
  if (tokens == NULL) return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for a snapshot");
  memcpy(tokens, bytes, n_tokens * sizeof *tokens);
  onekv_status status = ONEKV_OK;
  for (size_t i = 0; i < n_tokens && status == ONEKV_OK; i++) {
    if (tokens[i] >= 0 && (size_t)tokens[i] < model->config.n_vocabulary) continue;
    status = error_set(error, ONEKV_SNAPSHOT_REFUSED, "token %zu of the snapshot: found %d", i,
                       (int)tokens[i]);
  }
  if (status == ONEKV_OK) {
    status = kv_cache_load(&session->cache, tokens, n_tokens, bytes + n_tokens * sizeof *tokens);
    if (status != ONEKV_OK) error_set(error, status, "no memory for %zu tokens", n_tokens);
  }
  memory_give_back(&model->memory, MEMORY_SESSIONS, tokens, n_token_bytes);
  session->sampler.random_state = header->random_state;
  return status;
}

onekv_status onekv_session_restore(onekv_model *model, const uint8_t *bytes, size_t n_bytes,
                                   onekv_session **out, onekv_error *error) {
  snapshot_header header;
  if (n_bytes < sizeof header + HASH_BYTES) {
    return error_set(error, ONEKV_SNAPSHOT_REFUSED, "the snapshot is too short: %zu bytes",
                     n_bytes);
  }
  memcpy(&header, bytes, sizeof header);
  const char *reason = reason_to_refuse(model, &header, bytes, n_bytes);
  if (reason != NULL) {
    return error_set(error, ONEKV_SNAPSHOT_REFUSED, "the snapshot is refused: %s", reason);
  }
  onekv_session_options options = {
      .n_context = (size_t)header.n_context,
      .slides = header.slides != 0,
      .n_keep = (size_t)header.n_keep,
      .sampling = header.sampling,
  };
  onekv_session *session = NULL;
  onekv_error inner = {ONEKV_OK, ""};
  onekv_status status = onekv_session_open(model, &options, &session, &inner);
  if (status == ONEKV_INVALID_ARGUMENT) status = ONEKV_SNAPSHOT_REFUSED;
  if (status != ONEKV_OK) return error_set(error, status, "snapshot: %s", inner.message);
  status = fill(session, &header, bytes + sizeof header, error);
  if (status != ONEKV_OK) {
    onekv_session_close(session);
    return status;
  }
  *out = session;
  return ONEKV_OK;
}
