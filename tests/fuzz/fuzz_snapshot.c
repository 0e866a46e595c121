/* libFuzzer: a session from hostile bytes.
 *
 * The first byte chooses one of three tiny models, one for each cache type, and whether what is
 * known from outside is put right first: magic, version, model hash and checksum, so that the
 * fuzzer gets behind them. What is restored takes a step and is saved again. Afterwards the
 * model holds no page and no session. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/onekv.h"
#include "tests/native/gguf_writer.h"

enum { BYTES_MAX = 1 << 20, PUT_RIGHT = 128, HEAD_BYTES = 20 /* up to the cache type */ };

static onekv_model *models[ONEKV_CACHE_TYPE_COUNT];
static size_t n_bytes_out = 0;

static void require(bool condition) {
  if (!condition) abort();
}

static void *take(void *context, size_t n_bytes) {
  (void)context;
  if (n_bytes > BYTES_MAX - n_bytes_out) return NULL;
  n_bytes_out += n_bytes;
  return malloc(n_bytes);
}

static void give_back(void *context, void *block, size_t n_bytes) {
  (void)context;
  n_bytes_out -= n_bytes;
  free(block);
}

static void open_models(void) {
  static onekv_pool *pool;
  const char *const projections[ONEKV_CACHE_TYPE_COUNT] = {"Q-K=V", "QKV", "Q=K=V"};
  require(onekv_pool_open(NULL, 1, &pool) == ONEKV_OK);
  for (int type = 0; type < ONEKV_CACHE_TYPE_COUNT; type++) {
    gguf_draft draft = tiny_draft(&(tiny_shape){.projection = projections[type]});
    file_bytes file = draft_write(&draft);
    onekv_model_options options = {.pool = pool,
                                   .allocator = {NULL, take, give_back},
                                   .cache_type = (onekv_cache_type)type};
    onekv_loader *loader = NULL;
    require(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK);
    require(onekv_loader_feed(loader, file.bytes, file.n_bytes, NULL) == ONEKV_OK);
    require(onekv_loader_finish(loader, &models[type], NULL) == ONEKV_OK);
    free(file.bytes);
  }
}

static void store_u64(uint8_t *out, uint64_t value) {
  for (size_t i = 0; i < 8; i++) out[i] = (uint8_t)(value >> (8 * i));
}

/* What stands before `slides` as this model wants it, and the checksum over all. */
static void put_right(const onekv_model *model, unsigned type, uint8_t *bytes, size_t n) {
  if (n < HEAD_BYTES + 8) return;
  memcpy(bytes, "OKVS\3\0\0\0", 8);
  store_u64(bytes + 8, onekv_model_hash(model));
  memcpy(bytes + 16, (const uint8_t[4]){(uint8_t)type, 0, 0, 0}, 4);
  store_u64(bytes + n - 8, hash_bytes(bytes, n - 8));
}

static void use(onekv_model *model, onekv_session *session) {
  const int32_t tokens[2] = {1, TINY_VOCABULARY - 1};
  onekv_item item = {session, tokens, 2, 1, NULL};
  int32_t next = 0;
  if (onekv_step(model, &item, 1, NULL) == ONEKV_OK) {
    if (onekv_sample(session, item.logits, &next) == ONEKV_OK) {
      require(next >= 0 && next < TINY_VOCABULARY);
    }
  }
  size_t n = onekv_session_save_bytes(session);
  uint8_t *saved = malloc(n);
  require(saved != NULL);
  onekv_session_save(session, saved);
  onekv_session *again = NULL;
  onekv_status status = onekv_session_restore(model, saved, n, &again, NULL);
  require(status == ONEKV_OK || status == ONEKV_OUT_OF_MEMORY);
  onekv_session_close(again);
  free(saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  if (models[0] == NULL) open_models();
  if (n == 0) return 0;
  unsigned type = bytes[0] % ONEKV_CACHE_TYPE_COUNT;
  onekv_model *model = models[type];
  uint8_t *snapshot = malloc(n);
  require(snapshot != NULL);
  memcpy(snapshot, bytes + 1, n - 1);
  if (bytes[0] & PUT_RIGHT) put_right(model, type, snapshot, n - 1);
  onekv_session *session = NULL;
  onekv_status status = onekv_session_restore(model, snapshot, n - 1, &session, NULL);
  require(status == ONEKV_OK || status == ONEKV_SNAPSHOT_REFUSED ||
          status == ONEKV_OUT_OF_MEMORY);
  if (status == ONEKV_OK) {
    use(model, session);
    onekv_session_close(session);
  }
  onekv_memory memory;
  onekv_model_memory(model, &memory);
  require(memory.n_sessions == 0 && memory.sessions == 0 && memory.cache_used == 0);
  onekv_model_trim(model);
  free(snapshot);
  return 0;
}
