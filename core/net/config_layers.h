/* What differs between the layers of a model, read after what they have in common. */
#ifndef ONEKV_CONFIG_LAYERS_H
#define ONEKV_CONFIG_LAYERS_H

#include "core/net/architectures.h"
#include "core/net/config_keys.h"

/* Sliding windows: the kind of the layers that have one, beside the first kind, or in its place
 * where all have one. Keys: attention.sliding_window, attention.sliding_window_pattern and
 * rope.freq_base_swa. */
void read_windows(key_reader *reader, const architecture_row *row, onekv_config *config);

/* Latent attention: turns a kind whose widths are those of the expanded heads into one of a cached
 * row (latent_widths). Keys: attention.kv_lora_rank, q_lora_rank, key_length_mla and
 * value_length_mla (newer files, whose key_length is the row's), rope.dimension_count. */
void read_latent(key_reader *reader, const onekv_config *config, layer_kind *kind);

#endif
