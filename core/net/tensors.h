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
  SLOT_TABLE,  /* rows that are looked up */
  SLOT_NORM,   /* a gain, and with LayerNorm a bias */
  SLOT_VECTOR
} slot_holds;

/* Rows and columns of a tensor, in terms of the description and the layer's kind. */
typedef enum slot_extent {
  EXTENT_ONE,
  EXTENT_D,       /* width of the residual stream */
  EXTENT_QUERIES, /* H·k */
  EXTENT_KEYS,    /* g·k */
  EXTENT_VALUES,  /* g·v */
  EXTENT_HEADS,   /* H·v: outputs of all heads */
  EXTENT_KEY,     /* k */
  EXTENT_MLP,     /* I */
  EXTENT_CONTEXT, /* longest sequence of the file */
  EXTENT_VOCABULARY,
  EXTENT_FEATURES,
  EXTENT_OUTPUTS,
  EXTENT_PAIRS /* rotated elements / 2, of layers without a window */
} slot_extent;

typedef enum slot_when {
  WHEN_ALWAYS,
  WHEN_TOKENS_TIED,  /* input is tokens, and their embedding is the head */
  WHEN_TOKENS_APART, /* input is tokens, and there is another head */
  WHEN_FEATURES,     /* input is features */
  WHEN_CLASS_ROW,
  WHEN_LEARNED, /* learned positions */
  WHEN_ROPE,    /* may be there under RoPE */
  WHEN_HEAD_APART,
  WHEN_NORM_BEFORE, /* branches are normed before */
  WHEN_NORM_AFTER,  /* branches are normed after */
  WHEN_OWN_QUERY,   /* not Q=K */
  WHEN_OWN_CACHE,   /* the layer reads its own cache */
  WHEN_OWN_VALUE,   /* not K=V, and its own cache */
  WHEN_QK_NORM,
  WHEN_SCORE_MAP,
  WHEN_GATED
} slot_when;

typedef struct tensor_slot {
  const char *stem; /* without "blk.N." and ".weight" */
  uint16_t field;   /* offset in layer_weights or model_weights */
  slot_holds holds;
  slot_extent rows, columns; /* of a norm or vector: columns */
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
/* A file of a model to which the slot applies may still lack the tensor. */
bool slot_is_optional(slot_when when);

#endif
