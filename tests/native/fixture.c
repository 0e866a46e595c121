/* What native tests share; see fixture.h. */
#include "tests/native/fixture.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn static void give_up(const char *what, const char *why) {
  printf("fixture: %s: %s\n", what, why);
  exit(2);
}

file_bytes read_file(const char *path) {
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) give_up(path, "cannot be opened (run from the root of the checkout)");
  fseek(stream, 0, SEEK_END);
  long size = ftell(stream);
  fseek(stream, 0, SEEK_SET);
  file_bytes file = {malloc(size > 0 ? (size_t)size : 1), (size_t)size};
  if (file.bytes == NULL || fread(file.bytes, 1, file.n_bytes, stream) != file.n_bytes) {
    give_up(path, "cannot be read");
  }
  fclose(stream);
  return file;
}

onekv_status load_bytes(const onekv_model_options *options, file_bytes file, size_t chunk_bytes,
                        onekv_model **model, onekv_error *error) {
  onekv_loader *loader = NULL;
  onekv_status status = onekv_loader_open(options, &loader, error);
  if (status != ONEKV_OK) return status;
  for (size_t done = 0; done < file.n_bytes && status == ONEKV_OK;) {
    size_t n_left = file.n_bytes - done;
    size_t n = n_left < chunk_bytes ? n_left : chunk_bytes;
    status = onekv_loader_feed(loader, file.bytes + done, n, error);
    done += n;
  }
  if (status == ONEKV_OK) status = onekv_loader_finish(loader, model, error);
  if (status != ONEKV_OK) onekv_loader_close(loader);
  return status;
}

onekv_model *load_file(const char *path, const onekv_model_options *options) {
  onekv_model *model = NULL;
  onekv_error error = {ONEKV_OK, ""};
  file_bytes file = read_file(path);
  onekv_status status = load_bytes(options, file, 65536, &model, &error);
  free(file.bytes);
  if (status != ONEKV_OK) give_up(path, error.message);
  return model;
}

onekv_shape shape_of(const onekv_model *model) {
  onekv_shape shape;
  onekv_describe(onekv_model_config(model), &shape);
  return shape;
}

golden_data golden_read(const char *name) {
  char path[256];
  golden_data out = {0};
  snprintf(out.name, sizeof out.name, "%s", name);
  snprintf(path, sizeof path, "tests/golden/%s.bin", name);
  out.file = read_file(path);
  uint32_t header[8];
  if (out.file.n_bytes < sizeof header) give_up(path, "is too short");
  memcpy(header, out.file.bytes, sizeof header);
  if (memcmp(header, "OKVG", 4) != 0 || header[1] != 1) give_up(path, "is not a golden file");
  out.n_rows = header[3];
  out.n_features = header[4];
  out.n_out_rows = header[5];
  out.n_outputs = header[6];
  size_t n_inputs = header[2] == 0 ? out.n_rows : (size_t)out.n_rows * out.n_features;
  size_t n_logits = (size_t)out.n_out_rows * out.n_outputs;
  if (out.file.n_bytes != sizeof header + 4 * (n_inputs + n_logits)) {
    give_up(path, "has another length than its header says");
  }
  const void *input = out.file.bytes + sizeof header;
  if (header[2] == 0) {
    out.tokens = input;
  } else {
    out.features = input;
  }
  out.logits = (const float *)input + n_inputs;
  return out;
}

void golden_free(golden_data *golden) {
  free(golden->file.bytes);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

char **golden_names(size_t *n) {
  DIR *folder = opendir("tests/golden");
  if (folder == NULL) give_up("tests/golden", "cannot be opened");
  char **names = NULL;
  *n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    size_t length = strlen(entry->d_name);
    if (length < 5 || strcmp(entry->d_name + length - 4, ".bin") != 0) continue;
    names = realloc(names, (*n + 1) * sizeof *names);
    char *name = calloc(1, length);
    if (names == NULL || name == NULL) give_up("tests/golden", "no memory for the names");
    memcpy(name, entry->d_name, length - 4);
    names[(*n)++] = name;
  }
  closedir(folder);
  qsort(names, *n, sizeof *names, by_name);
  return names;
}

bool is_quantised(const char *name) {
  return strncmp(name, "type-", 5) == 0 && strcmp(name, "type-f16") != 0 &&
         strcmp(name, "type-bf16") != 0;
}

double relative_distance(const float *a, const float *b, size_t n) {
  double largest = 1e-30;
  double distance = 0.0;
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(a[i]) || !isfinite(b[i])) return (double)INFINITY;
    largest = fmax(largest, fabs((double)b[i]));
    distance = fmax(distance, fabs((double)a[i] - (double)b[i]));
  }
  return distance / largest;
}
