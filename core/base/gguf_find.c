/* Lookup and typed reading of a parsed GGUF table.
 *
 * Sorting is a heap sort: in place, without recursion, n log n for any input, so a hostile
 * header cannot make it slow. Lookup is a binary search, as a hostile model can ask for many
 * names. */
#include "core/base/gguf_find.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/f16.h"

enum { LABEL_SHOWN = 48 }; /* characters of a name that a message shows */

int gguf_string_compare(gguf_string a, gguf_string b) {
  size_t n = a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes;
  int order = n == 0 ? 0 : memcmp(a.bytes, b.bytes, n);
  if (order != 0) return order;
  return (a.n_bytes > b.n_bytes) - (a.n_bytes < b.n_bytes);
}

typedef int (*compare_function)(const void *a, const void *b);

static int compare_keys(const void *a, const void *b) {
  return gguf_string_compare((*(gguf_value *const *)a)->key, (*(gguf_value *const *)b)->key);
}

static int compare_names(const void *a, const void *b) {
  return gguf_string_compare((*(gguf_tensor *const *)a)->name, (*(gguf_tensor *const *)b)->name);
}

static int compare_offsets(const void *a, const void *b) {
  size_t first = ((const gguf_tensor *)a)->offset;
  size_t second = ((const gguf_tensor *)b)->offset;
  return (first > second) - (first < second);
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t size) {
  uint8_t kept[sizeof(gguf_tensor)]; /* the largest item sorted */
  memcpy(kept, a, size);
  memcpy(a, b, size);
  memcpy(b, kept, size);
}

/* Lets item i sink until no child in items[0, n) is larger. */
static void sift_down(uint8_t *items, size_t i, size_t n, size_t size, compare_function compare) {
  for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && compare(items + child * size, items + (child + 1) * size) < 0) child++;
    if (compare(items + i * size, items + child * size) >= 0) return;
    swap_bytes(items + i * size, items + child * size, size);
    i = child;
  }
}

static void heap_sort(void *base, size_t n, size_t size, compare_function compare) {
  uint8_t *items = base;
  for (size_t i = n / 2; i > 0; i--) sift_down(items, i - 1, n, size, compare);
  for (size_t last = n; last > 1; last--) {
    swap_bytes(items, items + (last - 1) * size, size);
    sift_down(items, 0, last - 1, size, compare);
  }
}

void gguf_sort_values(gguf_value **by_key, size_t n) {
  heap_sort(by_key, n, sizeof *by_key, compare_keys);
}

void gguf_sort_tensors(gguf_tensor *tensors, gguf_tensor **by_name, size_t n) {
  heap_sort(tensors, n, sizeof *tensors, compare_offsets);
  for (size_t i = 0; i < n; i++) by_name[i] = &tensors[i];
  heap_sort(by_name, n, sizeof *by_name, compare_names);
}

const gguf_value *gguf_find(const gguf *file, const char *key) {
  gguf_string wanted = {key, strlen(key)};
  size_t low = 0;
  size_t high = file->n_values;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = gguf_string_compare(file->values_by_key[middle]->key, wanted);
    if (order == 0) return file->values_by_key[middle];
    if (order < 0) low = middle + 1;
    if (order > 0) high = middle;
  }
  return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf *file, const char *name) {
  gguf_string wanted = {name, strlen(name)};
  size_t low = 0;
  size_t high = file->n_tensors;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = gguf_string_compare(file->tensors_by_name[middle]->name, wanted);
    if (order == 0) return file->tensors_by_name[middle];
    if (order < 0) low = middle + 1;
    if (order > 0) high = middle;
  }
  return NULL;
}

const char *gguf_label(gguf_string string, char out[GGUF_LABEL_MAX]) {
  size_t n = string.n_bytes < LABEL_SHOWN ? string.n_bytes : LABEL_SHOWN;
  for (size_t i = 0; i < n; i++) {
    char c = string.bytes[i];
    out[i] = c >= ' ' && c <= '~' ? c : '?';
  }
  memcpy(out + n, n < string.n_bytes ? "..." : "", n < string.n_bytes ? 4 : 1);
  return out;
}

static const char *const TYPE_NAMES[GGUF_TYPE_COUNT] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

/* Finds the key; *value is NULL when it is missing and may be. */
static onekv_status find_value(const gguf *file, const char *key, bool required,
                               const gguf_value **value, onekv_error *error) {
  *value = gguf_find(file, key);
  if (*value != NULL || !required) return ONEKV_OK;
  return error_set(error, ONEKV_MISSING_KEY, "key '%s' is missing", key);
}

