/* The model description: one struct for every variant of the paper and every architecture.
 *
 * What all layers have in common are fields of onekv_config. What may differ between layers is a
 * field of a layer_kind: a model has a few kinds, and each layer names its kind and whose cache it
 * reads. Read from the metadata of a GGUF file (the keys are in models/FORMAT.md). After
 * config_read succeeded every field is in range and the fields fit together; the rest of core asks
 * these fields and never which paper variant or architecture it is running. */
#ifndef ONEKV_CONFIG_H
#define ONEKV_CONFIG_H

#include "core/base/gguf.h"
#include "core/kernels/kernels.h"

/* Which projections of a layer are one tensor; the paper's name for it. */
typedef enum onekv_sharing {
  ONEKV_SHARE_NONE, /* QKV:   softmax(α Q Kᵀ) V, eq. 1 */
  ONEKV_SHARE_KV,   /* Q-K=V: softmax(α Q Kᵀ) K, eq. 3 */
  ONEKV_SHARE_QK,   /* Q=K-V: softmax(α K Kᵀ) V, eq. 2 */
  ONEKV_SHARE_ALL   /* Q=K=V: softmax(α K Kᵀ) K, eq. 4 */
} onekv_sharing;

/* When a cached row becomes a key, that is, is normed and rotated as far as the layer does so. R is
 * RoPE by a row's position, N the RMSNorm of a head, c the row as it was projected. */
typedef enum key_time {
  KEYS_AT_WRITE, /* cached: R N(c); it is the key */
  KEYS_AT_READ,  /* cached: c, which is the value (K=V); the key R N(c) is made tile by tile */
  KEYS_AND_BACK  /* cached: R N(c), key and value (K=V); a head's output is rotated back by its
                    query's position */
} key_time;

/* How one cached tensor serves as key and as value under RoPE: what onekv.attention.shared_rope
 * says of a file. */
typedef enum onekv_shared_rope {
  ONEKV_ROTATE_AT_READ, /* KEYS_AT_READ */
  ONEKV_ROTATE_UNROTATE /* KEYS_AND_BACK */
} onekv_shared_rope;

typedef enum onekv_position { ONEKV_POSITION_NONE, ONEKV_LEARNED, ONEKV_ROPE } onekv_position;
typedef enum onekv_norm { ONEKV_LAYER_NORM, ONEKV_RMS_NORM } onekv_norm;

/* What is normed at a branch (attention, MLP); a set. */
typedef enum onekv_norm_place {
  ONEKV_NORM_BEFORE = 1, /* what it reads */
  ONEKV_NORM_AFTER = 2,  /* what it adds to the residual stream */
  ONEKV_NORM_SUM = 4     /* the residual stream, when that is added; then it has no last norm */
} onekv_norm_place;

typedef enum onekv_rope_scaling {
  ONEKV_ROPE_UNSCALED,
  ONEKV_ROPE_LINEAR,
  ONEKV_ROPE_YARN,
  ONEKV_ROPE_LONG /* LongRoPE (Ding et al. 2024): only by the file's lists of divisors */
} onekv_rope_scaling;

typedef struct onekv_rope {
  size_t first;     /* element of a head at which the rotated ones begin */
  size_t n_rotated; /* elements that are rotated; even, 0: no RoPE; the rest pass through */
  bool has_divisors; /* rope_freqs.weight divides the frequencies, where the file has it */
  bool halves;      /* pairs are (i, i + n_rotated/2) instead of (2i, 2i + 1) */
  float base;
  onekv_rope_scaling scaling;
  float factor; /* context is longer by this factor than trained; 1 without scaling */
  float attention_factor; /* magnitude m of cosines and sines; 1 but for YaRN */
  float beta_fast, beta_slow;
  size_t n_context_original; /* YaRN, LongRoPE: context before scaling */
} onekv_rope;

/* Latent attention (MLA; DeepSeek-V2, 2024, eq. 9 to 19) in absorbed form. A position's one cached
 * row is [c | κ]: c the normed latent, κ the key's rotated part. Query head i meets it as
 * [W_k,iᵀ q | R q'], so that the score is that of the key [W_k,i c | κ]; the value is c, and a
 * head's output is W_v,i Σ p c. κ and q' have rope.n_rotated elements. */
typedef struct latent_widths {
  size_t rank;       /* r: of c; 0: the layer has no latent, and the rest says nothing */
  size_t query_rank; /* of the latent that queries come from; 0: they come from x */
  size_t plain;      /* of q, the part of a query head without a position */
  size_t value;      /* of a head's output behind W_v */
} latent_widths;

