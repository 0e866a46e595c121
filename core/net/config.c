/* The model description: metadata keys to checked fields.
 *
 * Architectures are rows of one table of defaults; keys override them (models/FORMAT.md). */
#include "core/net/config.h"

#include <math.h>
#include <string.h>

enum {
  LAYERS_MAX = 1024,
  WIDTH_MAX = 1 << 20, /* any one dimension; keeps products of two far from overflow */
  KEY_MAX = 96
};

typedef struct architecture_row {
  const char *name;
  onekv_norm norm;
  onekv_position position;
  bool rope_halves;
  onekv_activation activation;
  bool causal;
} architecture_row;

static const architecture_row ARCHITECTURES[] = {
    {"gpt2", ONEKV_LAYER_NORM, ONEKV_LEARNED, true, ONEKV_GELU_TANH, true},
    {"llama", ONEKV_RMS_NORM, ONEKV_ROPE, false, ONEKV_SWIGLU, true},
    {"qwen2", ONEKV_RMS_NORM, ONEKV_ROPE, true, ONEKV_SWIGLU, true},
    {"qwen3", ONEKV_RMS_NORM, ONEKV_ROPE, true, ONEKV_SWIGLU, true},
    {"onekv-encoder", ONEKV_LAYER_NORM, ONEKV_LEARNED, true, ONEKV_GELU_ERF, false},
    {"onekv-vit", ONEKV_LAYER_NORM, ONEKV_LEARNED, true, ONEKV_GELU_ERF, false},
};

/* Index order is that of the enums in config.h. */
static const char *const PROJECTIONS[] = {"QKV", "Q-K=V", "Q=K-V", "Q=K=V", NULL};
static const char *const SHARED_ROPES[] = {"rotate-at-read", "rotate-unrotate", NULL};
static const char *const POSITIONS[] = {"none", "learned", "rope", NULL};
static const char *const ACTIVATIONS[] = {"gelu_erf", "gelu_tanh", "swiglu", NULL};
static const char *const SCALINGS[] = {"none", "linear", "yarn", NULL};
static const char *const INPUTS[] = {"tokens", "features", NULL};
static const char *const POOLINGS[] = {"each", "first", NULL};

const char *onekv_projection_name(onekv_projection projection) {
  return (unsigned)projection <= ONEKV_QKV_ONE ? PROJECTIONS[projection] : "?";
}

static bool string_equals(gguf_string string, const char *text) {
  return string.n_bytes == strlen(text) && memcmp(string.bytes, text, string.n_bytes) == 0;
}

/* *index = which of the NULL-terminated names the key holds; left alone without the key. */
static onekv_status read_choice(const gguf *file, const char *key, const char *const *names,
                                int *index, onekv_error *error) {
  gguf_string found = {NULL, 0};
  onekv_status status = gguf_read_string(file, key, false, &found, error);
  if (status != ONEKV_OK || found.bytes == NULL) return status;
  for (int i = 0; names[i] != NULL; i++) {
    if (string_equals(found, names[i])) {
      *index = i;
      return ONEKV_OK;
    }
  }
  char label[GGUF_LABEL_MAX];
  return error_set(error, ONEKV_UNSUPPORTED_MODEL, "key %s: found \"%s\", expected e.g. \"%s\"",
                   key, gguf_label(found, label), names[0]);
}

/* Reading state: once a read failed, the following ones do nothing. */
typedef struct key_reader {
  const gguf *file;
  const char *architecture;
  onekv_error *error;
  onekv_status status;
  char key[KEY_MAX];
} key_reader;

/* "{architecture}.{suffix}" in reader->key. */
static const char *architecture_key(key_reader *reader, const char *suffix) {
  size_t n_prefix = strlen(reader->architecture);
  memcpy(reader->key, reader->architecture, n_prefix);
  reader->key[n_prefix] = '.';
  strncpy(reader->key + n_prefix + 1, suffix, KEY_MAX - n_prefix - 2);
  reader->key[KEY_MAX - 1] = '\0';
  return reader->key;
}

/* An integer in [minimum, maximum]; *out is the default and must be set when not required. */
static void read_size(key_reader *reader, const char *suffix, bool required, size_t minimum,
                      size_t maximum, size_t *out) {
  if (reader->status != ONEKV_OK) return;
  const char *key = architecture_key(reader, suffix);
  uint32_t value = (uint32_t)*out;
  reader->status = gguf_read_u32(reader->file, key, required, &value, reader->error);
  if (reader->status == ONEKV_OK && (value < minimum || value > maximum)) {
    reader->status = error_set(reader->error, ONEKV_BAD_KEY,
                               "key %s: found %u, expected %zu to %zu", key, value, minimum,
                               maximum);
  }
  *out = value;
}

