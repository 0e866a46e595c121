/* Keys of a model's description: typed, bounded, and named in every error.
 *
 * The functions are for config.c and config_layers.c. Once a read has failed, the following ones do
 * nothing, so that the first error is the one that is told. */
#ifndef ONEKV_CONFIG_KEYS_H
#define ONEKV_CONFIG_KEYS_H

#include "core/net/config.h"

enum {
  WIDTH_MAX = 1 << 20, /* any one dimension; keeps products of two far from overflow */
  KEY_MAX = 96
};

typedef struct key_reader {
  const gguf *file;
  const char *architecture;
  onekv_error *error;
  onekv_status status;
  char key[KEY_MAX];
} key_reader;

/* "{architecture}.{suffix}" in reader->key. */
const char *architecture_key(key_reader *reader, const char *suffix);

/* The key "{architecture}.{suffix}" is there; false after an error. */
bool has_key(key_reader *reader, const char *suffix);

/* An integer in [minimum, maximum]; *out is the default and must be set when not required. */
void read_size(key_reader *reader, const char *suffix, bool required, size_t minimum,
               size_t maximum, size_t *out);

/* An integer or a boolean for each of n layers: a scalar is that of all, an array has n items.
 * values [n]: the defaults, where the key may be missing. */
void read_per_layer(key_reader *reader, const char *suffix, bool required, uint32_t minimum,
                    uint32_t maximum, size_t n, uint32_t *values);

/* The same, of which only the first that is not 0 is wanted; may be missing. */
void read_first(key_reader *reader, const char *suffix, size_t minimum, size_t maximum, size_t n,
                size_t *out);

/* A finite number in [minimum, maximum]. */
void read_number(key_reader *reader, const char *suffix, bool required, float minimum,
                 float maximum, float *out);

/* *index = which of the NULL-terminated names the key (whole, without a prefix) holds. */
void read_name(key_reader *reader, const char *key, const char *const *names, int *index);

/* BAD_KEY with the text, which names the keys, unless the condition holds. */
void require(key_reader *reader, bool condition, const char *text);

#endif
