/* What a head of a layer looks at: the weights that attention() never keeps.
 *
 * The transformer runs up to the layer on a cache of its own; what it leaves behind are that
 * layer's queries, and its keys in the cache. From those the scores and their softmax are written
 * out as the paper has them, one row after the other; with keys in the place of the queries they
 * are what Q=K-V is limited to. For looking at, not for speed: n² h products, and the tokens are
 * computed anew. */
#include "core/api/model.h"

#include <math.h>
#include <string.h>

/* One call's view of the model. */
typedef struct inspection {
  onekv_model *model;
  onekv_config config; /* the model's, cut off after the layer */
  size_t layer;
  size_t kv_head;
  size_t head;
  kv_cache cache;
  float *keys;    /* [n][h]: as scores use them */
  float *queries; /* [n][h] */
  float *tile;    /* [KV_PAGE_POSITIONS][h] */
  float *cosines; /* [h] */
  float *sines;   /* [h] */
  size_t n_bytes; /* of the block that begins with keys */
} inspection;

static onekv_status open_inspection(inspection *view, size_t n) {
  size_t h = view->config.head_width;
  view->n_bytes = (2 * n + KV_PAGE_POSITIONS + 2) * h * sizeof(float);
  view->keys = memory_take(&view->model->memory, MEMORY_SCRATCH, view->n_bytes);
  if (view->keys == NULL) return ONEKV_OUT_OF_MEMORY;
  view->queries = view->keys + n * h;
  view->tile = view->queries + n * h;
  view->cosines = view->tile + KV_PAGE_POSITIONS * h;
  view->sines = view->cosines + h;
  onekv_status status = kv_cache_open(&view->model->pages, n, &view->cache);
  if (status == ONEKV_OK) {
    status = kv_cache_reserve(&view->cache, n);
    if (status == ONEKV_OK) return ONEKV_OK;
    kv_cache_close(&view->cache);
  }
  memory_give_back(&view->model->memory, MEMORY_SCRATCH, view->keys, view->n_bytes);
  return status;
}

static void close_inspection(inspection *view) {
  kv_cache_close(&view->cache);
  memory_give_back(&view->model->memory, MEMORY_SCRATCH, view->keys, view->n_bytes);
}

/* The cached row as a key: what attention.c does to a tile, for one position. */
static void make_key(inspection *view, const float *cached, size_t position, float *key) {
  const onekv_config *config = &view->config;
  const kernel_table *kernels = &view->model->kernels;
  const rope_tables *rope = &view->model->scratch.rope;
  const float *norm = view->model->plan.weights.layers[view->layer].key_norm;
  size_t h = config->head_width;
  memcpy(key, cached, h * sizeof *key);
  if (!config_makes_keys_at_read(config)) return;
  if (norm != NULL) kernels->f32_rms_norm(cached, norm, config->norm_epsilon, h, key);
  if (!config_rotates_at_read(config)) return;
  rope_angles(rope, position, view->cosines, view->sines);
  rope_rotate_heads(rope, kernels, key, 1, h, view->cosines, view->sines, false);
}

/* The keys of positions [first, end), which are in the cache. */
static void make_keys(inspection *view, size_t first, size_t end) {
  size_t h = view->config.head_width;
  for (size_t position = first; position < end;) {
    size_t page = position / KV_PAGE_POSITIONS;
    size_t page_first = page * KV_PAGE_POSITIONS;
    size_t n = end - page_first < KV_PAGE_POSITIONS ? end - page_first : KV_PAGE_POSITIONS;
    const float *tile =
        kv_cache_read(&view->cache, view->layer, KV_KEYS, view->kv_head, page, n, view->tile);
    for (; position < page_first + n; position++) {
      make_key(view, tile + (position - page_first) * h, position, view->keys + position * h);
    }
  }
}

