/* Tiny GGUF files made in memory; see gguf_writer.h. */
#include "tests/native/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/f16.h"

enum { DATA_BYTES_MAX = 1 << 20 /* tensors above this have no data */ };

_Noreturn static void give_up(const char *what) {
  printf("gguf_writer: %s\n", what);
  exit(2);
}

/* --- drafts ---------------------------------------------------------------------------------- */

void draft_set(gguf_draft *draft, const char *key, uint32_t type, const void *value, size_t n) {
  size_t i = 0;
  while (i < draft->n_keys && strcmp(draft->keys[i].name, key) != 0) i++;
  if (i == DRAFT_KEYS_MAX || n > DRAFT_VALUE_MAX) give_up("too many keys or a value too long");
  draft_key *entry = &draft->keys[i];
  memset(entry, 0, sizeof *entry);
  snprintf(entry->name, sizeof entry->name, "%s", key);
  entry->type = type;
  memcpy(entry->value, value, n);
  entry->n_bytes = n;
  if (i == draft->n_keys) draft->n_keys++;
}

void draft_set_u32(gguf_draft *draft, const char *key, uint32_t value) {
  draft_set(draft, key, GGUF_U32, &value, sizeof value);
}

void draft_set_f32(gguf_draft *draft, const char *key, float value) {
  draft_set(draft, key, GGUF_F32, &value, sizeof value);
}

void draft_set_string(gguf_draft *draft, const char *key, const char *value) {
  uint8_t bytes[DRAFT_VALUE_MAX];
  size_t n = strlen(value);
  uint64_t n_stored = n;
  if (n + 8 > sizeof bytes) give_up("a string too long");
  memcpy(bytes, &n_stored, 8);
  memcpy(bytes + 8, value, n);
  draft_set(draft, key, GGUF_STRING, bytes, 8 + n);
}

void draft_drop_key(gguf_draft *draft, const char *key) {
  for (size_t i = 0; i < draft->n_keys; i++) {
    if (strcmp(draft->keys[i].name, key) != 0) continue;
    memmove(&draft->keys[i], &draft->keys[i + 1], (--draft->n_keys - i) * sizeof draft->keys[0]);
    return;
  }
  give_up(key);
}

void draft_add_tensor(gguf_draft *draft, const char *name, uint32_t type, size_t n_columns,
                      size_t n_rows) {
  if (draft->n_tensors == DRAFT_TENSORS_MAX) give_up("too many tensors");
  draft_tensor *tensor = &draft->tensors[draft->n_tensors++];
  memset(tensor, 0, sizeof *tensor);
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
  tensor->type = type;
  tensor->n_dims = n_rows == 0 ? 1 : 2;
  tensor->dims[0] = n_columns;
  tensor->dims[1] = n_rows;
}

draft_tensor *draft_find_tensor(gguf_draft *draft, const char *name) {
  for (size_t i = 0; i < draft->n_tensors; i++) {
    if (strcmp(draft->tensors[i].name, name) == 0) return &draft->tensors[i];
  }
  give_up(name);
}

void draft_drop_tensor(gguf_draft *draft, const char *name) {
  draft_tensor *tensor = draft_find_tensor(draft, name);
  size_t n_after = --draft->n_tensors - (size_t)(tensor - draft->tensors);
  memmove(tensor, tensor + 1, n_after * sizeof *tensor);
}

/* --- a tiny model ---------------------------------------------------------------------------- */

static size_t or_default(size_t value, size_t fallback) { return value > 0 ? value : fallback; }

static bool is_convolution(const tiny_shape *shape, size_t layer) {
  return shape->n_taps > 0 && layer % 2 == 0;
}

#define ADD(suffix, type, columns, rows)                       \
  do {                                                         \
    snprintf(name, sizeof name, "blk.%zu." suffix, n);         \
    draft_add_tensor(draft, name, type, columns, rows);        \
  } while (0)

/* What stands between the layer's two norms before: attention, or a convolution. */
static void add_mixer(gguf_draft *draft, const tiny_shape *shape, size_t n) {
  size_t h = shape->head_width;
  size_t d = shape->n_heads * h;
  size_t d_key = shape->n_kv_heads * h;
  char name[64];
  if (is_convolution(shape, n)) {
    ADD("shortconv.in_proj.weight", shape->type, d, 3 * d);
    ADD("shortconv.conv.weight", TENSOR_F32, shape->n_taps, d);
    ADD("shortconv.out_proj.weight", shape->type, d, d);
    return;
  }
  if (strncmp(shape->projection, "Q=K", 3) != 0) ADD("attn_q.weight", shape->type, d, d);
  ADD("attn_k.weight", shape->type, d, d_key);
  if (strstr(shape->projection, "=V") == NULL) ADD("attn_v.weight", shape->type, d, d_key);
  bool is_gemma = strncmp(shape->architecture, "gemma", 5) == 0;
  if (is_gemma) {
    ADD("post_attention_norm.weight", TENSOR_F32, d, 0);
    ADD("post_ffw_norm.weight", TENSOR_F32, d, 0);
  }
  if (is_gemma || shape->n_taps > 0 || strcmp(shape->architecture, "qwen3") == 0) {
    ADD("attn_q_norm.weight", TENSOR_F32, h, 0);
    ADD("attn_k_norm.weight", TENSOR_F32, h, 0);
  }
  ADD("attn_output.weight", shape->type, d, d);
}

