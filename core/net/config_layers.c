/* Which layers of a model differ, and in what: the kinds behind the first. */
#include "core/net/config_layers.h"

#include <math.h>

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
  kind->rope.base = row->window_rope_base;
  kind->rope.scaling = ONEKV_ROPE_UNSCALED;
  kind->rope.factor = 1.0f;
  kind->rope.attention_factor = 1.0f;
  read_number(reader, "rope.freq_base_swa", false, 1.0f, 1e12f, &kind->rope.base);
}

void read_windows(key_reader *reader, const architecture_row *row, onekv_config *config) {
  uint32_t has_window[ONEKV_LAYERS_MAX];
  size_t window = 0;
  size_t n_windowed = 0;
  if (!row->has_windows) return;
  read_size(reader, "attention.sliding_window", false, 0, (size_t)WIDTH_MAX * 16, &window);
  if (window == 0) return;
  read_pattern(reader, row, config->n_layers, has_window);
  if (reader->status != ONEKV_OK) return;
  for (size_t n = 0; n < config->n_layers; n++) n_windowed += has_window[n];
  if (n_windowed == 0) return;
  bool is_alone = n_windowed == config->n_layers;
  size_t index = is_alone ? 0 : config->n_kinds++;
  config->kinds[index] = config->kinds[0];
  read_windowed_kind(reader, row, window, &config->kinds[index]);
  for (size_t n = 0; n < config->n_layers; n++) {
    if (has_window[n]) config->kind_of[n] = (uint8_t)index;
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
