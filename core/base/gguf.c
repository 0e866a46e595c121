/* GGUF parser: one pass over the header with a cursor that cannot leave it.
 *
 * Order: preamble, values, tensors, then the checks that need all of them (order, overlap,
 * duplicates). The tables are one block, sized by the counts in the preamble once the bytes
 * that so many entries need at least are known to be there.
 *
 * Invariants: the cursor's position never passes its end. A verdict other than TRUNCATED or OK
 * depends only on bytes before the position where it was given, so a header that arrives in
 * pieces gets the verdict of the whole one. Nothing takes more than n log n of the entries. */
#include "core/base/gguf.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/base/gguf_find.h"

enum {
  PREAMBLE_BYTES = 24,
  VALUE_BYTES_MIN = 8 + 1 + 4 + 1,          /* name of one byte, type, u8              */
  TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name of one byte, one dim, type, offset */
  ALIGNMENT_DEFAULT = 32,
  ALIGNMENT_MIN = 8,
  ALIGNMENT_MAX = 4096,
  PLACE_MAX = GGUF_LABEL_MAX + 32 /* longest text of place() */
};

/* Bytes of a value of each type; 0: no fixed size. */
static const uint8_t TYPE_BYTES[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};

/* Where the parser is, and what it would name in a message. */
typedef struct header_cursor {
  const uint8_t *bytes;
  size_t end;
  size_t position;
  size_t n_bytes_after; /* least number of bytes that must follow the field being read */
  const char *entry;    /* "key" or "tensor" */
  size_t index;
  gguf_string name; /* empty until it is known */
  size_t *n_bytes_needed;
  onekv_error *error;
} header_cursor;

/* "key 'general.name'" or, before its name is known, "key 3". */
static const char *place(const header_cursor *cursor, char out[PLACE_MAX]) {
  char label[GGUF_LABEL_MAX];
  if (cursor->name.n_bytes > 0) {
    text_format(out, PLACE_MAX, "%s '%s'", cursor->entry, gguf_label(cursor->name, label));
  } else {
    text_format(out, PLACE_MAX, "%s %zu", cursor->entry, cursor->index);
  }
  return out;
}

/* A found number against what the format allows there. */
static onekv_status refuse(const header_cursor *cursor, onekv_status status, const char *field,
                           uint64_t found, const char *expected) {
  char where[PLACE_MAX];
  return error_set(cursor->error, status, "%s: %s is %llu, expected %s", place(cursor, where),
                   field, (unsigned long long)found, expected);
}

static onekv_status take(header_cursor *cursor, uint64_t n, const uint8_t **out) {
  if (n <= cursor->end - cursor->position) {
    *out = cursor->bytes + cursor->position;
    cursor->position += (size_t)n;
    return ONEKV_OK;
  }
  size_t known = cursor->position + cursor->n_bytes_after; /* both small: no overflow */
  if (known > GGUF_HEADER_MAX || n > GGUF_HEADER_MAX - known) {
    return refuse(cursor, ONEKV_CORRUPT, "length of a field", n, "a header below 256 MiB");
  }
  *cursor->n_bytes_needed = known + (size_t)n;
  return error_set(cursor->error, ONEKV_TRUNCATED, "header: %zu bytes, at least %zu needed",
                   cursor->end, *cursor->n_bytes_needed);
}

static onekv_status take_u32(header_cursor *cursor, uint32_t *out) {
  const uint8_t *bytes;
  onekv_status status = take(cursor, 4, &bytes);
  if (status == ONEKV_OK) *out = load_u32(bytes);
  return status;
}

static onekv_status take_u64(header_cursor *cursor, uint64_t *out) {
  const uint8_t *bytes;
  onekv_status status = take(cursor, 8, &bytes);
  if (status == ONEKV_OK) *out = load_u64(bytes);
  return status;
}

