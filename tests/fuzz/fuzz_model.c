/* libFuzzer: a model from hostile bytes.
 *
 * The last byte chooses how the loader is fed and the cache type; it is fed too, being behind the
 * last tensor in a whole file. Memory ends at 64 MiB. What opens runs: a causal model takes a few
 * tokens, samples, and goes through a snapshot; a bidirectional one encodes; either gives a vector
 * of a text. Afterwards every byte must be back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/onekv.h"

enum { BYTES_MAX = 64 << 20, N_TOKENS = 5 };

static size_t n_bytes_out = 0;

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

static void require(bool condition) {
  if (!condition) abort();
}

/* Feeds pieces of 1 to 16 bytes, of odd lengths that grow, or everything at once. */
static onekv_status feed(onekv_loader *loader, const uint8_t *bytes, size_t n, unsigned how) {
  size_t piece = how % 3 == 0 ? n : how % 3 == 1 ? 1 + how % 16 : 3;
  onekv_status status = ONEKV_OK;
  for (size_t done = 0; done < n && status == ONEKV_OK;) {
    size_t n_now = n - done < piece ? n - done : piece;
    /* A copy of its own shows a read behind the piece. */
    uint8_t *copy = malloc(n_now);
    require(copy != NULL);
    memcpy(copy, bytes + done, n_now);
    status = onekv_loader_feed(loader, copy, n_now, NULL);
    free(copy);
    done += n_now;
    if (how % 3 == 2) piece = 2 * piece + 1;
  }
  return status;
}

static onekv_shape shape_of(const onekv_model *model) {
  onekv_shape shape;
  onekv_describe(onekv_model_config(model), &shape);
  return shape;
}

static void run_causal(onekv_model *model) {
  size_t n_vocabulary = shape_of(model).n_vocabulary;
  int32_t tokens[N_TOKENS];
  for (size_t i = 0; i < N_TOKENS; i++) tokens[i] = (int32_t)(i * 7919 % n_vocabulary);
  onekv_session_options options = {.slides = true};
  options.sampling = (onekv_sampling){.temperature = 1.0f, .top_p = 0.9f, .seed = 3};
  onekv_session *session = NULL;
  onekv_session *restored = NULL;
  if (onekv_session_open(model, &options, &session, NULL) != ONEKV_OK) return;
  onekv_item item = {session, tokens, 3, 1, NULL};
  if (onekv_step(model, &item, 1, NULL) == ONEKV_OK) {
    int32_t next = 0;
    if (onekv_sample(session, item.logits, &next) == ONEKV_OK) {
      require(next >= 0 && (size_t)next < n_vocabulary);
    }
    size_t n = onekv_session_save_bytes(session);
    uint8_t *snapshot = malloc(n);
    require(snapshot != NULL);
    onekv_session_save(session, snapshot);
    onekv_status status = onekv_session_restore(model, snapshot, n, &restored, NULL);
    require(status == ONEKV_OK || status == ONEKV_OUT_OF_MEMORY);
    free(snapshot);
  }
  if (restored != NULL) {
    float logprobs[N_TOKENS];
    onekv_score(restored, tokens, N_TOKENS, logprobs, NULL);
  }
  onekv_session_close(restored);
  onekv_session_close(session);
}

static void run_bidirectional(onekv_model *model) {
  onekv_shape shape = shape_of(model);
  const int32_t tokens[3] = {0, (int32_t)shape.n_vocabulary - 1, 0};
  float *features = NULL;
  if (shape.n_features > 0) {
    features = calloc(3 * shape.n_features, sizeof *features);
    require(features != NULL);
  }
  const float *logits = NULL;
  size_t n_logits = 0;
  onekv_status status = onekv_encode(model, features == NULL ? tokens : NULL, features, 3,
                                     &logits, &n_logits, NULL);
  if (status == ONEKV_OK) {
    require(n_logits >= 1);
    volatile float last = logits[n_logits * shape.n_outputs - 1];
    (void)last;
  }
  free(features);
}

static void run_embedding(onekv_model *model) {
  onekv_shape shape = shape_of(model);
  if (shape.n_vocabulary == 0) return;
  int32_t tokens[N_TOKENS] = {0, (int32_t)shape.n_vocabulary - 1};
  float *vector = calloc(shape.n_embedding, sizeof *vector);
  require(vector != NULL);
  onekv_status status =
      onekv_embed(model, tokens, N_TOKENS, ONEKV_POOL_DEFAULT, vector, NULL);
  require(status == ONEKV_OK || status == ONEKV_OUT_OF_MEMORY || status == ONEKV_CONTEXT_FULL);
  free(vector);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  unsigned how = n > 0 ? bytes[n - 1] : 0;
  onekv_pool *pool = NULL;
  require(onekv_pool_open(NULL, 1, &pool) == ONEKV_OK);
  onekv_model_options options = {
      .pool = pool,
      .allocator = {NULL, take, give_back},
      .level = how & 64 ? ONEKV_LEVEL_SCALAR : ONEKV_LEVEL_BEST,
      .cache_type = (onekv_cache_type)(how / 4 % ONEKV_CACHE_TYPE_COUNT),
      .context_window = 48,
  };
  onekv_loader *loader = NULL;
  onekv_model *model = NULL;
  require(onekv_loader_open(&options, &loader, NULL) == ONEKV_OK);
  if (feed(loader, bytes, n, how) == ONEKV_OK) {
    onekv_estimate estimate;
    if (onekv_loader_has_header(loader)) {
      require(onekv_loader_estimate(loader, &estimate) == ONEKV_OK);
    }
    if (onekv_loader_finish(loader, &model, NULL) == ONEKV_OK) loader = NULL;
  }
  onekv_loader_close(loader);
  if (model != NULL) {
    onekv_memory memory;
    if (shape_of(model).is_causal) {
      run_causal(model);
    } else {
      run_bidirectional(model);
    }
    run_embedding(model);
    onekv_model_memory(model, &memory);
    require(memory.total == n_bytes_out && memory.cache_used == 0 && memory.sessions == 0);
    require(onekv_model_close(model) == ONEKV_OK);
  }
  require(n_bytes_out == 0);
  onekv_pool_close(pool);
  return 0;
}
