/* The model description: one struct for every variant of the paper and every architecture.
 *
 * Read from the metadata of a GGUF file (the keys are in models/FORMAT.md). After config_read
 * succeeded every field is in range and the fields fit together; the rest of core asks these
 * fields and never which paper variant or architecture it is running. */
#ifndef ONEKV_CONFIG_H
#define ONEKV_CONFIG_H

#include "core/base/gguf.h"

/* The paper's projection sharing; `-` is a separator. */
typedef enum onekv_projection {
  ONEKV_QKV,   /* QKV:   softmax(α Q Kᵀ) V, eq. 1 */
  ONEKV_Q_KV,  /* Q-K=V: softmax(α Q Kᵀ) K, eq. 3 */
  ONEKV_QK_V,  /* Q=K-V: softmax(α K Kᵀ) V, eq. 2 */
  ONEKV_QKV_ONE /* Q=K=V: softmax(α K Kᵀ) K, eq. 4 */
} onekv_projection;

/* How one cached tensor serves as key and as value under RoPE (DESIGN 4.3). */
typedef enum onekv_shared_rope {
  ONEKV_ROTATE_AT_READ,  /* cache c; keys RoPE_j(norm(c_j)), values c_j */
  ONEKV_ROTATE_UNROTATE  /* cache r_j = RoPE_j(norm(c_j)); output RoPE_i⁻¹(Σ a_ij r_j) */
} onekv_shared_rope;

typedef enum onekv_position { ONEKV_POSITION_NONE, ONEKV_LEARNED, ONEKV_ROPE } onekv_position;
typedef enum onekv_norm { ONEKV_LAYER_NORM, ONEKV_RMS_NORM } onekv_norm;
typedef enum onekv_activation {
  ONEKV_GELU_ERF,
  ONEKV_GELU_TANH,
  ONEKV_SWIGLU
} onekv_activation;

typedef enum onekv_rope_scaling {
  ONEKV_ROPE_UNSCALED,
  ONEKV_ROPE_LINEAR,
  ONEKV_ROPE_YARN
} onekv_rope_scaling;

typedef struct onekv_rope {
  size_t n_rotated; /* elements of a head that are rotated; even; the rest pass through */
  bool halves;      /* pairs are (i, i + n_rotated/2) instead of (2i, 2i + 1) */
  float base;
  onekv_rope_scaling scaling;
  float factor; /* context is longer by this factor than trained; 1 without scaling */
  float attention_factor; /* magnitude m of cosines and sines; 1 but for YaRN */
  float beta_fast, beta_slow;
  size_t n_context_original; /* YaRN: context before scaling */
} onekv_rope;

enum { ONEKV_ARCHITECTURE_MAX = 16 };

typedef struct onekv_config {
  char architecture[ONEKV_ARCHITECTURE_MAX]; /* general.architecture */
  size_t n_layers;
  size_t n_context;   /* longest sequence, class row included */
  size_t n_embedding; /* width d */
  size_t n_feed_forward;
  size_t n_heads;    /* query heads H */
  size_t n_kv_heads; /* H: MHA, 1: MQA, g: GQA-g */
  size_t head_width; /* h; d/H unless the file says otherwise */
  size_t n_outputs;  /* vocabulary (always, when causal), or classes; from the head's shape */
  size_t n_vocabulary; /* input tokens; 0 when the input is features */
  size_t n_features;   /* width of an input row; 0 when the input is tokens */
  onekv_projection projection;
  onekv_shared_rope shared_rope; /* means something for K=V with RoPE only */
  onekv_position position;
  onekv_norm norm;
  float norm_epsilon;
  onekv_activation activation;
  onekv_rope rope; /* with position == ONEKV_ROPE */
  bool causal;
  bool has_class_row;    /* cls_embd is put before the input */
  bool pools_first;      /* logits of position 0 only */
  bool has_separate_head; /* output.weight; else tied to token_embd */
  bool has_qk_norm;
  bool has_score_map; /* (X)+: temperature and key bias per layer */
} onekv_config;

/* Reads and checks the description. Errors: UNSUPPORTED_MODEL (architecture, projection, scaling
 * named in the message), MISSING_KEY, BAD_KEY, MISSING_TENSOR and BAD_TENSOR (those that fix a
 * size). */
onekv_status config_read(const gguf *file, onekv_config *config, onekv_error *error);

/* K and V are one tensor, cached once. */
static inline bool config_shares_kv(const onekv_config *config) {
  return config->projection == ONEKV_Q_KV || config->projection == ONEKV_QKV_ONE;
}

/* The query is the key: query head i is key head ⌊i·g/H⌋. */
static inline bool config_shares_qk(const onekv_config *config) {
  return config->projection == ONEKV_QK_V || config->projection == ONEKV_QKV_ONE;
}

/* Keys are rotated when they are read from the cache, not when they are written. */
static inline bool config_rotates_at_read(const onekv_config *config) {
  return config_shares_kv(config) && config->position == ONEKV_ROPE &&
         config->shared_rope == ONEKV_ROTATE_AT_READ;
}

/* Keys are derived from the cached shared tensor tile by tile: rotated, normalised, or both. */
static inline bool config_makes_keys_at_read(const onekv_config *config) {
  bool normalises = config->has_qk_norm && config->position != ONEKV_ROPE;
  return config_rotates_at_read(config) || (config_shares_kv(config) && normalises);
}

/* The head outputs are rotated back by the query's position. */
static inline bool config_unrotates(const onekv_config *config) {
  return config_shares_kv(config) && config->position == ONEKV_ROPE &&
         config->shared_rope == ONEKV_ROTATE_UNROTATE;
}

/* "QKV", "Q-K=V", "Q=K-V", "Q=K=V". */
const char *onekv_projection_name(onekv_projection projection);

#endif