static onekv_status take_name(header_cursor *cursor) {
  uint64_t n = 0;
  const uint8_t *bytes;
  onekv_status status = take_u64(cursor, &n);
  if (status != ONEKV_OK) return status;
  if (n == 0 || n > GGUF_NAME_MAX) {
    return refuse(cursor, ONEKV_CORRUPT, "length of the name", n, "1 to 128");
  }
  status = take(cursor, n, &bytes);
  if (status == ONEKV_OK) cursor->name = (gguf_string){(const char *)bytes, (size_t)n};
  return status;
}

static onekv_status take_strings(header_cursor *cursor, uint64_t n) {
  size_t n_bytes_after = cursor->n_bytes_after;
  onekv_status status = ONEKV_OK;
  for (uint64_t i = 0; i < n && status == ONEKV_OK; i++) {
    uint64_t n_bytes = 0;
    const uint8_t *bytes;
    cursor->n_bytes_after = n_bytes_after + (size_t)(n - i - 1) * 8;
    status = take_u64(cursor, &n_bytes);
    if (status == ONEKV_OK) status = take(cursor, n_bytes, &bytes);
  }
  cursor->n_bytes_after = n_bytes_after;
  return status;
}

/* The n items of one type, strings or of fixed size. */
static onekv_status take_items(header_cursor *cursor, gguf_type type, uint64_t n) {
  size_t size = type == GGUF_STRING ? 8 : TYPE_BYTES[type];
  if (n > GGUF_HEADER_MAX / size) {
    return refuse(cursor, ONEKV_CORRUPT, "number of items", n, "a header below 256 MiB");
  }
  const uint8_t *bytes;
  onekv_status status = take(cursor, n * size, &bytes);
  if (status != ONEKV_OK) return status;
  if (type == GGUF_STRING) {
    cursor->position -= (size_t)n * size;
    return take_strings(cursor, n);
  }
  for (size_t i = 0; type == GGUF_BOOL && i < n; i++) {
    if (bytes[i] > 1) return refuse(cursor, ONEKV_CORRUPT, "boolean", bytes[i], "0 or 1");
  }
  return ONEKV_OK;
}

static onekv_status take_value(header_cursor *cursor, gguf_value *value) {
  uint32_t type = 0;
  uint32_t item_type = 0;
  uint64_t n_items = 1;
  onekv_status status = take_name(cursor);
  if (status == ONEKV_OK) status = take_u32(cursor, &type);
  if (status != ONEKV_OK) return status;
  if (type >= GGUF_TYPE_COUNT) return refuse(cursor, ONEKV_CORRUPT, "type", type, "0 to 12");
  item_type = type;
  if (type == GGUF_ARRAY) {
    status = take_u32(cursor, &item_type);
    if (status != ONEKV_OK) return status;
    if (item_type == GGUF_ARRAY) {
      return refuse(cursor, ONEKV_UNSUPPORTED_TYPE, "item type", item_type, "no array in array");
    }
    if (item_type >= GGUF_TYPE_COUNT) {
      return refuse(cursor, ONEKV_CORRUPT, "item type", item_type, "0 to 12");
    }
    status = take_u64(cursor, &n_items);
    if (status != ONEKV_OK) return status;
  }
  size_t start = cursor->position;
  status = take_items(cursor, (gguf_type)item_type, n_items);
  if (status != ONEKV_OK) return status;
  *value = (gguf_value){.key = cursor->name,
                        .type = (gguf_type)type,
                        .item_type = (gguf_type)item_type,
                        .n_items = (size_t)n_items,
                        .bytes = cursor->bytes + start,
                        .n_bytes = cursor->position - start};
  return ONEKV_OK;
}

static bool fits_size(uint64_t value) {
  return (uint64_t)(size_t)value == value;
}