static void add_layer(gguf_draft *draft, const tiny_shape *shape, size_t n, bool is_llama) {
  size_t d = shape->n_heads * shape->head_width;
  char name[64];
  ADD("attn_norm.weight", TENSOR_F32, d, 0);
  add_mixer(draft, shape, n);
  ADD("ffn_norm.weight", TENSOR_F32, d, 0);
  if (is_llama) ADD("ffn_gate.weight", TENSOR_F32, d, TINY_FEED_FORWARD);
  ADD("ffn_up.weight", TENSOR_F32, d, TINY_FEED_FORWARD);
  ADD("ffn_down.weight", TENSOR_F32, TINY_FEED_FORWARD, d);
}
#undef ADD

/* KV heads of each layer, as an array: none of a convolution. */
static void set_kv_heads(gguf_draft *draft, const tiny_shape *shape, const char *key) {
  uint8_t value[DRAFT_VALUE_MAX];
  uint32_t type = GGUF_U32;
  uint64_t n_layers = shape->n_layers;
  if (12 + 4 * n_layers > sizeof value) give_up("an array too long");
  memcpy(value, &type, 4);
  memcpy(value + 4, &n_layers, 8);
  for (size_t n = 0; n < n_layers; n++) {
    uint32_t n_heads = is_convolution(shape, n) ? 0 : (uint32_t)shape->n_kv_heads;
    memcpy(value + 12 + 4 * n, &n_heads, 4);
  }
  draft_set(draft, key, GGUF_ARRAY, value, 12 + 4 * (size_t)n_layers);
}

static void add_keys(gguf_draft *draft, const tiny_shape *shape, bool is_llama) {
  char key[64];
#define KEY(suffix) (snprintf(key, sizeof key, "%s." suffix, shape->architecture), key)
  draft_set_string(draft, "general.architecture", shape->architecture);
  draft_set_u32(draft, "general.alignment", draft->alignment);
  draft_set_u32(draft, KEY("block_count"), (uint32_t)shape->n_layers);
  draft_set_u32(draft, KEY("context_length"), (uint32_t)shape->context_window);
  draft_set_u32(draft, KEY("embedding_length"), (uint32_t)(shape->n_heads * shape->head_width));
  draft_set_u32(draft, KEY("feed_forward_length"), TINY_FEED_FORWARD);
  draft_set_u32(draft, KEY("attention.head_count"), (uint32_t)shape->n_heads);
  draft_set_u32(draft, KEY("attention.head_count_kv"), (uint32_t)shape->n_kv_heads);
  draft_set_f32(draft, is_llama ? KEY("attention.layer_norm_rms_epsilon")
                                : KEY("attention.layer_norm_epsilon"), 1e-5f);
  draft_set_string(draft, "onekv.attention.projection", shape->projection);
  if (shape->position != NULL) {
    draft_set_string(draft, "onekv.position.encoding", shape->position);
  }
  if (shape->window > 0) draft_set_u32(draft, KEY("attention.sliding_window"), shape->window);
  if (shape->window_period > 0) {
    draft_set_u32(draft, KEY("attention.sliding_window_pattern"), shape->window_period);
  }
  if (shape->n_taps > 0) {
    draft_set_u32(draft, KEY("shortconv.l_cache"), shape->n_taps);
    set_kv_heads(draft, shape, KEY("attention.head_count_kv"));
  }
#undef KEY
}

