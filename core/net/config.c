/* The model description: metadata keys to checked fields.
 *
 * An architecture's row (architectures.c) gives defaults; keys override them (models/FORMAT.md).
 * What layers have in common is read into the first kind; config_layers.c adds kinds that differ.
 */
#include "core/net/config_layers.h"

#include <math.h>
#include <string.h>

enum { LIST_MAX = 200 /* bytes of the list of architectures in a message */ };

size_t onekv_window(const onekv_config *config) {
  size_t least = 0;
  for (size_t i = 0; i < config->n_kinds; i++) {
    size_t window = config->kinds[i].window;
    if (config->kinds[i].n_taps > 0) continue;
    if (window > 0 && (least == 0 || window < least)) least = window;
  }
  return least;
}

size_t onekv_n_windowed(const onekv_config *config) {
  size_t sum = 0;
  for (size_t n = 0; n < config->n_layers; n++) {
    const layer_kind *kind = config_kind(config, n);
    sum += kind->window > 0 && kind->n_taps == 0;
  }
  return sum;
}

size_t onekv_n_convolutions(const onekv_config *config) {
  size_t sum = 0;
  for (size_t n = 0; n < config->n_layers; n++) sum += config_kind(config, n)->n_taps > 0;
  return sum;
}

/* Index order is that of the enums in config.h. */
static const char *const SHARINGS[] = {"QKV", "Q-K=V", "Q=K-V", "Q=K=V", NULL};
static const char *const SHARED_ROPES[] = {"rotate-at-read", "rotate-unrotate", NULL};
static const char *const POSITIONS[] = {"none", "learned", "rope", NULL};
/* onekv.mlp.activation names function and gate together. */
static const char *const MLPS[] = {"gelu_erf", "gelu_tanh", "swiglu", "geglu_tanh",
                                   "relu_squared", NULL};
static const struct {
  onekv_activation activation;
  bool is_gated;
} MLP_PARTS[] = {
    {ONEKV_GELU_ERF, false}, {ONEKV_GELU_TANH, false}, {ONEKV_SILU, true}, {ONEKV_GELU_TANH, true},
    {ONEKV_RELU_SQUARED, false}};
static const char *const SCALINGS[] = {"none", "linear", "yarn", "longrope", NULL};
static const char *const INPUTS[] = {"tokens", "features", NULL};
static const char *const POOLINGS[] = {"each", "first", NULL};

const char *onekv_sharing_name(onekv_sharing sharing) {
  return (unsigned)sharing <= ONEKV_SHARE_ALL ? SHARINGS[sharing] : "?";
}

onekv_sharing onekv_sharing_of(const layer_kind *kind) {
  if (kind->shares_row) return kind->query_is_key ? ONEKV_SHARE_ALL : ONEKV_SHARE_KV;
  return kind->query_is_key ? ONEKV_SHARE_QK : ONEKV_SHARE_NONE;
}

static onekv_status read_architecture(const gguf *file, const architecture_row **out,
                                      onekv_error *error) {
  gguf_string name = {NULL, 0};
  onekv_status status = gguf_read_string(file, "general.architecture", true, &name, error);
  if (status != ONEKV_OK) return status;
  *out = architecture_find(name);
  if (*out != NULL) return ONEKV_OK;
  char label[GGUF_LABEL_MAX];
  char list[LIST_MAX];
  return error_set(error, ONEKV_UNSUPPORTED_MODEL,
                   "general.architecture: found \"%s\", expected %s", gguf_label(name, label),
                   architecture_list(list, sizeof list));
}

