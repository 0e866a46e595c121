/* GGUF v3: the checked table of a model file's header.
 *
 * Nothing in the bytes is trusted: every length is compared with what is there before it is
 * used, every product is checked for overflow. After gguf_parse succeeded, all strings, values
 * and tensor sizes in the table are inside the bytes and consistent; the tensors are sorted by
 * offset, aligned, and do not overlap.
 *
 * Format (little-endian): "GGUF", u32 version, u64 n_tensors, u64 n_keys; keys: string name,
 * u32 type, value; tensors: string name, u32 n_dims, u64 dims[n_dims] (columns first), u32 type,
 * u64 offset from the data section, which starts at the next multiple of general.alignment
 * (default 32). A string is u64 length and bytes; an array is u32 item type, u64 n, items. */
#ifndef ONEKV_GGUF_H
#define ONEKV_GGUF_H

#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/base/tensor.h"

enum {
  GGUF_DIMS_MAX = 4,
  GGUF_NAME_MAX = 128,        /* longest tensor name and key, bytes */
  GGUF_ENTRIES_MAX = 1 << 16, /* most keys, and most tensors */
  GGUF_HEADER_MAX = 1 << 28,  /* largest header, bytes */
  GGUF_LABEL_MAX = 64         /* longest name in a message, with its zero byte */
};

typedef enum gguf_type {
  GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
  GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_COUNT
} gguf_type;

typedef struct gguf_string {
  const char *bytes; /* into the header; not zero-terminated */
  size_t n_bytes;
} gguf_string;

typedef struct gguf_value {
  gguf_string key;
  gguf_type type;
  gguf_type item_type;  /* arrays: type of the items (arrays of arrays are refused) */
  size_t n_items;       /* arrays: number of items; else 1 */
  const uint8_t *bytes; /* the value (an array's first item) in the file's encoding; may be
                           unaligned. A string starts with its u64 length. */
  size_t n_bytes;
} gguf_value;

typedef struct gguf_tensor {
  gguf_string name;
  tensor_type type;
  size_t n_columns; /* dims[0] */
  size_t n_rows;    /* product of the other dims */
  size_t n_dims;
  size_t dims[GGUF_DIMS_MAX]; /* columns first; 1 beyond n_dims */
  size_t offset;              /* from the start of the data section, bytes */
  size_t n_bytes;
} gguf_tensor;

typedef struct gguf {
  size_t n_values;
  gguf_value *values; /* [n_values], file order */
  size_t n_tensors;
  gguf_tensor *tensors; /* [n_tensors], by offset */
  gguf_value **values_by_key;    /* [n_values] */
  gguf_tensor **tensors_by_name; /* [n_tensors] */
  size_t alignment;
  size_t data_offset;   /* of the data section in the file, bytes */
  size_t n_data_bytes;  /* end of the last tensor, from data_offset */
  size_t n_table_bytes; /* of this struct's own allocation */
} gguf;

/* Parses the header at bytes[n_bytes]. The bytes stay the caller's and must outlive *file.
 *
 * OK: *file is the caller's, to be given to gguf_free. TRUNCATED: more bytes are needed; in that
 * case *n_bytes_needed > n_bytes is a lower bound of the header's size (not an error for a
 * stream). NOT_GGUF, UNSUPPORTED_VERSION, CORRUPT, UNSUPPORTED_TYPE, OUT_OF_MEMORY: *error says
 * which field. Nothing is allocated on failure. Checks: unknown value or tensor types, duplicate
 * keys and tensors, alignment (power of two, 8 to 4096), offsets, overlap, sizes. */
onekv_status gguf_parse(memory_ledger *memory, const uint8_t *bytes, size_t n_bytes, gguf **file,
                        size_t *n_bytes_needed, onekv_error *error);
void gguf_free(memory_ledger *memory, gguf *file);

/* NULL when there is none of that name. */
const gguf_value *gguf_find(const gguf *file, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf *file, const char *name);

/* The string made fit for a message: cut, characters that do not print replaced. Returns out. */
const char *gguf_label(gguf_string string, char out[GGUF_LABEL_MAX]);

/* Typed reading. A missing key leaves *out as it is and is OK (set the default before);
 * `required` makes it MISSING_KEY. A value of another type, or outside the range, is BAD_KEY.
 * u32 takes every integer type in range, f32 takes F32 and F64 (finite), string only strings. */
onekv_status gguf_read_u32(const gguf *file, const char *key, bool required, uint32_t *out,
                           onekv_error *error);
/* values [n]: of an array of exactly n integers or booleans, or all the same of one of them. */
onekv_status gguf_read_u32_list(const gguf *file, const char *key, bool required, size_t n,
                                uint32_t *values, onekv_error *error);
onekv_status gguf_read_f32(const gguf *file, const char *key, bool required, float *out,
                           onekv_error *error);
onekv_status gguf_read_string(const gguf *file, const char *key, bool required,
                              gguf_string *out, onekv_error *error);

#endif
