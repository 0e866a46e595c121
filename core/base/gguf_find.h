/* Order and lookup of the entries of a GGUF table: what the parser shares with the reader. */
#ifndef ONEKV_GGUF_FIND_H
#define ONEKV_GGUF_FIND_H

#include "core/base/gguf.h"

/* By bytes, a prefix first: negative, 0 or positive. */
int gguf_string_compare(gguf_string a, gguf_string b);

/* In n log n steps for any input, in place. */
void gguf_sort_values(gguf_value **by_key, size_t n);

/* Sorts the tensors by offset, then fills by_name with pointers to them sorted by name. */
void gguf_sort_tensors(gguf_tensor *tensors, gguf_tensor **by_name, size_t n);

#endif
