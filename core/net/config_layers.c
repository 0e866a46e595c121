/* In what layers of a model differ: the kinds of its layers, and whose cache they read. */
#include "core/net/config_layers.h"

#include <math.h>

enum { TAPS_MAX = 32 /* of a short convolution */ };

/* What a file says of each layer. */
typedef struct layer_lists {
  uint32_t has_window[ONEKV_LAYERS_MAX];
  uint32_t n_kv_heads[ONEKV_LAYERS_MAX];
  uint32_t n_feed_forward[ONEKV_LAYERS_MAX];
} layer_lists;

/* Whether each layer has a window: the pattern's array, or its period n, which says that every n-th
 * layer has none; 0: all layers have one. */
static void read_pattern(key_reader *reader, const architecture_row *row, size_t n_layers,
                         uint32_t *has_window) {
  const char *suffix = "attention.sliding_window_pattern";
  if (reader->status != ONEKV_OK) return;
  const gguf_value *value = gguf_find(reader->file, architecture_key(reader, suffix));
  if (value != NULL && value->type == GGUF_ARRAY) {
    read_per_layer(reader, suffix, true, 0, 1, n_layers, has_window);
    return;
  }
  size_t period = row->window_period;
  read_size(reader, suffix, false, 0, ONEKV_LAYERS_MAX, &period);
  for (size_t n = 0; n < n_layers; n++) has_window[n] = period == 0 || (n + 1) % period != 0;
}

/* What a layer with a window has of its own beside it. */
static void read_windowed_kind(key_reader *reader, const architecture_row *row, size_t window,
                               layer_kind *kind) {
  kind->window = window;
  if (row->window_rope_base == 0.0f) return;
  size_t width = kind->key_width;
  read_size(reader, "attention.key_length_swa", false, 1, WIDTH_MAX, &kind->key_width);
  kind->value_width = kind->key_width;
  read_size(reader, "attention.value_length_swa", false, 1, WIDTH_MAX, &kind->value_width);
  require(reader, kind->value_width == kind->key_width,
          "attention.value_length_swa differs from attention.key_length_swa");
  require(reader, kind->n_heads * kind->key_width <= WIDTH_MAX,
          "attention.head_count times key_length_swa is too large");
  if (row->score_divisor == 0.0f) kind->score_divisor = sqrtf((float)kind->key_width);
  onekv_rope *rope = &kind->rope;
  if (kind->key_width != width) rope->n_rotated = kind->key_width;
  read_size(reader, "rope.dimension_count_swa", false, 2, kind->key_width, &rope->n_rotated);
  require(reader, rope->n_rotated % 2 == 0 && rope->n_rotated <= kind->key_width,
          "rope.dimension_count_swa is odd, or more than attention.key_length_swa");
  rope->has_divisors = false;
  rope->base = row->window_rope_base;
  rope->scaling = ONEKV_ROPE_UNSCALED;
  rope->factor = 1.0f;
  rope->attention_factor = 1.0f;
  read_number(reader, "rope.freq_base_swa", false, 1.0f, 1e12f, &rope->base);
}

static void read_lists(key_reader *reader, const architecture_row *row,
                       const onekv_config *config, layer_lists *lists) {
  size_t n_layers = config->n_layers;
  const layer_kind *base = &config->kinds[0];
  for (size_t n = 0; n < n_layers; n++) {
    lists->has_window[n] = 0;
    lists->n_kv_heads[n] = (uint32_t)base->n_kv_heads;
  }
  read_per_layer(reader, "feed_forward_length", true, 1, WIDTH_MAX, n_layers,
                 lists->n_feed_forward);
  if (base->latent.rank == 0) { /* else one row is the only KV head, whatever the key says */
    read_per_layer(reader, "attention.head_count_kv", false, row->has_convolutions ? 0 : 1,
                   (uint32_t)base->n_heads, n_layers, lists->n_kv_heads);
  }
  for (size_t n = 0; n < n_layers && reader->status == ONEKV_OK; n++) {
    require(reader, lists->n_kv_heads[n] == 0 || base->n_heads % lists->n_kv_heads[n] == 0,
            "attention.head_count must be a multiple of attention.head_count_kv");
  }
}

