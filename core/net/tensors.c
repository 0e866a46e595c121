/* Tensors of a file: the two lists, and what their extents and conditions mean. */
#include "core/net/tensors.h"

#include <stddef.h>

#define FIELD(field) (uint16_t)offsetof(model_weights, field)
static const tensor_slot MODEL[] = {
    {"token_embd", FIELD(token_embedding), SLOT_FACTOR, EXTENT_VOCABULARY, EXTENT_D,
     WHEN_TOKENS_TIED},
    {"token_embd", FIELD(token_embedding), SLOT_TABLE, EXTENT_VOCABULARY, EXTENT_D,
     WHEN_TOKENS_APART},
    {"token_types", FIELD(token_types), SLOT_TABLE, EXTENT_TYPES, EXTENT_D, WHEN_TYPES},
    {"token_embd_norm", FIELD(embedding_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_TYPES},
    {"input_proj", FIELD(input_projection), SLOT_MATRIX, EXTENT_D, EXTENT_FEATURES, WHEN_FEATURES},
    {"cls_embd", FIELD(class_row), SLOT_VECTOR, EXTENT_ONE, EXTENT_D, WHEN_CLASS_ROW},
    {"position_embd", FIELD(position_embedding), SLOT_TABLE, EXTENT_CONTEXT, EXTENT_D,
     WHEN_LEARNED},
    {"rope_freqs", FIELD(rope_frequencies), SLOT_VECTOR, EXTENT_ONE, EXTENT_PAIRS, WHEN_ROPE},
    {"rope_factors_long", FIELD(rope_factors_long), SLOT_VECTOR, EXTENT_ONE, EXTENT_PAIRS,
     WHEN_ROPE},
    {"rope_factors_short", FIELD(rope_factors_short), SLOT_VECTOR, EXTENT_ONE, EXTENT_PAIRS,
     WHEN_ROPE},
    {"per_layer_token_embd", FIELD(per_layer_embedding), SLOT_LEFT, EXTENT_VOCABULARY,
     EXTENT_ALL_LAYERS, WHEN_PER_LAYER},
    {"per_layer_model_proj", FIELD(per_layer_projection), SLOT_FACTOR, EXTENT_ALL_LAYERS, EXTENT_D,
     WHEN_PER_LAYER},
    {"per_layer_proj_norm", FIELD(per_layer_norm), SLOT_VECTOR, EXTENT_ONE, EXTENT_PER_LAYER,
     WHEN_PER_LAYER},
    {"output_norm", FIELD(output_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_LAST_NORM},
    {"token_embd_norm", FIELD(output_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D,
     WHEN_LAST_NORM_MISNAMED},
    {"output", FIELD(head), SLOT_MATRIX, EXTENT_OUTPUTS, EXTENT_D, WHEN_HEAD_APART},
};
#undef FIELD

#define FIELD(field) (uint16_t)offsetof(layer_weights, field)
static const tensor_slot LAYER[] = {
    {"attn_norm", FIELD(attention_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_NORM_BEFORE},
    {"attn_q", FIELD(query), SLOT_MATRIX, EXTENT_QUERIES, EXTENT_D, WHEN_OWN_QUERY},
    {"attn_q_a", FIELD(query_down), SLOT_MATRIX, EXTENT_QUERY_RANK, EXTENT_D, WHEN_QUERY_RANK},
    {"attn_q_a_norm", FIELD(query_latent_norm), SLOT_VECTOR, EXTENT_ONE, EXTENT_QUERY_RANK,
     WHEN_QUERY_RANK},
    {"attn_q_b", FIELD(query), SLOT_MATRIX, EXTENT_QUERIES, EXTENT_QUERY_RANK, WHEN_QUERY_RANK},
    {"attn_kv_a_mqa", FIELD(key), SLOT_MATRIX, EXTENT_KEYS, EXTENT_D, WHEN_LATENT},
    {"attn_kv_a_norm", FIELD(latent_norm), SLOT_VECTOR, EXTENT_ONE, EXTENT_RANK, WHEN_LATENT},
    {"attn_k_b", FIELD(latent_key), SLOT_HEADS, EXTENT_LATENT_KEYS, EXTENT_PLAIN,
     WHEN_LATENT_SPLIT},
    {"attn_v_b", FIELD(latent_value), SLOT_HEADS, EXTENT_HEADS, EXTENT_RANK, WHEN_LATENT_SPLIT},
    {"attn_kv_b", FIELD(latent_both), SLOT_HEADS, EXTENT_LATENT_ALL, EXTENT_RANK,
     WHEN_LATENT_JOINED},
    {"attn_k", FIELD(key), SLOT_MATRIX, EXTENT_KEYS, EXTENT_D, WHEN_OWN_CACHE},
    {"attn_v", FIELD(value), SLOT_MATRIX, EXTENT_VALUES, EXTENT_D, WHEN_OWN_VALUE},
    {"attn_q_norm", FIELD(query_norm), SLOT_VECTOR, EXTENT_ONE, EXTENT_QUERY_NORM, WHEN_QK_NORM},
    {"attn_k_norm", FIELD(key_norm), SLOT_VECTOR, EXTENT_ONE, EXTENT_KEY_NORM, WHEN_KEY_NORM},
    {"attn_score_scale", FIELD(score_scale), SLOT_VECTOR, EXTENT_ONE, EXTENT_ONE, WHEN_SCORE_MAP},
    {"attn_key_bias", FIELD(key_bias), SLOT_VECTOR, EXTENT_ONE, EXTENT_CONTEXT, WHEN_SCORE_MAP},
    {"attn_output", FIELD(output), SLOT_MATRIX, EXTENT_D, EXTENT_HEADS, WHEN_ATTENTION},
    {"shortconv.in_proj", FIELD(convolution), SLOT_FACTOR, EXTENT_CONVOLUTION, EXTENT_D,
     WHEN_CONVOLUTION},
    {"shortconv.conv", FIELD(taps), SLOT_VECTOR, EXTENT_D, EXTENT_TAPS, WHEN_CONVOLUTION},
    {"shortconv.out_proj", FIELD(output), SLOT_FACTOR, EXTENT_D, EXTENT_HEADS, WHEN_CONVOLUTION},
    {"post_attention_norm", FIELD(attention_post_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D,
     WHEN_NORM_AFTER},
    {"attn_output_norm", FIELD(attention_sum_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D,
     WHEN_NORM_SUM},
    {"ffn_norm", FIELD(mlp_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_NORM_BEFORE},
    {"ffn_gate", FIELD(gate), SLOT_MATRIX, EXTENT_MLP, EXTENT_D, WHEN_GATED},
    {"ffn_up", FIELD(up), SLOT_MATRIX, EXTENT_MLP, EXTENT_D, WHEN_ALWAYS},
    {"ffn_down", FIELD(down), SLOT_MATRIX, EXTENT_D, EXTENT_MLP, WHEN_ALWAYS},
    {"post_ffw_norm", FIELD(mlp_post_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_NORM_AFTER},
    {"layer_output_norm", FIELD(mlp_sum_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_NORM_SUM},
    {"inp_gate", FIELD(per_layer_gate), SLOT_FACTOR, EXTENT_PER_LAYER, EXTENT_D, WHEN_PER_LAYER},
    {"proj", FIELD(per_layer_back), SLOT_FACTOR, EXTENT_D, EXTENT_PER_LAYER, WHEN_PER_LAYER},
    {"post_norm", FIELD(per_layer_norm), SLOT_NORM, EXTENT_ONE, EXTENT_D, WHEN_PER_LAYER},
    {"layer_output_scale", FIELD(output_scale), SLOT_VECTOR, EXTENT_ONE, EXTENT_ONE,
     WHEN_LAYER_SCALE},
};
#undef FIELD

slot_list model_slots(void) { return (slot_list){MODEL, sizeof MODEL / sizeof MODEL[0]}; }
slot_list layer_slots(void) { return (slot_list){LAYER, sizeof LAYER / sizeof LAYER[0]}; }

size_t slot_extent_of(slot_extent extent, const onekv_config *config, const layer_kind *kind) {
  switch (extent) {
    case EXTENT_D: return config->n_embedding;
    case EXTENT_QUERIES: return kind->n_heads * kind_query_width(kind);
    case EXTENT_MEETING: return kind->n_heads * kind->key_width;
    case EXTENT_KEYS: return kind->n_kv_heads * kind->key_width;
    case EXTENT_VALUES: return kind->n_kv_heads * kind->value_width;
    case EXTENT_SUMS: return kind->n_heads * kind->value_width;
    case EXTENT_HEADS: return kind->n_heads * kind_output_width(kind);
    case EXTENT_QUERY_NORM: return kind->key_width * (config->norms_rows ? kind->n_heads : 1);
    case EXTENT_KEY_NORM: return kind->key_width * (config->norms_rows ? kind->n_kv_heads : 1);
    case EXTENT_MLP: return kind->n_feed_forward;
    case EXTENT_RANK: return kind->latent.rank;
    case EXTENT_QUERY_RANK: return kind->latent.query_rank;
    case EXTENT_PLAIN: return kind->latent.plain;
    case EXTENT_LATENT_KEYS: return kind->n_heads * kind->latent.rank;
    case EXTENT_LATENT_ALL: return kind->n_heads * (kind->latent.plain + kind->latent.value);
    case EXTENT_CONTEXT: return config->context_window;
    case EXTENT_VOCABULARY: return config->n_vocabulary;
    case EXTENT_TYPES: return config->n_token_types;
    case EXTENT_FEATURES: return config->n_features;
    case EXTENT_OUTPUTS: return config->n_outputs;
    case EXTENT_PER_LAYER: return config->n_per_layer;
    case EXTENT_ALL_LAYERS: return config->n_per_layer * config->n_layers;
    case EXTENT_CONVOLUTION: return kind->n_taps > 0 ? 3 * config->n_embedding : 0;
    case EXTENT_TAPS: return kind->n_taps;
    case EXTENT_PAIRS: return kind->rope.n_rotated / 2;
    case EXTENT_ONE: return 1;
  }
  return 0;
}

bool slot_applies(slot_when when, const onekv_config *config, size_t layer) {
  const layer_kind *kind = config_kind(config, layer);
  bool attends = kind->n_taps == 0;
  bool has_own_cache = config->cached_by[layer] == layer;
  bool takes_tokens = config->n_vocabulary > 0;
  bool is_tied = config->has_head && !config->has_separate_head;
  bool norms_sums = (config->norm_places & ONEKV_NORM_SUM) != 0;
  switch (when) {
    case WHEN_ALWAYS: return true;
    case WHEN_ATTENTION: return attends;
    case WHEN_CONVOLUTION: return !attends;
    case WHEN_LAST_NORM: return !config->misnames_norm && !norms_sums;
    case WHEN_LAST_NORM_MISNAMED: return config->misnames_norm;
    case WHEN_TOKENS_TIED: return takes_tokens && is_tied;
    case WHEN_TOKENS_APART: return takes_tokens && !is_tied;
    case WHEN_TYPES: return config->n_token_types > 0;
    case WHEN_FEATURES: return config->n_vocabulary == 0;
    case WHEN_CLASS_ROW: return config->has_class_row;
    case WHEN_LEARNED: return config->position == ONEKV_LEARNED;
    case WHEN_ROPE: return config->position == ONEKV_ROPE;
    case WHEN_HEAD_APART: return config->has_separate_head;
    case WHEN_NORM_BEFORE: return (config->norm_places & ONEKV_NORM_BEFORE) != 0;
    case WHEN_NORM_AFTER: return (config->norm_places & ONEKV_NORM_AFTER) != 0;
    case WHEN_NORM_SUM: return norms_sums;
    case WHEN_OWN_QUERY: return attends && !kind->query_is_key && kind->latent.query_rank == 0;
    case WHEN_QUERY_RANK: return kind->latent.query_rank > 0;
    case WHEN_OWN_CACHE: return attends && has_own_cache && kind->latent.rank == 0;
    case WHEN_OWN_VALUE: return has_own_cache && !kind->shares_row;
    case WHEN_LATENT: return kind->latent.rank > 0;
    case WHEN_LATENT_SPLIT: return kind->latent.rank > 0 && !config->has_joined_latent;
    case WHEN_LATENT_JOINED: return kind->latent.rank > 0 && config->has_joined_latent;
    case WHEN_QK_NORM: return attends && config->has_qk_norm;
    case WHEN_KEY_NORM: return attends && config->has_qk_norm && has_own_cache;
    case WHEN_LAYER_SCALE: return config->has_layer_scale;
    case WHEN_PER_LAYER: return config->n_per_layer > 0;
    case WHEN_SCORE_MAP: return attends && config->has_score_map;
    case WHEN_GATED: return config->is_gated;
  }
  return false;
}

bool slot_is_of_cache(slot_when when) {
  return when == WHEN_OWN_CACHE || when == WHEN_OWN_VALUE || when == WHEN_KEY_NORM;
}

bool slot_is_optional(slot_when when) { return when == WHEN_ROPE; }
