/* What native tests share: files, models opened from files, golden data (tests/golden).
 *
 * A fixture that cannot be made ends the program with a message: there is nothing to test then. */
#ifndef ONEKV_TESTS_FIXTURE_H
#define ONEKV_TESTS_FIXTURE_H

#include "core/onekv.h"

typedef struct file_bytes {
  uint8_t *bytes;
  size_t n_bytes;
} file_bytes;

/* The whole file; free(file.bytes) is the caller's. */
file_bytes read_file(const char *path);

/* Feeds bytes in pieces of chunk_bytes and finishes. On an error *model stays as it was. */
onekv_status load_bytes(const onekv_model_options *options, file_bytes file, size_t chunk_bytes,
                        onekv_model **model, onekv_error *error);

/* A model from a file, or the end of the program. */
onekv_model *load_file(const char *path, const onekv_model_options *options);

/* What the model says of itself. */
onekv_shape shape_of(const onekv_model *model);

/* Expected values of one golden model: layout in tests/golden/README.md. */
typedef struct golden_data {
  char name[128];
  uint32_t n_rows;
  uint32_t n_features; /* 0: token input */
  uint32_t n_out_rows;
  uint32_t n_outputs;
  const int32_t *tokens; /* [n_rows] or NULL */
  const float *features; /* [n_rows][n_features] or NULL */
  const float *logits;   /* [n_out_rows][n_outputs] */
  file_bytes file;
} golden_data;

/* Reads tests/golden/NAME.bin; golden_free when done. */
golden_data golden_read(const char *name);
void golden_free(golden_data *golden);

/* The names of all golden models, sorted; free each and the list. */
char **golden_names(size_t *n);

/* Whether it is one of those whose matrices are of a type that is packed. */
bool is_quantised(const char *name);

/* max |a - b| / max |b| over n numbers; infinite if any is not a finite number. */
double relative_distance(const float *a, const float *b, size_t n);

#endif