static void read_shapes(key_reader *reader, const architecture_row *row, onekv_config *config,
                        layer_kind *kind) {
  read_size(reader, "block_count", true, 1, ONEKV_LAYERS_MAX, &config->n_layers);
  read_size(reader, "context_length", true, 1, WIDTH_MAX * 16, &config->context_window);
  read_size(reader, "embedding_length", true, 1, WIDTH_MAX, &config->n_embedding);
  read_size(reader, "attention.head_count", true, 1, WIDTH_MAX, &kind->n_heads);
  if (reader->status != ONEKV_OK) return;
  kind->n_kv_heads = kind->n_heads;
  read_first(reader, "attention.head_count_kv", row->has_convolutions ? 0 : 1, kind->n_heads,
             config->n_layers, &kind->n_kv_heads);
  require(reader, kind->n_kv_heads > 0, "attention.head_count_kv leaves no layer that attends");
  kind->key_width = config->n_embedding / kind->n_heads;
  read_size(reader, "attention.key_length", false, 1, WIDTH_MAX, &kind->key_width);
  kind->value_width = kind->key_width;
  read_size(reader, "attention.value_length", false, 1, WIDTH_MAX, &kind->value_width);
  require(reader, kind->key_width > 0, "attention.head_count is larger than embedding_length");
  if (reader->status != ONEKV_OK) return;
  kind->score_divisor = sqrtf((float)kind->key_width);
  require(reader, kind->n_heads * kind->key_width <= WIDTH_MAX,
          "attention.head_count times key_length is too large");
  require(reader, kind->n_heads * kind->value_width <= WIDTH_MAX,
          "attention.head_count times value_length is too large");
}

/* Layers of experts are a key; that they are refused by it says more than a missing tensor. */
static void refuse_experts(key_reader *reader, const onekv_config *config) {
  size_t n_experts = 0;
  size_t n_dense = config->n_layers;
  read_size(reader, "expert_count", false, 0, WIDTH_MAX, &n_experts);
  if (n_experts > 0) n_dense = 0;
  read_size(reader, "leading_dense_block_count", false, 0, ONEKV_LAYERS_MAX, &n_dense);
  if (reader->status != ONEKV_OK || n_dense >= config->n_layers) return;
  reader->status = error_set(reader->error, ONEKV_UNSUPPORTED_MODEL,
                             "model %s: found %zu experts in layers behind %zu, expected none: "
                             "mixtures of experts (MoE) are not supported",
                             reader->architecture, n_experts, n_dense);
}

static void read_yarn(key_reader *reader, layer_kind *kind) {
  onekv_rope *rope = &kind->rope;
  /* Peng et al. 2023 (YaRN), eq. 22: the logits' temperature as a factor on cosines and sines; with
   * latents, of which only a part rotates, as one on all of a score. */
  float log_multiplier = 0.0f;
  if (kind->latent.rank > 0) {
    read_number(reader, "rope.scaling.yarn_log_multiplier", false, 0.0f, 10.0f, &log_multiplier);
  }
  float m = 1.0f + (log_multiplier > 0.0f ? log_multiplier : 0.1f) * logf(rope->factor);
  if (log_multiplier > 0.0f) {
    kind->score_divisor /= m * m;
  } else {
    /* Files without latents give the part of it that is taken away again. */
    float taken_away = 0.0f;
    if (kind->latent.rank == 0) {
      read_number(reader, "rope.scaling.yarn_log_multiplier", false, 0.0f, 10.0f, &taken_away);
    }
    rope->attention_factor *= m / (1.0f + 0.1f * taken_away * logf(rope->factor));
  }
  rope->beta_fast = 32.0f;
  rope->beta_slow = 1.0f;
  read_number(reader, "rope.scaling.yarn_beta_fast", false, 1e-3f, 1e4f, &rope->beta_fast);
  read_number(reader, "rope.scaling.yarn_beta_slow", false, 1e-3f, 1e4f, &rope->beta_slow);
}

static void read_rope(key_reader *reader, const onekv_config *config, layer_kind *kind) {
  onekv_rope *rope = &kind->rope;
  rope->n_rotated = kind->key_width;
  read_size(reader, "rope.dimension_count", false, 2, kind->key_width, &rope->n_rotated);
  require(reader, rope->n_rotated % 2 == 0, "rope.dimension_count is odd");
  rope->has_divisors = true;
  rope->base = 10000.0f;
  read_number(reader, "rope.freq_base", false, 1.0f, 1e12f, &rope->base);
  if (reader->status != ONEKV_OK) return;
  int scaling = ONEKV_ROPE_LINEAR; /* a file may give a factor alone */
  read_name(reader, architecture_key(reader, "rope.scaling.type"), SCALINGS, &scaling);
  rope->scaling = (onekv_rope_scaling)scaling;
  rope->factor = 1.0f;
  rope->attention_factor = 1.0f;
  read_number(reader, "rope.scaling.attn_factor", false, 1e-3f, 1e3f, &rope->attention_factor);
  rope->n_context_original = config->context_window;
  read_size(reader, "rope.scaling.original_context_length", false, 1, WIDTH_MAX * 16,
            &rope->n_context_original);
  if (scaling == ONEKV_ROPE_UNSCALED || scaling == ONEKV_ROPE_LONG) return;
  read_number(reader, "rope.scaling.factor", false, 1e-3f, 1e6f, &rope->factor);
  if (scaling == ONEKV_ROPE_YARN && reader->status == ONEKV_OK) {
    read_yarn(reader, kind);
  }
}

