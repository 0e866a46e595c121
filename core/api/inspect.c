/* What a head of a layer looks at: the weights that attention() never keeps.
 *
 * The transformer runs up to the layer on a cache of its own; an observer keeps that layer's
 * queries, and its keys are in the cache. From those the scores and their softmax are written
 * out as the paper has them, one row after the other; with keys in the place of the queries they
 * are what Q=K-V is limited to. For looking at, not for speed: n² h products, and the tokens are
 * computed anew. */
#include "core/api/model.h"

#include <math.h>
#include <string.h>

/* One call's view of the model. */
typedef struct inspection {
  onekv_model *model;
  const layer_kind *kind; /* of the layer */
  size_t layer;
  size_t kv_head;
  size_t head;
  kv_cache cache;
  size_t n_done;  /* rows whose queries are kept */
  size_t n_rows;  /* rows of the batch that runs */
  float *keys;    /* [n][k]: as scores use them */
  float *queries; /* [n][k] */
  float *tile;    /* [KV_PAGE_POSITIONS][k]: rows of the cache */
  float *cosines; /* [k] */
  float *sines;   /* [k] */
  size_t n_bytes; /* of the block that begins with keys */
} inspection;

static onekv_status open_inspection(inspection *view, size_t n) {
  size_t k = view->kind->key_width;
  view->n_bytes = (2 * n + KV_PAGE_POSITIONS + 2) * k * sizeof(float);
  view->keys = memory_take(&view->model->memory, MEMORY_SCRATCH, view->n_bytes);
  if (view->keys == NULL) return ONEKV_OUT_OF_MEMORY;
  view->queries = view->keys + n * k;
  view->tile = view->queries + n * k;
  view->cosines = view->tile + KV_PAGE_POSITIONS * k;
  view->sines = view->cosines + k;
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

/* The keys of positions [first, end), which are in the cache, turned by the whole of their
 * positions: attention leaves a tile's own to the queries. */
static void make_keys(inspection *view, size_t first, size_t end) {
  forward_model model = model_view(view->model);
  attention_call call = forward_attention(&model, &view->model->scratch, view->layer);
  size_t k = view->kind->key_width;
  for (size_t page = first / KV_PAGE_POSITIONS; page * KV_PAGE_POSITIONS < end; page++) {
    size_t start = page * KV_PAGE_POSITIONS;
    size_t n = end - start < KV_PAGE_POSITIONS ? end - start : KV_PAGE_POSITIONS;
    const float *rows =
        kv_cache_read(&view->cache, call.layer, KV_ROW, view->kv_head, page, n, view->tile);
    float *keys = view->keys + start * k;
    const float *made = attention_make_keys(&call, rows, n, keys);
    if (made != keys) memcpy(keys, made, n * k * sizeof *keys);
    if (call.rope == NULL) continue;
    rope_angles(call.rope, start, view->cosines, view->sines);
    rope_rotate_heads(call.rope, call.kernels, keys, n, k, view->cosines, view->sines, false);
  }
}

/* scores [n] = σ α q Kᵀ + κ, for the keys of all n positions. */
static void write_scores(const inspection *view, const float *query, size_t n, float *scores) {
  forward_model model = model_view(view->model);
  attention_call call = forward_attention(&model, &view->model->scratch, view->layer);
  size_t k = view->kind->key_width;
  for (size_t i = 0; i < n; i++) {
    float score = 0.0f;
    for (size_t c = 0; c < k; c++) score += query[c] * view->keys[i * k + c];
    scores[i] = score * call.score_scale + (call.key_bias != NULL ? call.key_bias[i] : 0.0f);
  }
}

/* Keeps the layer's queries of the batch; nothing behind it is asked for. */
static bool keep_queries(void *context, size_t layer, const float *queries) {
  inspection *view = context;
  if (layer < view->layer) return true;
  size_t k = view->kind->key_width;
  for (size_t row = 0; row < view->n_rows; row++) {
    const float *query = queries + (row * view->kind->n_heads + view->head) * k;
    memcpy(view->queries + (view->n_done + row) * k, query, k * sizeof *query);
  }
  return false;
}

/* Runs the tokens up to the layer, and keeps its queries and keys. Errors: those of forward. */
static onekv_status inspect(inspection *view, const int32_t *tokens, size_t n) {
  forward_scratch *scratch = &view->model->scratch;
  forward_model model = model_view(view->model);
  forward_observer observer = {view, keep_queries};
  for (; view->n_done < n; view->n_done += view->n_rows) {
    size_t first = view->n_done;
    view->n_rows = n - first < scratch->n_rows_max ? n - first : scratch->n_rows_max;
    sequence_slice slice = {&view->cache, 0, view->n_rows, first};
    forward_batch batch = {.slices = &slice,
                           .n_slices = 1,
                           .n_rows = view->n_rows,
                           .tokens = tokens + first,
                           .observer = &observer};
    onekv_status status = forward(&model, scratch, &batch);
    if (status != ONEKV_OK) return status;
    make_keys(view, first, first + view->n_rows);
    kv_cache_advance(&view->cache, tokens + first, view->n_rows);
  }
  return ONEKV_OK;
}

/* A token's row of n: only the positions [first, end) are seen. */
static void make_weights(float *scores, size_t first, size_t end, size_t n) {
  float most = -INFINITY;
  float sum = 0.0f;
  for (size_t i = first; i < end; i++) {
    if (scores[i] > most) most = scores[i];
  }
  for (size_t i = first; i < end; i++) {
    scores[i] = expf(scores[i] - most);
    sum += scores[i];
  }
  for (size_t i = first; i < end; i++) scores[i] /= sum;
  for (size_t i = 0; i < first; i++) scores[i] = 0.0f;
  for (size_t i = end; i < n; i++) scores[i] = 0.0f;
}

void onekv_attention_softmax(const onekv_model *model, size_t layer, size_t n, float *scores) {
  size_t window = config_kind(&model->config, layer)->window;
  for (size_t row = 0; row < n; row++) {
    size_t first = window > 0 && row + 1 > window ? row + 1 - window : 0;
    make_weights(scores + row * n, first, row + 1, n);
  }
}

onekv_status onekv_attention_scores(onekv_model *model, const int32_t *tokens, size_t n,
                                    size_t layer, size_t head, bool keys_as_queries, float *scores,
                                    onekv_error *error) {
  const onekv_config *config = &model->config;
  if (!config->causal) {
    return error_set(error, ONEKV_WRONG_STATE, "attention can be shown for causal models only");
  }
  size_t n_heads = layer < config->n_layers ? config_kind(config, layer)->n_heads : 0;
  if (n_heads > 0 && config_kind(config, layer)->n_taps > 0) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "layer %zu is a convolution: it does not attend", layer);
  }
  if (head >= n_heads) {
    return error_set(error, ONEKV_INVALID_ARGUMENT,
                     "layer %zu, head %zu: expected less than %zu and %zu", layer, head,
                     config->n_layers, n_heads);
  }
  if (n == 0 || n > model->context_window) {
    return error_set(error, ONEKV_INVALID_ARGUMENT, "tokens: found %zu, expected 1 to %zu", n,
                     model->context_window);
  }
  for (size_t i = 0; i < n; i++) {
    if (tokens[i] >= 0 && (size_t)tokens[i] < config->n_vocabulary) continue;
    return error_set(error, ONEKV_TOKEN_OUT_OF_RANGE, "token %zu: found %d, expected 0 to %zu", i,
                     (int)tokens[i], config->n_vocabulary - 1);
  }
  inspection view = {.model = model, .layer = layer, .head = head};
  view.kind = config_kind(config, layer);
  view.kv_head = head * view.kind->n_kv_heads / n_heads;
  onekv_status status = open_inspection(&view, n);
  if (status != ONEKV_OK) return error_set(error, status, "no memory for %zu tokens", n);
  status = inspect(&view, tokens, n);
  const float *rows = keys_as_queries ? view.keys : view.queries;
  for (size_t row = 0; row < n && status == ONEKV_OK; row++) {
    write_scores(&view, rows + row * view.kind->key_width, n, scores + row * n);
  }
  close_inspection(&view);
  return model_refuse(status, error);
}

onekv_status onekv_attention_map(onekv_model *model, const int32_t *tokens, size_t n,
                                 size_t layer, size_t head, float *weights,
                                 onekv_error *error) {
  onekv_status status =
      onekv_attention_scores(model, tokens, n, layer, head, false, weights, error);
  if (status == ONEKV_OK) onekv_attention_softmax(model, layer, n, weights);
  return status;
}
