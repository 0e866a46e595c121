/* Vectors of texts: onekv_embed against the rows of golden encoders (transformers' BertModel), and
 * of causal models against themselves, prefix by prefix. */
#include "tests/native/check.h"
#include "tests/native/fixture.h"

#include <string.h>

enum { D_MAX = 64, ROWS = 100 /* more than one batch of prefill */ };

static onekv_model *open_golden(const char *name, onekv_pool *pool) {
  char path[256];
  snprintf(path, sizeof path, "tests/golden/%s.gguf", name);
  return load_file(path, &(onekv_model_options){
                             .pool = pool, .arithmetic = ONEKV_F32, .cache_type = ONEKV_CACHE_F32});
}

static bool embed(onekv_model *model, const golden_data *golden, size_t n, onekv_pooling pooling,
                  float *vector) {
  onekv_error error = {ONEKV_OK, ""};
  onekv_status status = onekv_embed(model, golden->tokens, n, pooling, vector, &error);
  CHECK_SAY(status == ONEKV_OK, "%s: %s", golden->name, error.message);
  return status == ONEKV_OK;
}

/* The encoder's rows are those of transformers; so are their mean, the first and the last. */
static void check_encoder(const char *name, onekv_pool *pool, onekv_pooling of_file) {
  golden_data golden = golden_read(name);
  onekv_model *model = open_golden(name, pool);
  onekv_shape shape = shape_of(model);
  size_t d = shape.n_embedding;
  size_t n = golden.n_rows;
  float mean[D_MAX] = {0};
  float vector[D_MAX];
  float own[D_MAX];
  CHECK(!shape.is_causal && !shape.has_head && d <= D_MAX && d == golden.n_outputs);
  CHECK(shape.pooling == of_file);
  for (size_t i = 0; i < n * d; i++) mean[i % d] += golden.logits[i] / (float)n;
  embed(model, &golden, n, ONEKV_POOL_MEAN, vector);
  CHECK(relative_distance(vector, mean, d) <= 1e-4);
  embed(model, &golden, n, ONEKV_POOL_FIRST, vector);
  CHECK(relative_distance(vector, golden.logits, d) <= 1e-4);
  embed(model, &golden, n, ONEKV_POOL_LAST, vector);
  CHECK(relative_distance(vector, golden.logits + (n - 1) * d, d) <= 1e-4);
  embed(model, &golden, n, of_file, vector);
  embed(model, &golden, n, ONEKV_POOL_DEFAULT, own);
  CHECK(memcmp(own, vector, d * sizeof *own) == 0);
  /* Later tokens are seen, so that a shorter text has another first row. */
  embed(model, &golden, n, ONEKV_POOL_FIRST, vector);
  embed(model, &golden, n / 2, ONEKV_POOL_FIRST, own);
  CHECK(relative_distance(own, vector, d) > 1e-3);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  golden_free(&golden);
}

/* A causal model's row of a token does not depend on those behind it: the mean is that of the last
 * rows of all prefixes, in the same bits, whatever the batches. */
static void check_causal(const char *name, onekv_pool *pool) {
  golden_data golden = golden_read(name);
  onekv_model *model = open_golden(name, pool);
  size_t d = shape_of(model).n_embedding;
  size_t n = golden.n_rows < ROWS ? golden.n_rows : ROWS;
  float sum[D_MAX] = {0};
  float vector[D_MAX];
  float first[D_MAX];
  CHECK(shape_of(model).is_causal && shape_of(model).pooling == ONEKV_POOL_LAST && d <= D_MAX);
  for (size_t i = 1; i <= n; i++) {
    embed(model, &golden, i, ONEKV_POOL_DEFAULT, vector);
    if (i == 1) memcpy(first, vector, sizeof first);
    for (size_t c = 0; c < d; c++) sum[c] += vector[c];
  }
  for (size_t c = 0; c < d; c++) sum[c] /= (float)n;
  embed(model, &golden, n, ONEKV_POOL_MEAN, vector);
  CHECK_SAY(memcmp(vector, sum, d * sizeof *sum) == 0, "%s: mean", name);
  embed(model, &golden, n, ONEKV_POOL_FIRST, vector);
  CHECK_SAY(memcmp(vector, first, d * sizeof *first) == 0, "%s: first", name);
  CHECK(relative_distance(sum, first, d) > 1e-3);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  golden_free(&golden);
}

/* What cannot be embedded is said, and the vector stays as it was. */
static void check_errors(onekv_pool *pool) {
  onekv_model *model = open_golden("bert-mean", pool);
  onekv_memory before;
  onekv_memory after;
  int32_t tokens[129] = {0};
  float vector[D_MAX] = {7.0f};
  onekv_error error = {ONEKV_OK, ""};
  onekv_model_memory(model, &before);
  CHECK(onekv_embed(model, tokens, 0, ONEKV_POOL_MEAN, vector, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_embed(model, NULL, 1, ONEKV_POOL_MEAN, vector, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_embed(model, tokens, 1, (onekv_pooling)4, vector, NULL) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_embed(model, tokens, 129, ONEKV_POOL_MEAN, vector, &error) == ONEKV_CONTEXT_FULL);
  CHECK(strcmp(error.message, "tokens of a text: found 129, expected at most 128") == 0);
  tokens[3] = 64;
  CHECK(onekv_embed(model, tokens, 4, ONEKV_POOL_MEAN, vector, NULL) == ONEKV_TOKEN_OUT_OF_RANGE);
  CHECK(vector[0] == 7.0f);
  CHECK(onekv_embed(model, tokens, 3, ONEKV_POOL_MEAN, vector, NULL) == ONEKV_OK);
  onekv_model_trim(model);
  onekv_model_memory(model, &after);
  CHECK(after.total == before.total);
  onekv_session *session = NULL;
  CHECK(onekv_session_open(model, NULL, &session, NULL) == ONEKV_WRONG_STATE);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  model = open_golden("encoder-sets-qkv-gqa", pool);
  CHECK(onekv_embed(model, tokens, 1, ONEKV_POOL_MEAN, vector, NULL) == ONEKV_WRONG_STATE);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

int main(void) {
  onekv_pool *pool = NULL;
  CHECK(onekv_pool_open(NULL, 2, &pool) == ONEKV_OK);
  check_encoder("bert-mean", pool, ONEKV_POOL_MEAN);
  check_encoder("bert-cls", pool, ONEKV_POOL_FIRST);
  check_causal("llama-keqv-gqa", pool);
  check_causal("gemma3-wide", pool);
  check_causal("lfm2-tied", pool);
  check_causal("deepseek2-latent", pool);
  check_errors(pool);
  onekv_pool_close(pool);
  return check_finish();
}