static void read_names(key_reader *reader, onekv_config *config, layer_kind *kind,
                       bool *takes_features) {
  int sharing = ONEKV_SHARE_NONE;
  int position = (int)config->position;
  int mlp = 0;
  while (MLP_PARTS[mlp].activation != config->activation ||
         MLP_PARTS[mlp].is_gated != config->is_gated) {
    mlp++;
  }
  int input = 0;
  int pooling = 0;
  read_name(reader, "onekv.attention.projection", SHARINGS, &sharing);
  read_name(reader, "onekv.position.encoding", POSITIONS, &position);
  read_name(reader, "onekv.mlp.activation", MLPS, &mlp);
  read_name(reader, "onekv.input.kind", INPUTS, &input);
  read_name(reader, "onekv.output.pooling", POOLINGS, &pooling);
  kind->shares_row = sharing == ONEKV_SHARE_KV || sharing == ONEKV_SHARE_ALL;
  kind->query_is_key = sharing == ONEKV_SHARE_QK || sharing == ONEKV_SHARE_ALL;
  config->position = (onekv_position)position;
  config->activation = MLP_PARTS[mlp].activation;
  config->is_gated = MLP_PARTS[mlp].is_gated;
  config->pools_first = pooling == 1;
  *takes_features = input == 1;
}

/* Needs shapes, names and RoPE, and whether heads are normed. A row that is only a key is made one
 * when it is written; one that is the value too keeps what it was projected as, as far as that
 * differs from its key, or is rotated back. */
static void read_key_time(key_reader *reader, const onekv_config *config, layer_kind *kind) {
  int shared_rope = ONEKV_ROTATE_AT_READ;
  read_name(reader, "onekv.attention.shared_rope", SHARED_ROPES, &shared_rope);
  bool rotates = kind->rope.n_rotated > 0;
  kind->keys = KEYS_AT_WRITE;
  if (!kind->shares_row || kind->latent.rank > 0) return;
  if (rotates && shared_rope == ONEKV_ROTATE_UNROTATE) {
    kind->keys = KEYS_AND_BACK;
  } else if (rotates || config->has_qk_norm) {
    kind->keys = KEYS_AT_READ;
  }
}

static bool any_layer_has(const key_reader *reader, const onekv_config *config,
                          const char *stem) {
  char name[GGUF_NAME_MAX];
  for (size_t n = 0; n < config->n_layers; n++) {
    text_format(name, sizeof name, "blk.%zu.%s.weight", n, stem);
    if (gguf_find_tensor(reader->file, name) != NULL) return true;
  }
  return false;
}