/* dims[n_dims] of the file into the tensor's shape. */
static onekv_status take_shape(header_cursor *cursor, gguf_tensor *tensor) {
  uint32_t n_dims = 0;
  onekv_status status = take_u32(cursor, &n_dims);
  if (status != ONEKV_OK) return status;
  if (n_dims == 0 || n_dims > GGUF_DIMS_MAX) {
    return refuse(cursor, ONEKV_CORRUPT, "number of dimensions", n_dims, "1 to 4");
  }
  tensor->n_dims = n_dims;
  tensor->n_rows = 1;
  for (size_t i = 0; i < GGUF_DIMS_MAX; i++) tensor->dims[i] = 1;
  for (size_t i = 0; i < n_dims; i++) {
    uint64_t dim = 0;
    status = take_u64(cursor, &dim);
    if (status != ONEKV_OK) return status;
    bool fits = dim > 0 && fits_size(dim);
    if (fits && i > 0) fits = size_multiply(tensor->n_rows, (size_t)dim, &tensor->n_rows);
    if (!fits) {
      return refuse(cursor, ONEKV_CORRUPT, "a dimension", dim, "a size that can be addressed");
    }
    tensor->dims[i] = (size_t)dim;
  }
  tensor->n_columns = tensor->dims[0];
  return ONEKV_OK;
}

static onekv_status take_tensor(header_cursor *cursor, size_t alignment, gguf_tensor *tensor) {
  char where[PLACE_MAX];
  uint32_t type = 0;
  uint64_t offset = 0;
  size_t row_bytes = 0;
  onekv_status status = take_name(cursor);
  if (status == ONEKV_OK) status = take_shape(cursor, tensor);
  if (status == ONEKV_OK) status = take_u32(cursor, &type);
  if (status == ONEKV_OK) status = take_u64(cursor, &offset);
  if (status != ONEKV_OK) return status;
  tensor_type_info info = tensor_type_describe(type);
  if (info.name == NULL) {
    return refuse(cursor, ONEKV_UNSUPPORTED_TYPE, "element type", type, "a supported one");
  }
  if (tensor->n_columns % info.block_elements != 0) {
    return error_set(cursor->error, ONEKV_CORRUPT, "%s: %zu columns, expected blocks of %zu (%s)",
                     place(cursor, where), tensor->n_columns, info.block_elements, info.name);
  }
  if (!fits_size(offset) || offset % alignment != 0) {
    return refuse(cursor, ONEKV_CORRUPT, "offset", offset, "a multiple of general.alignment");
  }
  if (!tensor_row_bytes(type, tensor->n_columns, &row_bytes) ||
      !size_multiply(row_bytes, tensor->n_rows, &tensor->n_bytes) ||
      tensor->n_bytes > SIZE_MAX - (size_t)offset) {
    return error_set(cursor->error, ONEKV_CORRUPT,
                     "%s: %zu x %zu at offset %zu cannot be addressed", place(cursor, where),
                     tensor->n_rows, tensor->n_columns, (size_t)offset);
  }
  tensor->name = cursor->name;
  tensor->type = (tensor_type)type;
  tensor->offset = (size_t)offset;
  return ONEKV_OK;
}