/* The last layers may read the caches of earlier ones: of the last layer before them that has a
 * window, or has none, as they do. */
static void read_sources(key_reader *reader, const layer_lists *lists, onekv_config *config) {
  size_t n_shared = 0;
  for (size_t n = 0; n < config->n_layers; n++) config->cached_by[n] = (uint16_t)n;
  read_size(reader, "attention.shared_kv_layers", false, 0, config->n_layers - 1, &n_shared);
  if (reader->status != ONEKV_OK) return;
  size_t n_own = config->n_layers - n_shared;
  for (size_t n = n_own; n < config->n_layers; n++) {
    size_t source = n_own;
    while (source > 0 && lists->has_window[source - 1] != lists->has_window[n]) source--;
    require(reader, source > 0, "attention.shared_kv_layers leaves no layer to read from");
    if (source == 0) return;
    require(reader, lists->n_kv_heads[source - 1] == lists->n_kv_heads[n],
            "attention.head_count_kv of a layer that reads another's cache differs from that");
    config->cached_by[n] = (uint16_t)(source - 1);
  }
}

/* The values of the layer are its keys as they were projected: it has no projection for them. */
static bool has_no_values(const key_reader *reader, size_t layer) {
  char name[GGUF_NAME_MAX];
  text_format(name, sizeof name, "blk.%zu.attn_v.weight", layer);
  return gguf_find_tensor(reader->file, name) == NULL;
}

/* The number of that kind, which becomes one of the model's when it is new. */
static uint8_t find_kind(key_reader *reader, onekv_config *config, const layer_kind *kind) {
  for (size_t i = 0; i < config->n_kinds; i++) {
    const layer_kind *known = &config->kinds[i];
    if (known->window == kind->window && known->n_kv_heads == kind->n_kv_heads &&
        known->n_feed_forward == kind->n_feed_forward && known->shares_row == kind->shares_row &&
        known->n_taps == kind->n_taps &&
        known->rope.n_rotated == kind->rope.n_rotated) {
      return (uint8_t)i;
    }
  }
  require(reader, config->n_kinds < ONEKV_KINDS_MAX, "its layers are of more than 8 kinds");
  if (reader->status != ONEKV_OK) return 0;
  config->kinds[config->n_kinds] = *kind;
  return (uint8_t)config->n_kinds++;
}

/* Positions that a query sees in layers with a window; 0: no layer has one. A window as long as the
 * longest text hides nothing: it counts only where its layers differ in other things too. */
static size_t read_window(key_reader *reader, const architecture_row *row, size_t context_window) {
  size_t window = 0;
  read_size(reader, "attention.sliding_window", false, 0, (size_t)WIDTH_MAX * 16, &window);
  if (window >= context_window && row->window_rope_base == 0.0f) return 0;
  if (reader->status != ONEKV_OK || window == 0 || row->has_windows) return window;
  reader->status = error_set(reader->error, ONEKV_UNSUPPORTED_MODEL,
                             "key %s.attention.sliding_window: found %zu, expected none: layers "
                             "with a window are not supported in %s models",
                             reader->architecture, window, reader->architecture);
  return 0;
}

/* A layer without KV heads: a convolution, whose window are its taps. */
static layer_kind convolution(key_reader *reader, const onekv_config *config) {
  layer_kind kind = {.n_heads = 1,
                     .n_kv_heads = 1,
                     .key_width = config->n_embedding,
                     .value_width = config->n_embedding,
                     .shares_row = true,
                     .keys = KEYS_AT_WRITE,
                     .score_divisor = 1.0f};
  read_size(reader, "shortconv.l_cache", true, 2, TAPS_MAX, &kind.n_taps);
  kind.window = kind.n_taps;
  return kind;
}

/* The kind of layer n; attending: what layers that attend, and have a window as it does, have in
 * common. */
