/* Architectures: the table. */
#include "core/net/architectures.h"

#include <string.h>

static const architecture_row ROWS[] = {
    {.name = "gpt2",
     .norm = ONEKV_LAYER_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_LEARNED,
     .rope_halves = true,
     .activation = ONEKV_GELU_TANH,
     .causal = true},
    {.name = "llama",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .activation = ONEKV_SILU,
     .is_gated = true,
     .causal = true},
    {.name = "qwen2",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .rope_halves = true,
     .activation = ONEKV_SILU,
     .is_gated = true,
     .causal = true},
    {.name = "qwen3",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .rope_halves = true,
     .activation = ONEKV_SILU,
     .is_gated = true,
     .causal = true},
    {.name = "gemma3",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE | ONEKV_NORM_AFTER,
     .position = ONEKV_ROPE,
     .rope_halves = true,
     .activation = ONEKV_GELU_TANH,
     .is_gated = true,
     .causal = true,
     .scales_embedding = true,
     .has_windows = true,
     .window_period = 6,
     .window_rope_base = 10000.0f,
     .has_softcap = true},
    {.name = "gemma4",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE | ONEKV_NORM_AFTER,
     .position = ONEKV_ROPE,
     .rope_halves = true,
     .activation = ONEKV_GELU_TANH,
     .is_gated = true,
     .causal = true,
     .scales_embedding = true,
     .has_windows = true,
     .window_period = 6,
     .window_rope_base = 10000.0f,
     .score_divisor = 1.0f,
     .norms_values = true,
     .values_may_be_keys = true,
     .has_layer_scales = true,
     .has_per_layer = true,
     .has_softcap = true},
    {.name = "deepseek2",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .activation = ONEKV_SILU,
     .is_gated = true,
     .causal = true,
     .latent_epsilon = 1e-6f},
    {.name = "minicpm3",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .rope_halves = true,
     .activation = ONEKV_SILU,
     .is_gated = true,
     .causal = true,
     .embedding_scale = 12.0f,
     .depth_scale = 1.4f,
     .width_base = 256.0f,
     .latent_epsilon = 1e-6f},
    {.name = "plm",
     .norm = ONEKV_RMS_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_ROPE,
     .activation = ONEKV_RELU_SQUARED,
     .causal = true,
     .latent_epsilon = 1e-6f},
    {.name = "onekv-encoder",
     .norm = ONEKV_LAYER_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_LEARNED,
     .rope_halves = true,
     .activation = ONEKV_GELU_ERF},
    {.name = "onekv-vit",
     .norm = ONEKV_LAYER_NORM,
     .norm_places = ONEKV_NORM_BEFORE,
     .position = ONEKV_LEARNED,
     .rope_halves = true,
     .activation = ONEKV_GELU_ERF},
};

enum { ROWS_COUNT = sizeof ROWS / sizeof ROWS[0] };

const architecture_row *architecture_at(size_t index) {
  return index < ROWS_COUNT ? &ROWS[index] : NULL;
}

const architecture_row *architecture_find(gguf_string name) {
  for (size_t i = 0; i < ROWS_COUNT; i++) {
    bool has_length = strlen(ROWS[i].name) == name.n_bytes;
    if (has_length && memcmp(ROWS[i].name, name.bytes, name.n_bytes) == 0) return &ROWS[i];
  }
  return NULL;
}

const char *architecture_list(char *out, size_t n_max) {
  size_t n = 0;
  for (size_t i = 0; i < ROWS_COUNT && n < n_max; i++) {
    const char *before = i == 0 ? "" : i + 1 < ROWS_COUNT ? ", " : " or ";
    text_format(out + n, n_max - n, "%s%s", before, ROWS[i].name);
    n += strlen(out + n);
  }
  return out;
}