static onekv_status take_preamble(header_cursor *cursor, size_t *n_values, size_t *n_tensors) {
  static const char MAGIC[4] = {'G', 'G', 'U', 'F'};
  size_t n_there = cursor->end < sizeof MAGIC ? cursor->end : sizeof MAGIC;
  if (n_there > 0 && memcmp(cursor->bytes, MAGIC, n_there) != 0) {
    return error_set(cursor->error, ONEKV_NOT_GGUF, "the first bytes are not \"GGUF\"");
  }
  const uint8_t *field;
  uint32_t version = 0;
  uint64_t counts[2] = {0, 0};
  cursor->n_bytes_after = PREAMBLE_BYTES - 4;
  onekv_status status = take(cursor, sizeof MAGIC, &field);
  cursor->n_bytes_after = PREAMBLE_BYTES - 8;
  if (status == ONEKV_OK) status = take_u32(cursor, &version);
  if (status != ONEKV_OK) return status;
  if (version != 2 && version != 3) {
    return error_set(cursor->error, ONEKV_UNSUPPORTED_VERSION, "version is %u, expected 2 or 3%s",
                     version, version % 65536 == 0 ? " (the file may be big-endian)" : "");
  }
  static const char *const ENTRIES[2] = {"tensors", "keys"};
  for (size_t i = 0; i < 2; i++) {
    cursor->n_bytes_after = i == 0 ? 8 : 0;
    status = take_u64(cursor, &counts[i]);
    if (status != ONEKV_OK) return status;
    if (counts[i] > GGUF_ENTRIES_MAX) {
      return error_set(cursor->error, ONEKV_CORRUPT, "number of %s is %llu, expected at most %d",
                       ENTRIES[i], (unsigned long long)counts[i], GGUF_ENTRIES_MAX);
    }
  }
  *n_tensors = (size_t)counts[0];
  *n_values = (size_t)counts[1];
  cursor->n_bytes_after = 0;
  status = take(cursor, *n_values * VALUE_BYTES_MIN + *n_tensors * TENSOR_BYTES_MIN, &field);
  cursor->position = PREAMBLE_BYTES; /* these bytes are there now, but not read yet */
  return status;
}

static onekv_status take_values(header_cursor *cursor, gguf *file) {
  cursor->entry = "key";
  for (size_t i = 0; i < file->n_values; i++) {
    cursor->index = i;
    cursor->name.n_bytes = 0;
    cursor->n_bytes_after =
        (file->n_values - i - 1) * VALUE_BYTES_MIN + file->n_tensors * TENSOR_BYTES_MIN;
    onekv_status status = take_value(cursor, &file->values[i]);
    if (status != ONEKV_OK) return status;
    file->values_by_key[i] = &file->values[i];
  }
  return ONEKV_OK;
}

static onekv_status take_tensors(header_cursor *cursor, gguf *file) {
  cursor->entry = "tensor";
  for (size_t i = 0; i < file->n_tensors; i++) {
    cursor->index = i;
    cursor->name.n_bytes = 0;
    cursor->n_bytes_after = (file->n_tensors - i - 1) * TENSOR_BYTES_MIN;
    onekv_status status = take_tensor(cursor, file->alignment, &file->tensors[i]);
    if (status != ONEKV_OK) return status;
    file->tensors_by_name[i] = &file->tensors[i];
  }
  return ONEKV_OK;
}

/* Values are ordered, which shows duplicates, before the first one is looked up. */
static onekv_status check_values(gguf *file, onekv_error *error) {
  char label[GGUF_LABEL_MAX];
  gguf_sort_values(file->values_by_key, file->n_values);
  for (size_t i = 1; i < file->n_values; i++) {
    gguf_string key = file->values_by_key[i]->key;
    if (gguf_string_compare(file->values_by_key[i - 1]->key, key) == 0) {
      return error_set(error, ONEKV_CORRUPT, "key '%s' appears twice", gguf_label(key, label));
    }
  }
  uint32_t alignment = ALIGNMENT_DEFAULT;
  onekv_status status = gguf_read_u32(file, "general.alignment", false, &alignment, error);
  if (status != ONEKV_OK) {
    return error_set(error, ONEKV_CORRUPT, "key 'general.alignment' is not a u32");
  }
  if (alignment < ALIGNMENT_MIN || alignment > ALIGNMENT_MAX ||
      (alignment & (alignment - 1)) != 0) {
    return error_set(error, ONEKV_CORRUPT,
                     "key 'general.alignment' is %u, expected a power of two from 8 to 4096",
                     alignment);
  }
  file->alignment = alignment;
  return ONEKV_OK;
}