/* A finite number in [minimum, maximum]. */
static void read_number(key_reader *reader, const char *suffix, bool required, float minimum,
                        float maximum, float *out) {
  if (reader->status != ONEKV_OK) return;
  const char *key = architecture_key(reader, suffix);
  reader->status = gguf_read_f32(reader->file, key, required, out, reader->error);
  if (reader->status == ONEKV_OK && !(*out >= minimum && *out <= maximum)) {
    reader->status =
        error_set(reader->error, ONEKV_BAD_KEY, "key %s: found %g, expected %g to %g", key,
                  (double)*out, (double)minimum, (double)maximum);
  }
}

static void read_name(key_reader *reader, const char *key, const char *const *names, int *index) {
  if (reader->status != ONEKV_OK) return;
  reader->status = read_choice(reader->file, key, names, index, reader->error);
}

static void require(key_reader *reader, bool condition, const char *text) {
  if (reader->status == ONEKV_OK && !condition) {
    reader->status = error_set(reader->error, ONEKV_BAD_KEY, "model %s: %s",
                               reader->architecture, text);
  }
}

static onekv_status read_architecture(const gguf *file, const architecture_row **out,
                                      onekv_error *error) {
  gguf_string name = {NULL, 0};
  onekv_status status = gguf_read_string(file, "general.architecture", true, &name, error);
  if (status != ONEKV_OK) return status;
  for (size_t i = 0; i < sizeof ARCHITECTURES / sizeof ARCHITECTURES[0]; i++) {
    if (string_equals(name, ARCHITECTURES[i].name)) {
      *out = &ARCHITECTURES[i];
      return ONEKV_OK;
    }
  }
  char label[GGUF_LABEL_MAX];
  return error_set(error, ONEKV_UNSUPPORTED_MODEL,
                   "general.architecture: found \"%s\", expected gpt2, llama, qwen2, qwen3, "
                   "onekv-encoder or onekv-vit",
                   gguf_label(name, label));
}

static void read_shapes(key_reader *reader, onekv_config *config) {
  read_size(reader, "block_count", true, 1, LAYERS_MAX, &config->n_layers);
  read_size(reader, "context_length", true, 1, WIDTH_MAX * 16, &config->n_context);
  read_size(reader, "embedding_length", true, 1, WIDTH_MAX, &config->n_embedding);
  read_size(reader, "feed_forward_length", true, 1, WIDTH_MAX, &config->n_feed_forward);
  read_size(reader, "attention.head_count", true, 1, WIDTH_MAX, &config->n_heads);
  if (reader->status != ONEKV_OK) return;
  config->n_kv_heads = config->n_heads;
  read_size(reader, "attention.head_count_kv", false, 1, config->n_heads, &config->n_kv_heads);
  config->head_width = config->n_embedding / config->n_heads;
  read_size(reader, "attention.key_length", false, 1, WIDTH_MAX, &config->head_width);
  size_t value_width = config->head_width;
  read_size(reader, "attention.value_length", false, 1, WIDTH_MAX, &value_width);
  require(reader, config->head_width > 0, "attention.head_count is larger than embedding_length");
  require(reader, value_width == config->head_width,
          "attention.value_length differs from attention.key_length");
  if (reader->status != ONEKV_OK) return;
  require(reader, config->n_heads % config->n_kv_heads == 0,
          "attention.head_count is no multiple of attention.head_count_kv");
  require(reader, config->n_heads * config->head_width <= WIDTH_MAX,
          "attention.head_count times key_length is too large");
}

static void read_yarn(key_reader *reader, onekv_config *config) {
  onekv_rope *rope = &config->rope;
  rope->n_context_original = config->n_context;
  read_size(reader, "rope.scaling.original_context_length", false, 1, WIDTH_MAX * 16,
            &rope->n_context_original);
  /* Peng et al. 2023 (YaRN), eq. 22: the logits' temperature as a factor on cosines and sines. */
  rope->attention_factor *= 1.0f + 0.1f * logf(rope->factor);
  rope->beta_fast = 32.0f;
  rope->beta_slow = 1.0f;
  read_number(reader, "rope.scaling.yarn_beta_fast", false, 1e-3f, 1e4f, &rope->beta_fast);
  read_number(reader, "rope.scaling.yarn_beta_slow", false, 1e-3f, 1e4f, &rope->beta_slow);
}

static void read_rope(key_reader *reader, onekv_config *config) {
  onekv_rope *rope = &config->rope;
  rope->n_rotated = config->head_width;
  read_size(reader, "rope.dimension_count", false, 2, config->head_width, &rope->n_rotated);
  require(reader, rope->n_rotated % 2 == 0, "rope.dimension_count is odd");
  rope->base = 10000.0f;
  read_number(reader, "rope.freq_base", false, 1.0f, 1e12f, &rope->base);
  if (reader->status != ONEKV_OK) return;
  int scaling = ONEKV_ROPE_LINEAR; /* a file may give a factor alone */
  read_name(reader, architecture_key(reader, "rope.scaling.type"), SCALINGS, &scaling);
  rope->scaling = (onekv_rope_scaling)scaling;
  rope->factor = 1.0f;
  rope->attention_factor = 1.0f;
  read_number(reader, "rope.scaling.attn_factor", false, 1e-3f, 1e3f, &rope->attention_factor);
  if (scaling == ONEKV_ROPE_UNSCALED) return;
  read_number(reader, "rope.scaling.factor", false, 1e-3f, 1e6f, &rope->factor);
  if (scaling == ONEKV_ROPE_YARN && reader->status == ONEKV_OK) read_yarn(reader, config);
}