/* scores [n] = σ α q Kᵀ + κ, for the keys of all n positions. */
static void write_scores(const inspection *view, const float *query, size_t n, float *scores) {
  const layer_weights *layer = &view->model->plan.weights.layers[view->layer];
  size_t h = view->config.head_width;
  float temperature = layer->score_scale != NULL ? layer->score_scale[0] : 1.0f;
  float scale = temperature / sqrtf((float)h);
  for (size_t i = 0; i < n; i++) {
    float score = 0.0f;
    for (size_t c = 0; c < h; c++) score += query[c] * view->keys[i * h + c];
    scores[i] = score * scale + (layer->key_bias != NULL ? layer->key_bias[i] : 0.0f);
  }
}

/* Runs the tokens up to the layer, and keeps its queries and keys. */
static void inspect(inspection *view, const int32_t *tokens, size_t n) {
  forward_scratch *scratch = &view->model->scratch;
  forward_model cut_off = model_view(view->model);
  size_t h = view->config.head_width;
  cut_off.config = &view->config;
  for (size_t done = 0; done < n;) {
    size_t n_rows = n - done < scratch->n_rows_max ? n - done : scratch->n_rows_max;
    sequence_slice slice = {&view->cache, 0, n_rows, done};
    forward_batch batch = {&slice, 1, n_rows, tokens + done, NULL, NULL, 0, 0};
    forward(&cut_off, scratch, &batch);
    kv_cache_advance(&view->cache, tokens + done, n_rows);
    make_keys(view, done, done + n_rows);
    for (size_t row = 0; row < n_rows; row++) {
      const float *query = scratch->queries + (row * view->config.n_heads + view->head) * h;
      memcpy(view->queries + (done + row) * h, query, h * sizeof *query);
    }
    done += n_rows;
  }
}

/* The row of a token: only those up to itself are seen. */
static void make_weights(float *scores, size_t n_visible, size_t n) {
  float most = -INFINITY;
  float sum = 0.0f;
  for (size_t i = 0; i < n_visible; i++) {
    if (scores[i] > most) most = scores[i];
  }
  for (size_t i = 0; i < n_visible; i++) {
    scores[i] = expf(scores[i] - most);
    sum += scores[i];
  }
  for (size_t i = 0; i < n_visible; i++) scores[i] /= sum;
  for (size_t i = n_visible; i < n; i++) scores[i] = 0.0f;
}

void onekv_attention_softmax(float *scores, size_t n) {
  for (size_t row = 0; row < n; row++) make_weights(scores + row * n, row + 1, n);
}

onekv_status onekv_attention_scores(onekv_model *model, const int32_t *tokens, size_t n,
                                    size_t layer, size_t head, bool keys_as_queries, float *scores,
                                    onekv_error *error) {
  const onekv_config *config = &model->config;
  if (!config->causal) {
    return error_set(error, ONEKV_WRONG_STATE, "attention is shown of causal models only");
  }
  if (layer >= config->n_layers || head >= config->n_heads) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "layer %zu, head %zu: expected less than %zu and %zu", layer, head,
                     config->n_layers, config->n_heads);
  }
  if (n == 0 || n > model->n_context) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "tokens: found %zu, expected 1 to %zu", n,
                     model->n_context);
  }
  for (size_t i = 0; i < n; i++) {
    if (tokens[i] >= 0 && (size_t)tokens[i] < config->n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)tokens[i], config->n_vocabulary - 1);
  }
  inspection view = {.model = model, .config = *config, .layer = layer, .head = head};
  view.config.n_layers = layer + 1;
  view.kv_head = head * config->n_kv_heads / config->n_heads;
  onekv_status status = open_inspection(&view, n);
  if (status != ONEKV_OK) return error_set(error, status, "no memory for %zu tokens", n);
  inspect(&view, tokens, n);
  const float *rows = keys_as_queries ? view.keys : view.queries;
  for (size_t row = 0; row < n; row++) {
    write_scores(&view, rows + row * config->head_width, n, scores + row * n);
  }
  close_inspection(&view);
  return ONEKV_OK;
}

onekv_status onekv_attention_map(onekv_model *model, const int32_t *tokens, size_t n,
                                 size_t layer, size_t head, float *weights,
                                 onekv_error *error) {
  onekv_status status =
      onekv_attention_scores(model, tokens, n, layer, head, false, weights, error);
  if (status == ONEKV_OK) onekv_attention_softmax(weights, n);
  return status;
}
