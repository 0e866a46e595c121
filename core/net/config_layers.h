/* What differs between the layers of a model, read after what they have in common. */
#ifndef ONEKV_CONFIG_LAYERS_H
#define ONEKV_CONFIG_LAYERS_H

#include "core/net/architectures.h"
#include "core/net/config_keys.h"

/* The kinds of the layers, from the first, which holds what they have in common: those without a
 * window come first, convolutions last. Layers without positions are of kinds of their own. Also
 * whose cache each layer reads. A window is refused where the architecture has none. Keys:
 * feed_forward_length and attention.head_count_kv as arrays, attention.sliding_window,
 * .sliding_window_pattern, .key_length_swa, .value_length_swa and .shared_kv_layers,
 * rope.dimension_count_swa and .freq_base_swa, shortconv.l_cache. */
void read_kinds(key_reader *reader, const architecture_row *row, onekv_config *config);

/* Latent attention: turns a kind whose widths are those of the expanded heads into one of a cached
 * row (latent_widths). Keys: attention.kv_lora_rank, q_lora_rank, key_length_mla and
 * value_length_mla (newer files, whose key_length is the row's), rope.dimension_count. */
void read_latent(key_reader *reader, const onekv_config *config, layer_kind *kind);

#endif
