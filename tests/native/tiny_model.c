/* Tiny models and counted memory; see tiny_model.h. */
#include "tests/native/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 32 /* in front of each block: its size; keeps 16-byte alignment */ };

_Noreturn static void give_up(const char *what, const char *why) {
  printf("tiny model: %s: %s\n", what, why);
  exit(2);
}

static void *take(void *context, size_t n_bytes) {
  counted_memory *memory = context;
  memory->n_calls++;
  bool fails = memory->fail_at > 0 && (memory->n_calls == memory->fail_at ||
                                       (memory->keeps_failing &&
                                        memory->n_calls > memory->fail_at));
  bool is_too_much = memory->n_bytes_max > 0 && n_bytes > memory->n_bytes_max - memory->n_bytes;
  if (fails || is_too_much) return NULL;
  uint8_t *block = malloc(HEAD_BYTES + n_bytes);
  if (block == NULL) return NULL;
  memcpy(block, &n_bytes, sizeof n_bytes);
  memset(block + HEAD_BYTES, 0xc3, n_bytes); /* core must not rely on zeros */
  memory->n_blocks++;
  memory->n_bytes += n_bytes;
  if (memory->n_bytes > memory->n_bytes_peak) memory->n_bytes_peak = memory->n_bytes;
  return block + HEAD_BYTES;
}

static void give_back(void *context, void *block, size_t n_bytes) {
  counted_memory *memory = context;
  uint8_t *whole = (uint8_t *)block - HEAD_BYTES;
  size_t n_taken = 0;
  memcpy(&n_taken, whole, sizeof n_taken);
  memory->is_damaged |= n_taken != n_bytes;
  memory->n_blocks--;
  memory->n_bytes -= n_taken;
  free(whole);
}

onekv_allocator counted_allocator(counted_memory *memory) {
  return (onekv_allocator){memory, take, give_back};
}

onekv_status open_draft(const gguf_draft *draft, const onekv_model_options *options,
                        size_t chunk_bytes, onekv_model **model, onekv_error *error) {
  file_bytes file = draft_write(draft);
  size_t chunk = chunk_bytes == 0 ? file.n_bytes : chunk_bytes;
  onekv_status status = load_bytes(options, file, chunk, model, error);
  free(file.bytes);
  return status;
}

onekv_model *open_tiny(const tiny_shape *shape, const onekv_model_options *options) {
  onekv_model *model = NULL;
  onekv_error error = {ONEKV_OK, ""};
  gguf_draft draft = tiny_draft(shape);
  if (open_draft(&draft, options, 0, &model, &error) != ONEKV_OK) give_up("open", error.message);
  return model;
}

onekv_session *open_session(onekv_model *model, const onekv_session_options *options) {
  onekv_session *session = NULL;
  onekv_error error = {ONEKV_OK, ""};
  if (onekv_session_open(model, options, &session, &error) != ONEKV_OK) {
    give_up("session", error.message);
  }
  return session;
}

const float *feed_tokens(onekv_session *session, onekv_model *model, const int32_t *tokens,
                         size_t n) {
  onekv_item item = {session, tokens, n, 1, NULL};
  onekv_error error = {ONEKV_OK, ""};
  if (onekv_step(model, &item, 1, &error) != ONEKV_OK) give_up("step", error.message);
  return item.logits;
}

onekv_pool *open_pool(size_t n_threads) {
  onekv_pool *pool = NULL;
  if (onekv_pool_open(NULL, n_threads, &pool) != ONEKV_OK) give_up("pool", "no memory");
  while (onekv_pool_n_alive(pool) < n_threads) continue;
  onekv_pool_activate(pool, 0);
  return pool;
}
