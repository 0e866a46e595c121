/* Attention maps against what attention itself gave out: rows are softmaxes, and the sum of the
 * values by a row's weights is what the head wrote.
 *
 * forward leaves the outputs of the last batch's heads in the scratch: an observer stops it before
 * the layer behind the one that is looked at, so they are there to be compared with. */
#include "core/api/model.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

enum { TOKENS = 77, WIDTH_MAX = 64 };

static const tiny_shape SHAPES[] = {
    {.projection = "QKV", .n_kv_heads = 2, .n_layers = 2},
    {.projection = "Q-K=V", .n_layers = 2},
    {.projection = "Q=K-V", .architecture = "gpt2", .n_heads = 4, .n_kv_heads = 2},
    {.projection = "Q=K=V", .architecture = "qwen3"},
    {.projection = "Q-K=V", .architecture = "qwen3", .n_layers = 2},
    {.projection = "Q-K=V", .position = "learned"},
};
enum { SHAPES_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static void check_rows(const float *map) {
  for (size_t i = 0; i < TOKENS; i++) {
    double sum = 0.0;
    size_t first_bad = TOKENS;
    for (size_t j = 0; j < TOKENS; j++) {
      float weight = map[i * TOKENS + j];
      sum += (double)weight;
      bool is_right = j <= i ? weight >= 0.0f && weight <= 1.0f : weight == 0.0f;
      if (!is_right && first_bad == TOKENS) first_bad = j;
    }
    CHECK_SAY(first_bad == TOKENS, "row %zu, column %zu: %g", i, first_bad,
              (double)map[i * TOKENS + first_bad % TOKENS]);
    CHECK_SAY(check_is_close(sum, 1.0, 1e-5), "row %zu: its sum is %g", i, sum);
  }
}

static bool goes_on(void *context, size_t layer, const float *queries) {
  (void)queries;
  return layer <= *(const size_t *)context;
}

/* Runs the tokens through the model up to the layer's outputs. */
static void run_to(onekv_model *model, const int32_t *tokens, size_t layer) {
  forward_observer observer = {&layer, goes_on};
  forward_model view = model_view(model);
  kv_cache cache;
  CHECK(kv_cache_open(&model->pages, TOKENS, &cache) == ONEKV_OK);
  CHECK(kv_cache_reserve(&cache, TOKENS) == ONEKV_OK);
  for (size_t done = 0; done < TOKENS;) {
    size_t n_rows_max = model->scratch.n_rows_max;
    size_t n_rows = TOKENS - done < n_rows_max ? TOKENS - done : n_rows_max;
    sequence_slice slice = {&cache, 0, n_rows, done};
    forward_batch batch = {.slices = &slice, .n_slices = 1, .n_rows = n_rows,
                           .tokens = tokens + done, .observer = &observer};
    forward(&view, &model->scratch, &batch);
    kv_cache_advance(&cache, tokens + done, n_rows);
    done += n_rows;
  }
  kv_cache_close(&cache);
}

/* The rows of the last batch times the values of the session's cache. */
static void check_outputs(const onekv_model *model, const onekv_session *session, size_t layer,
                          size_t head, const float *map) {
  const onekv_config *config = &model->config;
  const layer_kind *kind = config_kind(config, layer);
  size_t h = kind->key_width;
  size_t n_rows_max = model->scratch.n_rows_max;
  size_t first = (TOKENS - 1) / n_rows_max * n_rows_max;
  size_t kv_head = head * kind->n_kv_heads / kind->n_heads;
  kv_stream stream = kind->shares_row ? KV_ROW : KV_VALUE;
  float tile[KV_PAGE_POSITIONS * WIDTH_MAX];
  double worst = 0.0;
  for (size_t row = first; row < TOKENS; row++) {
    const float *out = model->scratch.heads + ((row - first) * kind->n_heads + head) * h;
    double sums[WIDTH_MAX] = {0};
    for (size_t j = 0; j <= row; j++) {
      size_t page = j / KV_PAGE_POSITIONS;
      size_t n = j % KV_PAGE_POSITIONS + 1;
      const float *values =
          kv_cache_read(&session->cache, layer, stream, kv_head, page, n, tile) + (n - 1) * h;
      for (size_t c = 0; c < h; c++) sums[c] += (double)(map[row * TOKENS + j] * values[c]);
    }
    for (size_t c = 0; c < h; c++) worst = fmax(worst, fabs(sums[c] - (double)out[c]));
  }
  CHECK_SAY(worst < 2e-4, "layer %zu, head %zu: off by %g", layer, head, worst);
}

/* Scores give the map's weights; those of keys with keys are symmetric, and the model's own are
 * those very ones exactly where its queries are its keys. */
static void check_scores(onekv_model *model, const int32_t *tokens, size_t layer, size_t head,
                         const float *map) {
  static float own[TOKENS * TOKENS];
  static float of_keys[TOKENS * TOKENS];
  onekv_error error;
  CHECK(onekv_attention_scores(model, tokens, TOKENS, layer, head, false, own, &error) == ONEKV_OK);
  CHECK(onekv_attention_scores(model, tokens, TOKENS, layer, head, true, of_keys, &error) ==
        ONEKV_OK);
  double apart = 0.0;
  double differ = 0.0;
  for (size_t i = 0; i < TOKENS; i++) {
    for (size_t j = 0; j < TOKENS; j++) {
      size_t at = i * TOKENS + j;
      apart = fmax(apart, fabs((double)of_keys[at] - (double)of_keys[j * TOKENS + i]));
      differ = fmax(differ, fabs((double)of_keys[at] - (double)own[at]));
    }
  }
  CHECK_SAY(apart < 1e-4, "scores of keys are asymmetric by %g", apart);
  bool same = config_kind(&model->config, layer)->query_is_key &&
              model->plan.weights.layers[layer].key_norm == NULL;
  CHECK_SAY(same ? differ < 1e-4 : differ > 1e-3, "own scores differ by %g", differ);
  onekv_attention_softmax(model, layer, TOKENS, own);
  CHECK(memcmp(own, map, sizeof own) == 0);
}

static void check_shape(onekv_pool *pool, const tiny_shape *shape) {
  static float map[TOKENS * TOKENS];
  onekv_model_options options = {.pool = pool, .cache_type = ONEKV_CACHE_F32};
  onekv_model *model = open_tiny(shape, &options);
  onekv_session *session = open_session(model, NULL);
  int32_t tokens[TOKENS];
  for (size_t i = 0; i < TOKENS; i++) tokens[i] = (int32_t)check_random_below(TINY_VOCABULARY);
  feed_tokens(session, model, tokens, TOKENS);
  onekv_memory before;
  onekv_model_memory(model, &before);
  check_state.context = shape->projection;
  for (size_t layer = 0; layer < model->config.n_layers; layer++) {
    for (size_t head = 0; head < model->config.kinds[0].n_heads; head++) {
      onekv_error error;
      CHECK(onekv_attention_map(model, tokens, TOKENS, layer, head, map, &error) == ONEKV_OK);
      check_rows(map);
      run_to(model, tokens, layer);
      check_outputs(model, session, layer, head, map);
      check_scores(model, tokens, layer, head, map);
    }
  }
  onekv_memory after;
  onekv_model_memory(model, &after);
  CHECK(after.cache_used == before.cache_used && after.scratch == before.scratch);
  onekv_session_close(session);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

static void check_refusals(onekv_pool *pool) {
  onekv_model_options options = {.pool = pool, .context_window = 8};
  onekv_model *model = open_tiny(&SHAPES[1], &options);
  float map[16];
  int32_t tokens[9] = {0, 1, 2, 3};
  onekv_error error;
  CHECK(onekv_attention_map(model, tokens, 4, 2, 0, map, &error) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_attention_map(model, tokens, 4, 0, 99, map, &error) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_attention_map(model, tokens, 0, 0, 0, map, &error) == ONEKV_INVALID_ARGUMENT);
  CHECK(onekv_attention_map(model, tokens, 9, 0, 0, map, &error) == ONEKV_INVALID_ARGUMENT);
  tokens[3] = TINY_VOCABULARY;
  CHECK(onekv_attention_map(model, tokens, 4, 0, 0, map, &error) == ONEKV_TOKEN_OUT_OF_RANGE);
  CHECK(onekv_model_close(model) == ONEKV_OK);
}

/* Whatever memory is refused, nothing stays behind. */
static void check_out_of_memory(onekv_pool *pool) {
  counted_memory counted = {0};
  onekv_model_options options = {.pool = pool, .allocator = counted_allocator(&counted)};
  onekv_model *model = open_tiny(&SHAPES[1], &options);
  static float map[TOKENS * TOKENS];
  int32_t tokens[TOKENS] = {0};
  onekv_error error;
  for (size_t call = 1; call <= 4; call++) {
    onekv_model_trim(model);
    size_t n_bytes = counted.n_bytes;
    counted.fail_at = counted.n_calls + call;
    CHECK(onekv_attention_map(model, tokens, TOKENS, 0, 0, map, &error) == ONEKV_OUT_OF_MEMORY);
    onekv_model_trim(model);
    CHECK(counted.n_bytes == n_bytes && !counted.is_damaged);
  }
  counted.fail_at = 0;
  CHECK(onekv_attention_map(model, tokens, TOKENS, 0, 0, map, &error) == ONEKV_OK);
  CHECK(onekv_model_close(model) == ONEKV_OK);
  CHECK(counted.n_bytes == 0);
}

int main(void) {
  check_seed(20261122);
  onekv_pool *pool = open_pool(2);
  for (size_t i = 0; i < SHAPES_COUNT; i++) check_shape(pool, &SHAPES[i]);
  check_refusals(pool);
  check_out_of_memory(pool);
  onekv_pool_close(pool);
  return check_finish();
}