gguf_draft tiny_draft(const tiny_shape *given) {
  tiny_shape shape = *given;
  if (shape.architecture == NULL) shape.architecture = "llama";
  if (shape.projection == NULL) shape.projection = "QKV";
  shape.n_layers = or_default(shape.n_layers, 1);
  shape.n_kv_heads = or_default(shape.n_kv_heads, 1);
  shape.n_heads = or_default(shape.n_heads, 2);
  shape.context_window = or_default(shape.context_window, 96);
  shape.head_width = or_default(shape.head_width, 4);
  bool is_causal = strncmp(shape.architecture, "onekv-", 6) != 0;
  bool is_vit = strcmp(shape.architecture, "onekv-vit") == 0;
  bool is_llama = is_causal && strcmp(shape.architecture, "gpt2") != 0;
  bool is_learned = shape.position != NULL ? strcmp(shape.position, "learned") == 0 : !is_llama;
  size_t d = shape.n_heads * shape.head_width;
  gguf_draft draft = {.version = 3, .alignment = 8};
  add_keys(&draft, &shape, is_llama);
  if (is_vit) {
    draft_set_string(&draft, "onekv.input.kind", "features");
    draft_set_string(&draft, "onekv.output.pooling", "first");
    draft_add_tensor(&draft, "input_proj.weight", TENSOR_F32, TINY_FEATURES, d);
    draft_add_tensor(&draft, "cls_embd.weight", TENSOR_F32, d, 0);
  } else {
    draft_add_tensor(&draft, "token_embd.weight", shape.type, d, TINY_VOCABULARY);
  }
  if (is_learned) {
    draft_add_tensor(&draft, "position_embd.weight", TENSOR_F32, d, shape.context_window);
  }
  for (size_t n = 0; n < shape.n_layers; n++) add_layer(&draft, &shape, n, is_llama);
  draft_add_tensor(&draft, shape.n_taps > 0 ? "token_embd_norm.weight" : "output_norm.weight",
                   TENSOR_F32, d, 0);
  if (!is_causal) draft_add_tensor(&draft, "output.weight", TENSOR_F32, d, TINY_CLASSES);
  return draft;
}

static void add_latent_keys(gguf_draft *draft, const tiny_latent *shape, uint32_t w) {
  char key[64];
#define SET(suffix, value)                                         \
  do {                                                             \
    snprintf(key, sizeof key, "%s." suffix, shape->architecture);  \
    draft_set_u32(draft, key, value);                              \
  } while (0)
  draft_set_string(draft, "general.architecture", shape->architecture);
  draft_set_u32(draft, "general.alignment", draft->alignment);
  SET("block_count", 1);
  SET("context_length", 96);
  SET("embedding_length", 2 * w);
  SET("feed_forward_length", 2 * w);
  SET("attention.head_count", 2);
  SET("attention.head_count_kv", shape->is_joined ? 2 : 1);
  SET("attention.kv_lora_rank", 2 * w);
  SET("attention.key_length", shape->is_joined ? w + 2 : 2 * w + 2);
  SET("attention.value_length", shape->is_joined ? w : 2 * w);
  if (!shape->is_joined) SET("attention.key_length_mla", w + 2);
  if (!shape->is_joined) SET("attention.value_length_mla", w);
  if (shape->has_query_latent) SET("attention.q_lora_rank", w);
  SET("rope.dimension_count", 2);
#undef SET
  snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", shape->architecture);
  draft_set_f32(draft, key, 1e-5f);
}

gguf_draft latent_draft(const tiny_latent *shape) {
  gguf_draft draft = {.version = 3, .alignment = 8};
  uint32_t type = shape->type;
  uint32_t w = type == TENSOR_F32 ? 4 : 32;
  uint32_t d = 2 * w;
  uint32_t rank = 2 * w;
  add_latent_keys(&draft, shape, w);
  draft_add_tensor(&draft, "token_embd.weight", type, d, TINY_VOCABULARY);
  draft_add_tensor(&draft, "blk.0.attn_norm.weight", TENSOR_F32, d, 0);
  if (shape->has_query_latent) {
    draft_add_tensor(&draft, "blk.0.attn_q_a.weight", type, d, w);
    draft_add_tensor(&draft, "blk.0.attn_q_a_norm.weight", TENSOR_F32, w, 0);
    draft_add_tensor(&draft, "blk.0.attn_q_b.weight", type, w, 2 * (w + 2));
  } else {
    draft_add_tensor(&draft, "blk.0.attn_q.weight", type, d, 2 * (w + 2));
  }
  draft_add_tensor(&draft, "blk.0.attn_kv_a_mqa.weight", type, d, rank + 2);
  draft_add_tensor(&draft, "blk.0.attn_kv_a_norm.weight", TENSOR_F32, rank, 0);
  if (shape->is_joined) {
    draft_add_tensor(&draft, "blk.0.attn_kv_b.weight", type, rank, 2 * (w + w));
  } else {
    draft_add_tensor(&draft, "blk.0.attn_k_b.weight", type, w, 2 * rank);
    draft_add_tensor(&draft, "blk.0.attn_v_b.weight", type, rank, 2 * w);
  }
  draft_add_tensor(&draft, "blk.0.attn_output.weight", type, 2 * w, d);
  draft_add_tensor(&draft, "blk.0.ffn_norm.weight", TENSOR_F32, d, 0);
  if (strcmp(shape->architecture, "plm") != 0) {
    draft_add_tensor(&draft, "blk.0.ffn_gate.weight", type, d, 2 * w);
  }
  draft_add_tensor(&draft, "blk.0.ffn_up.weight", type, d, 2 * w);
  draft_add_tensor(&draft, "blk.0.ffn_down.weight", type, 2 * w, d);
  draft_add_tensor(&draft, "output_norm.weight", TENSOR_F32, d, 0);
  return draft;
}