/* Sizes that only the tensors tell: vocabulary, feature width, outputs. */
static void read_tensors(key_reader *reader, onekv_config *config, bool takes_features) {
  if (reader->status != ONEKV_OK) return;
  const gguf *file = reader->file;
  const char *input_name = takes_features ? "input_proj.weight" : "token_embd.weight";
  const gguf_tensor *input = gguf_find_tensor(file, input_name);
  const gguf_tensor *head = gguf_find_tensor(file, "output.weight");
  config->has_separate_head = config->has_head && head != NULL;
  if (!config->has_separate_head && !takes_features) head = input;
  if (input == NULL || head == NULL) {
    reader->status = error_set(reader->error, ONEKV_MISSING_TENSOR, "tensor %s is missing",
                               input == NULL ? input_name : "output.weight");
    return;
  }
  config->n_vocabulary = takes_features ? 0 : input->n_rows;
  config->n_features = takes_features ? input->n_columns : 0;
  config->n_outputs = config->has_head ? head->n_rows : config->n_embedding;
  config->has_class_row = gguf_find_tensor(file, "cls_embd.weight") != NULL;
  config->has_score_map = gguf_find_tensor(file, "blk.0.attn_score_scale.weight") != NULL;
  config->has_qk_norm = config->latent_epsilon == 0.0f && any_layer_has(reader, config,
                                                                        "attn_k_norm");
  config->has_joined_latent = gguf_find_tensor(file, "blk.0.attn_kv_b.weight") != NULL;
  const size_t n_max = (size_t)WIDTH_MAX * 16;
  bool sizes_fit = input->n_rows <= n_max && head->n_rows <= n_max;
  require(reader, sizes_fit, "the vocabulary is larger than 16777216");
  require(reader, config->n_features <= WIDTH_MAX, "a row of features is longer than 1048576");
  require(reader, !config->has_class_row || takes_features,
          "cls_embd.weight needs onekv.input.kind = features");
  require(reader, !config->causal || !takes_features,
          "onekv.input.kind = features needs a bidirectional architecture");
  /* Sampling, penalties and scores take a row of logits for one number per token. */
  if (reader->status != ONEKV_OK || !config->causal || head->n_rows == input->n_rows) return;
  reader->status = error_set(reader->error, ONEKV_BAD_TENSOR,
                             "tensor output.weight: found %zu rows, expected %zu, one for each "
                             "token", head->n_rows, input->n_rows);
}

static void set_defaults(const architecture_row *row, onekv_config *config) {
  memset(config, 0, sizeof *config);
  strncpy(config->architecture, row->name, ONEKV_ARCHITECTURE_MAX - 1);
  config->norm = row->norm;
  config->norm_places = row->norm_places;
  config->position = row->position;
  config->activation = row->activation;
  config->is_gated = row->is_gated;
  config->causal = row->causal;
  config->norms_rows = row->norms_rows;
  config->norms_rotated = row->norms_rotated;
  config->misnames_norm = row->misnames_norm;
  config->has_head = !row->has_no_head;
  config->needs_biases = row->needs_biases;
  config->latent_epsilon = row->latent_epsilon;
  config->embedding_scale = row->embedding_scale > 0.0f ? row->embedding_scale : 1.0f;
  config->residual_scale = 1.0f;
  config->logit_scale = 1.0f;
  config->n_kinds = 1;
}

/* Scales that follow from the architecture and the model's size. */
static void set_scales(const architecture_row *row, onekv_config *config) {
  float d = (float)config->n_embedding;
  if (row->scales_embedding) config->embedding_scale = sqrtf(d);
  if (row->depth_scale > 0.0f) {
    config->residual_scale = row->depth_scale / sqrtf((float)config->n_layers);
  }
  if (row->width_base > 0.0f) config->logit_scale = row->width_base / d;
}

static void read_multipliers(key_reader *reader, onekv_config *config, layer_kind *kind) {
  uint32_t has_positions = 1;
  float score_scale = 1.0f / kind->score_divisor;
  float logit_divisor = 1.0f;
  read_number(reader, "embedding_scale", false, 1e-6f, 1e6f, &config->embedding_scale);
  read_number(reader, "residual_scale", false, 1e-6f, 1e6f, &config->residual_scale);
  read_number(reader, "attention.scale", false, 1e-6f, 1e6f, &score_scale);
  read_number(reader, "logit_scale", true, 1e-6f, 1e6f, &logit_divisor);
  read_per_layer(reader, "rope.scaling.finetuned", false, 0, 1, 1, &has_positions);
  kind->score_divisor = 1.0f / score_scale;
  config->logit_scale = 1.0f / logit_divisor;
  if (has_positions == 0) {
    config->position = ONEKV_POSITION_NONE;
    kind->rope.n_rotated = 0;
  }
}

/* What the rows of a token begin with, and that the file does not ask for a mask. */
static void read_types(key_reader *reader, onekv_config *config) {
  uint32_t is_causal = 0;
  const gguf_tensor *types = gguf_find_tensor(reader->file, "token_types.weight");
  config->n_token_types = types != NULL ? types->n_rows : 1;
  read_per_layer(reader, "attention.causal", false, 0, 1, 1, &is_causal);
  require(reader, is_causal == 0, "attention.causal is true");
}