static onekv_status refuse_type(const gguf_value *value, const char *key, const char *expected,
                                onekv_error *error) {
  return error_set(error, ONEKV_BAD_KEY, "key '%s' is of type %s, expected %s", key,
                   TYPE_NAMES[value->type], expected);
}

/* Bytes of an integer of that type, or of a boolean where these count; 0: it is neither. */
static size_t integer_bytes(gguf_type type, bool with_booleans) {
  switch (type) {
    case GGUF_U8:
    case GGUF_I8: return 1;
    case GGUF_U16:
    case GGUF_I16: return 2;
    case GGUF_U32:
    case GGUF_I32: return 4;
    case GGUF_U64:
    case GGUF_I64: return 8;
    case GGUF_BOOL: return with_booleans ? 1 : 0;
    default: return 0;
  }
}

/* False when it is negative or too large. */
static bool load_integer(gguf_type type, size_t n_bytes, const uint8_t *bytes, uint32_t *out) {
  bool is_signed =
      type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
  uint64_t bits = 0;
  for (size_t i = 0; i < n_bytes; i++) bits |= (uint64_t)bytes[i] << (8 * i);
  if ((is_signed && (bits >> (8 * n_bytes - 1)) != 0) || bits > UINT32_MAX) return false;
  *out = (uint32_t)bits;
  return true;
}

static onekv_status refuse_integer(const char *key, onekv_error *error) {
  return error_set(error, ONEKV_BAD_KEY, "key '%s' is negative or too large, expected 0 to %u",
                   key, UINT32_MAX);
}

onekv_status gguf_read_u32(const gguf *file, const char *key, bool required, uint32_t *out,
                           onekv_error *error) {
  const gguf_value *value;
  onekv_status status = find_value(file, key, required, &value, error);
  if (value == NULL) return status;
  size_t n_bytes = integer_bytes(value->type, false);
  if (n_bytes == 0) return refuse_type(value, key, "an integer", error);
  if (!load_integer(value->type, n_bytes, value->bytes, out)) return refuse_integer(key, error);
  return ONEKV_OK;
}

onekv_status gguf_read_u32_list(const gguf *file, const char *key, bool required, size_t n,
                                uint32_t *values, onekv_error *error) {
  const gguf_value *value;
  onekv_status status = find_value(file, key, required, &value, error);
  if (value == NULL) return status;
  bool is_array = value->type == GGUF_ARRAY;
  gguf_type type = is_array ? value->item_type : value->type;
  size_t n_bytes = integer_bytes(type, true);
  if (n_bytes == 0) return refuse_type(value, key, "an integer, or an array of them", error);
  if (is_array && value->n_items != n) {
    return error_set(error, ONEKV_BAD_KEY, "key '%s' has %zu items, expected %zu", key,
                     value->n_items, n);
  }
  for (size_t i = 0; i < n; i++) {
    const uint8_t *bytes = value->bytes + (is_array ? i * n_bytes : 0);
    if (!load_integer(type, n_bytes, bytes, &values[i])) return refuse_integer(key, error);
  }
  return ONEKV_OK;
}

onekv_status gguf_read_f32(const gguf *file, const char *key, bool required, float *out,
                           onekv_error *error) {
  const gguf_value *value;
  onekv_status status = find_value(file, key, required, &value, error);
  if (value == NULL) return status;
  double number = 0.0;
  if (value->type == GGUF_F32) {
    number = (double)f32_from_bits(load_u32(value->bytes));
  } else if (value->type == GGUF_F64) {
    uint64_t bits = load_u64(value->bytes);
    memcpy(&number, &bits, sizeof number);
  } else {
    return refuse_type(value, key, "f32", error);
  }
  if (!(fabs(number) <= (double)FLT_MAX)) { /* a NaN fails too */
    return error_set(error, ONEKV_BAD_KEY, "key '%s' is %g, expected a finite f32", key, number);
  }
  *out = (float)number;
  return ONEKV_OK;
}

onekv_status gguf_read_string(const gguf *file, const char *key, bool required, gguf_string *out,
                              onekv_error *error) {
  const gguf_value *value;
  onekv_status status = find_value(file, key, required, &value, error);
  if (value == NULL) return status;
  if (value->type != GGUF_STRING) return refuse_type(value, key, "a string", error);
  *out = (gguf_string){(const char *)value->bytes + 8, value->n_bytes - 8};
  return ONEKV_OK;
}