static onekv_status check_tensors(gguf *file, onekv_error *error) {
  char label[GGUF_LABEL_MAX];
  char other[GGUF_LABEL_MAX];
  gguf_sort_tensors(file->tensors, file->tensors_by_name, file->n_tensors);
  for (size_t i = 1; i < file->n_tensors; i++) {
    gguf_string name = file->tensors_by_name[i]->name;
    if (gguf_string_compare(file->tensors_by_name[i - 1]->name, name) == 0) {
      return error_set(error, ONEKV_CORRUPT, "tensor '%s' appears twice", gguf_label(name, label));
    }
    const gguf_tensor *before = &file->tensors[i - 1];
    const gguf_tensor *tensor = &file->tensors[i];
    if (tensor->offset - before->offset < before->n_bytes) {
      return error_set(error, ONEKV_CORRUPT, "tensor '%s' starts inside tensor '%s'",
                       gguf_label(tensor->name, label), gguf_label(before->name, other));
    }
  }
  if (file->n_tensors > 0) {
    const gguf_tensor *last = &file->tensors[file->n_tensors - 1];
    file->n_data_bytes = last->offset + last->n_bytes; /* checked in take_tensor */
  }
  if (file->n_data_bytes <= SIZE_MAX - file->data_offset) return ONEKV_OK;
  return error_set(error, ONEKV_CORRUPT, "%zu bytes of tensors cannot be addressed",
                   file->n_data_bytes);
}

/* One block for the table and its arrays; NULL when there is no memory for it. */
static gguf *table_take(memory_ledger *memory, size_t n_values, size_t n_tensors) {
  /* At most 2^17 entries of about 100 bytes: no overflow. Widest alignment first. */
  size_t n_bytes = sizeof(gguf) + n_values * (sizeof(gguf_value) + sizeof(gguf_value *)) +
                   n_tensors * (sizeof(gguf_tensor) + sizeof(gguf_tensor *));
  gguf *file = memory_take(memory, MEMORY_TABLES, n_bytes);
  if (file == NULL) return NULL;
  file->n_table_bytes = n_bytes;
  file->n_values = n_values;
  file->n_tensors = n_tensors;
  file->values = (gguf_value *)(file + 1);
  file->tensors = (gguf_tensor *)(file->values + n_values);
  file->values_by_key = (gguf_value **)(file->tensors + n_tensors);
  file->tensors_by_name = (gguf_tensor **)(file->values_by_key + n_values);
  return file;
}

onekv_status gguf_parse(memory_ledger *memory, const uint8_t *bytes, size_t n_bytes, gguf **file,
                        size_t *n_bytes_needed, onekv_error *error) {
  header_cursor cursor = {.bytes = bytes,
                          .end = n_bytes < GGUF_HEADER_MAX ? n_bytes : GGUF_HEADER_MAX,
                          .entry = "header",
                          .n_bytes_needed = n_bytes_needed,
                          .error = error};
  size_t n_values = 0;
  size_t n_tensors = 0;
  onekv_status status = take_preamble(&cursor, &n_values, &n_tensors);
  if (status != ONEKV_OK) return status;
  gguf *table = table_take(memory, n_values, n_tensors);
  if (table == NULL) {
    return error_set(error, ONEKV_OUT_OF_MEMORY, "no memory for %zu keys and %zu tensors", n_values,
                     n_tensors);
  }
  status = take_values(&cursor, table);
  if (status == ONEKV_OK) status = check_values(table, error);
  if (status == ONEKV_OK) status = take_tensors(&cursor, table);
  if (status == ONEKV_OK) {
    size_t past = cursor.position % table->alignment;
    table->data_offset = cursor.position + (past == 0 ? 0 : table->alignment - past);
    status = check_tensors(table, error);
  }
  if (status != ONEKV_OK) {
    gguf_free(memory, table);
    return status;
  }
  *file = table;
  return ONEKV_OK;
}

void gguf_free(memory_ledger *memory, gguf *file) {
  if (file != NULL) memory_give_back(memory, MEMORY_TABLES, file, file->n_table_bytes);
}