/* Everything in which layers of one model differ. Widths are in elements. */
typedef struct layer_kind {
  size_t n_heads;      /* query heads H */
  size_t n_kv_heads;   /* H: MHA, 1: MQA, g: GQA-g; divides H */
  size_t key_width;    /* k: of a cached row of a KV head, and of the queries that meet it */
  size_t value_width;  /* v: of a value, and of a head's output */
  bool shares_row;     /* the value is a part of the key's row: one tensor is cached */
  size_t value_offset; /* where it begins there (K=V: 0, and v = k) */
  bool norms_values;   /* values are normed without a gain before they are cached; of K=V the row
                          is, and the key is that row times the gain of N, rotated */
  bool query_is_key;   /* Q=K: query head i is key head ⌊i·g/H⌋ */
  latent_widths latent;
  key_time keys;
  onekv_rope rope;
  size_t window;       /* positions that a query sees, its own included; 0: all before it */
  float score_divisor; /* 1/α: scores are q·k divided by it; √k unless the file says otherwise */
  size_t n_feed_forward; /* I */
  size_t n_taps; /* L of a gated short convolution in attention's place (short_conv.h); 0: none. Its
                    one cached row is of width d, and its window L */
} layer_kind;

enum { ONEKV_ARCHITECTURE_MAX = 16, ONEKV_KINDS_MAX = 8, ONEKV_LAYERS_MAX = 1024 };

typedef struct onekv_config {
  char architecture[ONEKV_ARCHITECTURE_MAX]; /* general.architecture */
  size_t n_layers;
  size_t context_window; /* longest sequence, class row included */
  size_t n_embedding; /* width d */
  size_t n_outputs;   /* vocabulary (always, when causal), or classes; from the head's shape; d
                         without a head */
  size_t n_vocabulary; /* input tokens; 0 when the input is features */
  size_t n_features;   /* width of an input row; 0 when the input is tokens */
  onekv_position position;
  onekv_norm norm;
  unsigned norm_places; /* onekv_norm_place */
  float norm_epsilon;
  float latent_epsilon; /* of the norms of latents */
  onekv_activation activation;
  bool is_gated;         /* MLP: down(act(gate(n)) · up(n)) instead of down(act(up(n))) */
  float embedding_scale; /* of token rows; 1: as they are */
  float residual_scale;  /* of what a branch adds to the residual stream; 1: as it is */
  float logit_scale;     /* of logits; 1: as they are */
  bool causal;
  bool has_class_row;    /* cls_embd is put before the input */
  bool pools_first;      /* logits of position 0 only */
  onekv_pooling pooling; /* of a text's rows to one vector; never DEFAULT */
  bool needs_biases;      /* every matrix and every norm has one; else those that are there */
  bool has_head;          /* else rows of outputs are the last layer's x, normed if it is */
  bool has_separate_head; /* output.weight; else tied to token_embd */
  size_t n_token_types;   /* rows of their table, of which the first is added to each token's row,
                             and the sum normed; 0: neither */
  bool has_qk_norm;
  bool norms_rows;      /* queries, and keys, are normed over all their heads at once */
  bool norms_rotated;   /* they are normed after the rotation */
  float temperature_scale;   /* β: queries of position p are multiplied by 1 + β ln(1 + ⌊p/n⌋); 0 */
  size_t temperature_length; /* n */
  bool misnames_norm;        /* the last norm is token_embd_norm */
  bool has_joined_latent; /* attn_kv_b holds what else attn_k_b and attn_v_b hold */
  bool has_layer_scale;   /* each layer's x is multiplied by a number at its end */
  float logit_softcap;    /* c: logits become c·tanh(logit / c); 0: they stay */
  size_t n_per_layer;     /* width of the inputs that each layer has of its own; 0: none */
  bool has_score_map; /* (X)+: temperature and key bias per layer */
  size_t n_kinds;
  layer_kind kinds[ONEKV_KINDS_MAX];    /* the first attends, without a window if any does */
  uint8_t kind_of[ONEKV_LAYERS_MAX];    /* [n_layers] */
  uint16_t cached_by[ONEKV_LAYERS_MAX]; /* [n_layers]: whose cache it reads, its own or that of an
                                           earlier layer with rows of the same shape */
} onekv_config;

/* Reads and checks the description. Errors: UNSUPPORTED_MODEL (architecture, projection, scaling
 * named in the message), MISSING_KEY, BAD_KEY, MISSING_TENSOR and BAD_TENSOR (those that fix a
 * size). */
onekv_status config_read(const gguf *file, onekv_config *config, onekv_error *error);

static inline const layer_kind *config_kind(const onekv_config *config, size_t layer) {
  return &config->kinds[config->kind_of[layer]];
}

/* The shortest window of layers that attend, 0 where none has one; how many of these layers have
 * one; and how many layers are convolutions. */
size_t onekv_window(const onekv_config *config);
size_t onekv_n_windowed(const onekv_config *config);
size_t onekv_n_convolutions(const onekv_config *config);

/* Elements of a query head as it is projected, and of a head's output as attn_output reads it. */
static inline size_t kind_query_width(const layer_kind *kind) {
  return kind->latent.rank > 0 ? kind->latent.plain + kind->rope.n_rotated : kind->key_width;
}

static inline size_t kind_output_width(const layer_kind *kind) {
  return kind->latent.rank > 0 ? kind->latent.value : kind->value_width;
}

onekv_sharing onekv_sharing_of(const layer_kind *kind);
/* "QKV", "Q-K=V", "Q=K-V", "Q=K=V". */
const char *onekv_sharing_name(onekv_sharing sharing);

#endif