static void read_pooling(key_reader *reader, onekv_config *config) {
  size_t pooling = ONEKV_POOL_DEFAULT;
  read_size(reader, "pooling_type", false, 0, ONEKV_POOL_LAST + 1, &pooling);
  require(reader, pooling <= ONEKV_POOL_LAST,
          "pooling_type is 4 (rank): models that rank texts are not supported");
  config->pooling = (onekv_pooling)pooling;
  if (pooling != ONEKV_POOL_DEFAULT) return;
  config->pooling = config->causal ? ONEKV_POOL_LAST : ONEKV_POOL_MEAN;
}

/* What few architectures have, and scales that follow from the model's size. Needs shapes and
 * RoPE. */
static void read_extras(key_reader *reader, const architecture_row *row, onekv_config *config,
                        layer_kind *kind) {
  if (reader->status != ONEKV_OK) return;
  set_scales(row, config);
  if (row->score_divisor > 0.0f) kind->score_divisor = row->score_divisor;
  kind->norms_values = row->norms_values;
  if (row->embeds_types) read_types(reader, config);
  read_pooling(reader, config);
  if (row->has_multipliers) read_multipliers(reader, config, kind);
  if (row->has_temperature) {
    size_t original = kind->rope.n_context_original; /* 0 without RoPE */
    config->temperature_length = original > 0 ? original : config->context_window;
    read_number(reader, "attention.temperature_scale", false, 0.0f, 1e3f,
                &config->temperature_scale);
  }
  bool shares = kind->shares_row || kind->query_is_key;
  require(reader, !shares || (!row->norms_rows && !row->norms_rotated),
          "onekv.attention.projection does not go with its norms of queries and keys");
  config->has_layer_scale =
      row->has_layer_scales &&
      gguf_find_tensor(reader->file, "blk.0.layer_output_scale.weight") != NULL;
  if (row->has_softcap) {
    read_number(reader, "final_logit_softcapping", false, 0.0f, 1e6f, &config->logit_softcap);
  }
  if (row->has_per_layer) {
    size_t most = WIDTH_MAX / config->n_layers;
    read_size(reader, "embedding_length_per_layer_input", false, 0, most, &config->n_per_layer);
  }
}

onekv_status config_read(const gguf *file, onekv_config *config, onekv_error *error) {
  const architecture_row *row = NULL;
  onekv_status status = read_architecture(file, &row, error);
  if (status != ONEKV_OK) return status;
  key_reader reader = {file, row->name, error, ONEKV_OK, {0}};
  layer_kind *kind = &config->kinds[0];
  bool takes_features = false;
  set_defaults(row, config);
  read_shapes(&reader, row, config, kind);
  read_names(&reader, config, kind, &takes_features);
  if (row->latent_epsilon > 0.0f) read_latent(&reader, config, kind);
  require(&reader, !kind->shares_row || kind->latent.rank > 0 ||
                       kind->value_width == kind->key_width,
          "attention.value_length differs from attention.key_length, and K=V");
  refuse_experts(&reader, config);
  if (reader.status == ONEKV_OK && config->position == ONEKV_ROPE) {
    kind->rope.halves = row->rope_halves;
    read_rope(&reader, config, kind);
  }
  read_extras(&reader, row, config, kind);
  const char *epsilon_key = config->norm == ONEKV_LAYER_NORM ? "attention.layer_norm_epsilon"
                                                             : "attention.layer_norm_rms_epsilon";
  read_number(&reader, epsilon_key, true, 0.0f, 1.0f, &config->norm_epsilon);
  read_tensors(&reader, config, takes_features);
  require(&reader, kind->rope.scaling != ONEKV_ROPE_LONG ||
                       gguf_find_tensor(file, "rope_factors_short.weight") != NULL,
          "rope.scaling.type is longrope, but tensor rope_factors_short.weight is missing");
  read_key_time(&reader, config, kind);
  read_kinds(&reader, row, config);
  return reader.status;
}
