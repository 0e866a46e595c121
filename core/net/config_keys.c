/* Keys of a model's description: typed, bounded, and named in every error. */
#include "core/net/config_keys.h"

#include <string.h>

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

const char *architecture_key(key_reader *reader, const char *suffix) {
  size_t n_prefix = strlen(reader->architecture);
  memcpy(reader->key, reader->architecture, n_prefix);
  reader->key[n_prefix] = '.';
  strncpy(reader->key + n_prefix + 1, suffix, KEY_MAX - n_prefix - 2);
  reader->key[KEY_MAX - 1] = '\0';
  return reader->key;
}

bool has_key(key_reader *reader, const char *suffix) {
  return reader->status == ONEKV_OK &&
         gguf_find(reader->file, architecture_key(reader, suffix)) != NULL;
}

void read_size(key_reader *reader, const char *suffix, bool required, size_t minimum,
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

void read_per_layer(key_reader *reader, const char *suffix, bool required, uint32_t minimum,
                    uint32_t maximum, size_t n, uint32_t *values) {
  if (reader->status != ONEKV_OK) return;
  const char *key = architecture_key(reader, suffix);
  reader->status = gguf_read_u32_list(reader->file, key, required, n, values, reader->error);
  for (size_t i = 0; i < n && reader->status == ONEKV_OK; i++) {
    if (values[i] >= minimum && values[i] <= maximum) continue;
    reader->status =
        error_set(reader->error, ONEKV_BAD_KEY, "key %s, layer %zu: found %u, expected %u to %u",
                  key, i, values[i], minimum, maximum);
  }
}

void read_first(key_reader *reader, const char *suffix, size_t minimum, size_t maximum, size_t n,
                size_t *out) {
  uint32_t values[ONEKV_LAYERS_MAX] = {(uint32_t)*out};
  for (size_t i = 1; i < n; i++) values[i] = values[0];
  read_per_layer(reader, suffix, false, (uint32_t)minimum, (uint32_t)maximum, n, values);
  for (size_t i = 1; i < n && values[0] == 0; i++) values[0] = values[i];
  *out = values[0];
}

void read_number(key_reader *reader, const char *suffix, bool required, float minimum,
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

void read_name(key_reader *reader, const char *key, const char *const *names, int *index) {
  if (reader->status != ONEKV_OK) return;
  reader->status = read_choice(reader->file, key, names, index, reader->error);
}

void require(key_reader *reader, bool condition, const char *text) {
  if (reader->status == ONEKV_OK && !condition) {
    reader->status = error_set(reader->error, ONEKV_BAD_KEY, "model %s: %s",
                               reader->architecture, text);
  }
}