static void read_names(key_reader *reader, onekv_config *config, bool *takes_features) {
  int projection = ONEKV_QKV;
  int shared_rope = ONEKV_ROTATE_AT_READ;
  int position = (int)config->position;
  int activation = (int)config->activation;
  int input = 0;
  int pooling = 0;
  read_name(reader, "onekv.attention.projection", PROJECTIONS, &projection);
  read_name(reader, "onekv.attention.shared_rope", SHARED_ROPES, &shared_rope);
  read_name(reader, "onekv.position.encoding", POSITIONS, &position);
  read_name(reader, "onekv.mlp.activation", ACTIVATIONS, &activation);
  read_name(reader, "onekv.input.kind", INPUTS, &input);
  read_name(reader, "onekv.output.pooling", POOLINGS, &pooling);
  config->projection = (onekv_projection)projection;
  config->shared_rope = (onekv_shared_rope)shared_rope;
  config->position = (onekv_position)position;
  config->activation = (onekv_activation)activation;
  config->pools_first = pooling == 1;
  *takes_features = input == 1;
}

/* Sizes that only the tensors tell: vocabulary, feature width, outputs. */
static void read_tensors(key_reader *reader, onekv_config *config, bool takes_features) {
  if (reader->status != ONEKV_OK) return;
  const gguf *file = reader->file;
  const char *input_name = takes_features ? "input_proj.weight" : "token_embd.weight";
  const gguf_tensor *input = gguf_find_tensor(file, input_name);
  const gguf_tensor *head = gguf_find_tensor(file, "output.weight");
  config->has_separate_head = head != NULL;
  if (head == NULL && !takes_features) head = input;
  if (input == NULL || head == NULL) {
    reader->status = error_set(reader->error, ONEKV_MISSING_TENSOR, "tensor %s is missing",
                               input == NULL ? input_name : "output.weight");
    return;
  }
  config->n_vocabulary = takes_features ? 0 : input->n_rows;
  config->n_features = takes_features ? input->n_columns : 0;
  config->n_outputs = head->n_rows;
  config->has_class_row = gguf_find_tensor(file, "cls_embd.weight") != NULL;
  config->has_score_map = gguf_find_tensor(file, "blk.0.attn_score_scale.weight") != NULL;
  config->has_qk_norm = gguf_find_tensor(file, "blk.0.attn_k_norm.weight") != NULL;
  const size_t n_max = (size_t)WIDTH_MAX * 16;
  bool sizes_fit = input->n_rows <= n_max && head->n_rows <= n_max;
  require(reader, sizes_fit, "the vocabulary is larger than 16777216");
  require(reader, config->n_features <= WIDTH_MAX, "a row of features is longer than 1048576");
  require(reader, !config->has_class_row || takes_features,
          "cls_embd.weight goes with onekv.input.kind = features");
  require(reader, !config->causal || !takes_features,
          "onekv.input.kind = features goes with a bidirectional architecture");
  /* Sampling, penalties and scores take a row of logits for one number per token. */
  if (reader->status != ONEKV_OK || !config->causal || head->n_rows == input->n_rows) return;
  reader->status = error_set(reader->error, ONEKV_BAD_TENSOR,
                             "tensor output.weight: found %zu rows, expected %zu, one for each "
                             "token", head->n_rows, input->n_rows);
}

onekv_status config_read(const gguf *file, onekv_config *config, onekv_error *error) {
  memset(config, 0, sizeof *config);
  const architecture_row *architecture = NULL;
  onekv_status status = read_architecture(file, &architecture, error);
  if (status != ONEKV_OK) return status;
  strncpy(config->architecture, architecture->name, ONEKV_ARCHITECTURE_MAX - 1);
  config->norm = architecture->norm;
  config->position = architecture->position;
  config->activation = architecture->activation;
  config->causal = architecture->causal;
  key_reader reader = {file, architecture->name, error, ONEKV_OK, {0}};
  bool takes_features = false;
  read_shapes(&reader, config);
  read_names(&reader, config, &takes_features);
  if (reader.status == ONEKV_OK && config->position == ONEKV_ROPE) {
    config->rope.halves = architecture->rope_halves;
    read_rope(&reader, config);
  }
  const char *epsilon_key = config->norm == ONEKV_LAYER_NORM ? "attention.layer_norm_epsilon"
                                                             : "attention.layer_norm_rms_epsilon";
  read_number(&reader, epsilon_key, true, 0.0f, 1.0f, &config->norm_epsilon);
  read_tensors(&reader, config, takes_features);
  return reader.status;
}
