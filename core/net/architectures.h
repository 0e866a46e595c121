/* Architectures: what general.architecture alone says of a model, one row each.
 *
 * This table is the only place that knows their names. Keys of the file override a row's defaults
 * (models/FORMAT.md); config.c turns both into a description. To add an architecture is to add a
 * row, and what it has that no row had yet: a field here, a slot in tensors.c, a field of
 * layer_kind. */
#ifndef ONEKV_ARCHITECTURES_H
#define ONEKV_ARCHITECTURES_H

#include "core/net/config.h"

typedef struct architecture_row {
  const char *name;
  onekv_norm norm;
  unsigned norm_places; /* onekv_norm_place */
  onekv_position position;
  bool rope_halves;
  onekv_activation activation;
  bool is_gated;
  bool causal;
  bool scales_embedding;  /* token rows are multiplied by √d */
  float embedding_scale;  /* or by this; 0: by nothing */
  float depth_scale;      /* s: branches are multiplied by s/√layers; 0: by nothing */
  float width_base;       /* b: logits are multiplied by b/d; 0: by nothing */
  float latent_epsilon;   /* of the norms of latents, whose key no file has; 0: no latents */
  bool has_multipliers;   /* embedding_scale, residual_scale, attention.scale, logit_scale and
                             rope.scaling.finetuned are looked at */
  bool has_temperature;   /* attention.temperature_scale is looked at */
  bool norms_rows;        /* queries, and keys, are normed over all their heads at once */
  bool norms_rotated;     /* they are normed after the rotation */
  size_t plain_period;    /* every n-th layer has no positions; 0: none */
  bool has_windows;       /* attention.sliding_window is looked at */
  size_t window_period;   /* every n-th layer sees all positions; 0: all have a window */
  float window_rope_base; /* of layers with a window, unscaled; 0: they rotate as the others do */
  float score_divisor;    /* 1/α; 0: √k */
  bool norms_values;      /* values are normed without a gain */
  bool values_may_be_keys; /* a layer without attn_v is K=V, rotated at read */
  bool has_layer_scales;  /* layer_output_scale, where the file has it */
  bool has_per_layer;     /* embedding_length_per_layer_input is looked at */
  bool has_softcap;       /* final_logit_softcapping is looked at */
  bool has_convolutions;  /* layers without KV heads are gated short convolutions */
  bool misnames_norm;     /* the last norm is token_embd_norm */
  bool embeds_types;      /* rows of tokens get the first token type's, and are normed */
  bool needs_biases;      /* every matrix and every norm has one; else those that are there */
  bool has_no_head;       /* rows of outputs are the last layer's x */
} architecture_row;

/* The row of that name; NULL when there is none. */
const architecture_row *architecture_find(gguf_string name);

/* "gpt2, llama, … or onekv-vit", for messages. Returns out. */
const char *architecture_list(char *out, size_t n_max);

#endif