static layer_kind kind_of_layer(key_reader *reader, const architecture_row *row,
                                const onekv_config *config, const layer_lists *lists, size_t n,
                                const layer_kind *attending) {
  layer_kind kind = *attending;
  kind.n_kv_heads = lists->n_kv_heads[n];
  if (kind.n_kv_heads == 0) kind = convolution(reader, config);
  kind.n_feed_forward = lists->n_feed_forward[n];
  bool is_plain = row->plain_period > 0 && (n + 1) % row->plain_period == 0;
  if (is_plain) kind.rope.n_rotated = 0;
  if (row->values_may_be_keys && has_no_values(reader, config->cached_by[n])) {
    require(reader, kind.value_width == kind.key_width,
            "attention.value_length differs from attention.key_length, and K=V");
    kind.shares_row = true;
    kind.keys = KEYS_AT_READ;
  }
  return kind;
}

void read_kinds(key_reader *reader, const architecture_row *row, onekv_config *config) {
  layer_lists lists;
  if (reader->status != ONEKV_OK) return;
  layer_kind base[2] = {config->kinds[0], config->kinds[0]}; /* without and with a window */
  read_lists(reader, row, config, &lists);
  size_t window = read_window(reader, row, config->context_window);
  if (window > 0) {
    read_pattern(reader, row, config->n_layers, lists.has_window);
    read_windowed_kind(reader, row, window, &base[1]);
  }
  read_sources(reader, &lists, config);
  config->n_kinds = 0;
  for (uint32_t pass = 0; pass < 3; pass++) { /* without a window, with one, convolutions */
    for (size_t n = 0; n < config->n_layers && reader->status == ONEKV_OK; n++) {
      bool convolves = lists.n_kv_heads[n] == 0;
      if ((convolves ? 2 : lists.has_window[n]) != pass) continue;
      const layer_kind *attending = &base[lists.has_window[n]];
      layer_kind kind = kind_of_layer(reader, row, config, &lists, n, attending);
      config->kind_of[n] = find_kind(reader, config, &kind);
    }
  }
}

void read_latent(key_reader *reader, const onekv_config *config, layer_kind *kind) {
  latent_widths *latent = &kind->latent;
  size_t query = kind->key_width;
  size_t n_rotated = 0;
  bool has_row_widths = has_key(reader, "attention.key_length_mla");
  latent->value = kind->value_width;
  read_size(reader, "attention.kv_lora_rank", true, 1, WIDTH_MAX, &latent->rank);
  read_size(reader, "attention.q_lora_rank", false, 0, WIDTH_MAX, &latent->query_rank);
  read_size(reader, "attention.key_length_mla", false, 1, WIDTH_MAX, &query);
  read_size(reader, "attention.value_length_mla", false, 1, WIDTH_MAX, &latent->value);
  read_size(reader, "rope.dimension_count", true, 2, WIDTH_MAX, &n_rotated);
  size_t row = latent->rank + n_rotated;
  require(reader, n_rotated < query, "rope.dimension_count is the whole of a query's head or more");
  require(reader, !has_row_widths || kind->key_width == row,
          "attention.key_length is not attention.kv_lora_rank plus rope.dimension_count");
  require(reader, !kind->shares_row && !kind->query_is_key,
          "onekv.attention.projection does not go with attention.kv_lora_rank");
  require(reader, config->position == ONEKV_ROPE,
          "onekv.position.encoding does not go with attention.kv_lora_rank");
  require(reader, kind->n_heads * row <= WIDTH_MAX && kind->n_heads * query <= WIDTH_MAX &&
                      kind->n_heads * latent->value <= WIDTH_MAX,
          "attention.head_count times the width of a head or of a latent is too large");
  if (reader->status != ONEKV_OK) return;
  latent->plain = query - n_rotated;
  kind->n_kv_heads = 1;
  kind->key_width = row;
  kind->value_width = latent->rank;
  kind->shares_row = true;
  kind->rope.first = latent->rank;
  kind->score_divisor = sqrtf((float)query);
}
