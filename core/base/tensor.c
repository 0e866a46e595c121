/* Element types: the table behind tensor.h. */
#include "core/base/tensor.h"

#include "core/base/memory.h"

tensor_type_info tensor_type_describe(uint32_t type) {
  switch (type) {
#define X(name, id, elements, bytes) \
  case id:                           \
    return (tensor_type_info){#name, elements, bytes};
    TENSOR_TYPE_LIST(X)
#undef X
    default:
      return (tensor_type_info){NULL, 0, 0};
  }
}

bool tensor_row_bytes(uint32_t type, size_t n_elements, size_t *n_bytes) {
  tensor_type_info info = tensor_type_describe(type);
  if (info.name == NULL || n_elements % info.block_elements != 0) return false;
  return size_multiply(n_elements / info.block_elements, info.block_bytes, n_bytes);
}
