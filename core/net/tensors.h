/* Tensors of a file as data: which there are, where they go, of what shape, and when.
 *
 * One slot per tensor. weights.c binds a model by walking over the two lists; to give layers a new
 * tensor is to add a field to layer_weights and a row here. The table in models/FORMAT.md says the
 * same in prose. */
#ifndef ONEKV_TENSORS_H
#define ONEKV_TENSORS_H

#include "core/net/weights.h"

typedef enum slot_holds {
  SLOT_MATRIX, /* "{stem}.weight" that multiplies activations, and "{stem}.bias" if it is there */
  SLOT_FACTOR, /* the same without a bias */
  SLOT_HEADS,  /* the same, of which each head multiplies some rows (matmul_heads) */
  SLOT_TABLE,  /* rows that are looked up */
  SLOT_LEFT,   /* the same, so many that they are left in the file where it can be read later */
  SLOT_NORM,   /* a gain, and with LayerNorm a bias */
  SLOT_VECTOR  /* numbers as f32, of one row as a rule */
} slot_holds;

/* Rows and columns of a tensor, in terms of the description and the layer's kind. */
typedef enum slot_extent {
  EXTENT_ONE,
  EXTENT_D,       /* width of the residual stream */
  EXTENT_QUERIES, /* of all query heads, as they are projected */
  EXTENT_MEETING, /* H·k: queries as they meet the cache */
  EXTENT_KEYS,    /* g·k */
  EXTENT_VALUES,  /* g·v */
  EXTENT_SUMS,    /* H·v: what attention gives */
  EXTENT_HEADS,   /* outputs of all heads */
  EXTENT_QUERY_NORM, /* k, or H·k where queries are normed over all heads */
  EXTENT_KEY_NORM,   /* k, or g·k */
  EXTENT_MLP,     /* I */
  EXTENT_RANK,        /* of the cached latent */
  EXTENT_QUERY_RANK,  /* of the queries' latent */
  EXTENT_PLAIN,       /* of a query head's part without a position */
  EXTENT_LATENT_KEYS, /* H·rank */
  EXTENT_LATENT_ALL,  /* H·(plain + value) */
  EXTENT_CONTEXT, /* longest sequence of the file */
  EXTENT_VOCABULARY,
  EXTENT_TYPES,
  EXTENT_FEATURES,
  EXTENT_OUTPUTS,
  EXTENT_PER_LAYER, /* P: width of a layer's own input */
  EXTENT_ALL_LAYERS, /* P times the number of layers */
  EXTENT_CONVOLUTION, /* 3·d: what a convolution's layer projects x to; 0 in others */
  EXTENT_TAPS,
  EXTENT_PAIRS /* rotated elements / 2, of layers without a window */
} slot_extent;

typedef enum slot_when {
  WHEN_ALWAYS,
  WHEN_ATTENTION,   /* the layer attends */
  WHEN_CONVOLUTION, /* or is a convolution */
  WHEN_TOKENS_TIED,  /* input is tokens, and their embedding is the head */
  WHEN_TOKENS_APART, /* input is tokens, and there is another head, or none */
  WHEN_TYPES,
  WHEN_FEATURES,     /* input is features */
  WHEN_CLASS_ROW,
  WHEN_LEARNED, /* learned positions */
  WHEN_ROPE,    /* may be there under RoPE */
  WHEN_HEAD_APART,
  WHEN_LAST_NORM,
  WHEN_LAST_NORM_MISNAMED,
  WHEN_NORM_BEFORE, /* branches are normed before */
  WHEN_NORM_AFTER,  /* branches are normed after */
  WHEN_NORM_SUM,    /* the sums with them are */
  WHEN_OWN_QUERY,   /* not Q=K, and from x */
  WHEN_QUERY_RANK,  /* queries come from a latent */
  WHEN_OWN_CACHE,   /* the layer reads its own cache, and has no latent */
  WHEN_OWN_VALUE,   /* not K=V, and its own cache */
  WHEN_LATENT,
  WHEN_LATENT_SPLIT,  /* its two matrices of heads stand apart */
  WHEN_LATENT_JOINED, /* or in one */
  WHEN_QK_NORM,
  WHEN_KEY_NORM,    /* the same, and its own cache */
  WHEN_LAYER_SCALE,
  WHEN_PER_LAYER,   /* layers have inputs of their own */
  WHEN_SCORE_MAP,
  WHEN_GATED
} slot_when;

typedef struct tensor_slot {
  const char *stem; /* without "blk.N." and ".weight" */
  uint16_t field;   /* offset in layer_weights or model_weights */
  slot_holds holds;
  slot_extent rows, columns; /* of a norm: columns */
  slot_when when;
} tensor_slot;

typedef struct slot_list {
  const tensor_slot *slots;
  size_t n;
} slot_list;

slot_list model_slots(void); /* fields of model_weights */
slot_list layer_slots(void); /* fields of layer_weights */

/* For model_slots: the first kind, and layer 0. */
size_t slot_extent_of(slot_extent extent, const onekv_config *config, const layer_kind *kind);
bool slot_applies(slot_when when, const onekv_config *config, size_t layer);
/* It is a tensor of the layer's own cache, which files may have although the layer does not use it,
 * reading another's. */
bool slot_is_of_cache(slot_when when);
/* A file of a model to which the slot applies may still lack the tensor. */
bool slot_is_optional(slot_when when);

#endif