/* --- writing --------------------------------------------------------------------------------- */

typedef struct byte_sink {
  uint8_t *bytes;
  size_t n;
  size_t n_max;
} byte_sink;

static void put(byte_sink *sink, const void *bytes, size_t n) {
  if (sink->n + n > sink->n_max) {
    sink->n_max = 2 * (sink->n + n);
    sink->bytes = realloc(sink->bytes, sink->n_max);
    if (sink->bytes == NULL) give_up("out of memory");
  }
  if (n > 0) memcpy(sink->bytes + sink->n, bytes, n);
  sink->n += n;
}

static void put_u32(byte_sink *sink, uint32_t value) { put(sink, &value, sizeof value); }
static void put_u64(byte_sink *sink, uint64_t value) { put(sink, &value, sizeof value); }

static void put_name(byte_sink *sink, const char *name) {
  put_u64(sink, strlen(name));
  put(sink, name, strlen(name));
}

static void pad(byte_sink *sink, size_t alignment) {
  static const uint8_t zeros[GGUF_LABEL_MAX] = {0};
  while (sink->n % alignment != 0) put(sink, zeros, 1);
}

/* 0 for a tensor without data. */
static size_t data_bytes(const draft_tensor *tensor) {
  size_t row_bytes = 0;
  if (!tensor_row_bytes(tensor->type, (size_t)tensor->dims[0], &row_bytes)) return 0;
  size_t n_rows = 1;
  for (uint32_t i = 1; i < tensor->n_dims && i < 6; i++) {
    if (!size_multiply(n_rows, (size_t)tensor->dims[i], &n_rows)) return 0;
  }
  size_t n_bytes = 0;
  bool fits = size_multiply(row_bytes, n_rows, &n_bytes) && n_bytes <= DATA_BYTES_MAX;
  return fits ? n_bytes : 0;
}

/* Numbers in [-0.5, 0.5], gains of norms in [0.5, 1.5]. Blocks get bytes below 0x34, so that
 * their f16 scales are below 0.25. */
static void put_data(byte_sink *sink, const draft_tensor *tensor, size_t n_bytes) {
  uint32_t state = 2463534242u;
  for (const char *c = tensor->name; *c != '\0'; c++) state = (state ^ (uint8_t)*c) * 16777619u;
  float shift = strstr(tensor->name, "norm.weight") != NULL ? 1.0f : 0.0f;
  size_t element = tensor->type == TENSOR_F32 ? 4 : tensor->type == TENSOR_F16 ? 2 : 1;
  for (size_t done = 0; done < n_bytes; done += element) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    float number = (float)(state >> 8) / 16777216.0f - 0.5f + shift;
    uint16_t half = f32_to_f16(number);
    uint8_t byte = (uint8_t)((state >> 8) % 0x34);
    const void *source = element == 4 ? (const void *)&number
                         : element == 2 ? (const void *)&half : (const void *)&byte;
    put(sink, source, element);
  }
}

file_bytes draft_write(const gguf_draft *draft) {
  byte_sink sink = {NULL, 0, 0};
  put(&sink, "GGUF", 4);
  put_u32(&sink, draft->version);
  put_u64(&sink, draft->n_tensors);
  put_u64(&sink, draft->n_keys);
  for (size_t i = 0; i < draft->n_keys; i++) {
    put_name(&sink, draft->keys[i].name);
    put_u32(&sink, draft->keys[i].type);
    put(&sink, draft->keys[i].value, draft->keys[i].n_bytes);
  }
  size_t offset = 0;
  for (size_t i = 0; i < draft->n_tensors; i++) {
    const draft_tensor *tensor = &draft->tensors[i];
    put_name(&sink, tensor->name);
    put_u32(&sink, tensor->n_dims);
    for (uint32_t j = 0; j < tensor->n_dims && j < 6; j++) put_u64(&sink, tensor->dims[j]);
    put_u32(&sink, tensor->type);
    put_u64(&sink, offset + tensor->offset_added);
    size_t n_bytes = data_bytes(tensor);
    offset += (n_bytes + draft->alignment - 1) / draft->alignment * draft->alignment;
  }
  pad(&sink, draft->alignment);
  for (size_t i = 0; i < draft->n_tensors; i++) {
    pad(&sink, draft->alignment);
    put_data(&sink, &draft->tensors[i], data_bytes(&draft->tensors[i]));
  }
  return (file_bytes){sink.bytes, sink.n};
}
