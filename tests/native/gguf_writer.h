/* Tiny GGUF files made in memory, whole or broken on purpose.
 *
 * A draft is the list of keys and tensors of a file; tests change entries and write it. The data
 * of tensors is made up: the same small numbers for the same draft. A draft that grows beyond
 * its arrays ends the program. */
#ifndef ONEKV_TESTS_GGUF_WRITER_H
#define ONEKV_TESTS_GGUF_WRITER_H

#include "core/base/gguf.h"
#include "tests/native/fixture.h"

enum { DRAFT_NAME_MAX = 160, DRAFT_VALUE_MAX = 64, DRAFT_KEYS_MAX = 40, DRAFT_TENSORS_MAX = 64 };

typedef struct draft_key {
  char name[DRAFT_NAME_MAX];
  uint32_t type;
  uint8_t value[DRAFT_VALUE_MAX]; /* in the file's encoding */
  size_t n_bytes;
} draft_key;

typedef struct draft_tensor {
  char name[DRAFT_NAME_MAX];
  uint32_t type;
  uint32_t n_dims;
  uint64_t dims[6]; /* columns first */
  uint64_t offset_added; /* to the right offset */
} draft_tensor;

typedef struct gguf_draft {
  uint32_t version;
  uint32_t alignment; /* used for the layout; the key is written by tiny_draft */
  size_t n_keys;
  draft_key keys[DRAFT_KEYS_MAX];
  size_t n_tensors;
  draft_tensor tensors[DRAFT_TENSORS_MAX];
} gguf_draft;

/* What a tiny model is like; zero means the default in brackets. */
typedef struct tiny_shape {
  const char *architecture; /* ["llama"] */
  const char *projection;   /* ["QKV"] */
  const char *position;     /* [the architecture's] */
  size_t n_layers;          /* [1] */
  size_t n_kv_heads;        /* [1] */
  size_t n_heads;           /* [2] */
  size_t context_window;    /* [96] */
  size_t head_width;        /* [4] */
  uint32_t type;            /* of matrices [F32]; head_width and widths must fit its blocks */
  uint32_t window;          /* of gemma3's, lfm2's [0: none] */
  uint32_t window_period;   /* every n-th layer has none [the architecture's] */
  uint32_t n_taps;          /* of lfm2's first layer, third, …, which are convolutions */
} tiny_shape;

enum { TINY_VOCABULARY = 24, TINY_CLASSES = 3, TINY_FEATURES = 8, TINY_FEED_FORWARD = 12 };

/* A complete file of that shape: width d = heads × head width, a tied head when causal. */
gguf_draft tiny_draft(const tiny_shape *shape);

/* What a tiny model with latents is like. Widths are 4 (rank 8, one rotated pair), or 32 where the
 * type of the matrices has blocks. */
typedef struct tiny_latent {
  const char *architecture; /* deepseek2, minicpm3 or plm */
  bool is_joined;           /* attn_kv_b, and keys of the heads' widths */
  bool has_query_latent;
  uint32_t type; /* of matrices [F32] */
} tiny_latent;

/* A complete file of that shape: one layer, two heads, a tied head. */
gguf_draft latent_draft(const tiny_latent *shape);

void draft_set(gguf_draft *draft, const char *key, uint32_t type, const void *value, size_t n);
void draft_set_u32(gguf_draft *draft, const char *key, uint32_t value);
void draft_set_f32(gguf_draft *draft, const char *key, float value);
void draft_set_string(gguf_draft *draft, const char *key, const char *value);
void draft_drop_key(gguf_draft *draft, const char *key);

/* A matrix, or with n_rows 0 a vector, behind the tensors there are. */
void draft_add_tensor(gguf_draft *draft, const char *name, uint32_t type, size_t n_columns,
                      size_t n_rows);
/* The tensor of that name, or the end of the program. */
draft_tensor *draft_find_tensor(gguf_draft *draft, const char *name);
void draft_drop_tensor(gguf_draft *draft, const char *name);

/* The file; free(file.bytes) is the caller's. Tensors of a type that core does not know, or that
 * are too large to be made, have no data. */
file_bytes draft_write(const gguf_draft *draft);

#endif
