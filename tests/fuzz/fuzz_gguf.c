/* Any bytes into the GGUF parser, at once and in growing pieces; both must agree.
 *
 * Memory is limited: a table may not be larger than its header deserves. */
#include <stdlib.h>
#include <string.h>

#include "core/base/gguf.h"

enum { MEMORY_MAX = 64 << 20 };

static void *allocate_limited(void *context, size_t n_bytes) {
  size_t *n_free = (size_t *)context;
  if (n_bytes > *n_free) return NULL;
  *n_free -= n_bytes;
  return malloc(n_bytes);
}

static void release_limited(void *context, void *block, size_t n_bytes) {
  *(size_t *)context += n_bytes;
  free(block);
}

static void require(bool condition) {
  if (!condition) abort();
}

/* Reads every byte that the table points to, and looks everything up. */
static void use_table(const gguf *file, const uint8_t *bytes, size_t n_bytes) {
  for (size_t i = 0; i < file->n_values; i++) {
    const gguf_value *value = &file->values[i];
    char key[GGUF_NAME_MAX + 1] = {0};
    memcpy(key, value->key.bytes, value->key.n_bytes);
    require(value->bytes >= bytes && value->bytes + value->n_bytes <= bytes + n_bytes);
    require(strlen(key) != value->key.n_bytes || gguf_find(file, key) == value);
    uint32_t number = 0;
    float real = 0.0f;
    gguf_string text = {NULL, 0};
    onekv_error error;
    if (gguf_read_string(file, key, false, &text, &error) == ONEKV_OK && text.bytes != NULL) {
      require((const uint8_t *)text.bytes + text.n_bytes <= bytes + n_bytes);
    }
    (void)gguf_read_u32(file, key, true, &number, &error);
    (void)gguf_read_f32(file, key, true, &real, &error);
  }
  size_t end = 0;
  for (size_t i = 0; i < file->n_tensors; i++) {
    const gguf_tensor *tensor = &file->tensors[i];
    char label[GGUF_LABEL_MAX];
    size_t row_bytes = 0;
    require(strlen(gguf_label(tensor->name, label)) < GGUF_LABEL_MAX);
    require(tensor_row_bytes(tensor->type, tensor->n_columns, &row_bytes));
    require(row_bytes * tensor->n_rows == tensor->n_bytes);
    require(tensor->offset >= end && tensor->offset % file->alignment == 0);
    end = tensor->offset + tensor->n_bytes;
  }
  require(end == file->n_data_bytes && file->data_offset % file->alignment == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  size_t n_free = MEMORY_MAX;
  onekv_allocator allocator = {&n_free, allocate_limited, release_limited};
  memory_ledger memory;
  memory_init(&memory, &allocator);
  onekv_error error;
  gguf *file = NULL;
  size_t needed = 0;
  onekv_status status = gguf_parse(&memory, data, n_bytes, &file, &needed, &error);
  if (status == ONEKV_OK) {
    use_table(file, data, n_bytes);
    gguf_free(&memory, file);
  }
  if (status == ONEKV_TRUNCATED) require(needed > n_bytes && needed <= GGUF_HEADER_MAX);
  require(memory.n_bytes_total == 0 && n_free == MEMORY_MAX);

  /* The same in pieces: exact-sized copies, so that a read behind a piece is seen. */
  onekv_status in_pieces = ONEKV_TRUNCATED;
  size_t n_there = 0;
  while (in_pieces == ONEKV_TRUNCATED && n_there <= n_bytes) {
    uint8_t *piece = (uint8_t *)malloc(n_there + 1);
    require(piece != NULL);
    if (n_there > 0) memcpy(piece + 1, data, n_there);
    in_pieces = gguf_parse(&memory, piece + 1, n_there, &file, &needed, &error);
    if (in_pieces == ONEKV_OK) gguf_free(&memory, file);
    if (in_pieces == ONEKV_TRUNCATED) {
      require(needed > n_there);
      n_there = needed;
    }
    free(piece);
  }
  /* A lower bound beyond the end means that the whole cannot be good either. */
  require(in_pieces == ONEKV_TRUNCATED ? status != ONEKV_OK : in_pieces == status);
  return 0;
}
