/* Element types of GGUF tensors and the sizes of their blocks.
 *
 * A row of n elements is n / block_elements blocks of block_bytes bytes. The numbers of the
 * enum are the type ids of the GGUF format. */
#ifndef ONEKV_TENSOR_H
#define ONEKV_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, GGUF type id, elements per block, bytes per block) */
#define TENSOR_TYPE_LIST(X) \
  X(F32, 0, 1, 4)           \
  X(F16, 1, 1, 2)           \
  X(Q4_0, 2, 32, 18)        \
  X(Q4_1, 3, 32, 20)        \
  X(Q5_0, 6, 32, 22)        \
  X(Q5_1, 7, 32, 24)        \
  X(Q8_0, 8, 32, 34)        \
  X(Q2_K, 10, 256, 84)      \
  X(Q3_K, 11, 256, 110)     \
  X(Q4_K, 12, 256, 144)     \
  X(Q5_K, 13, 256, 176)     \
  X(Q6_K, 14, 256, 210)     \
  X(IQ4_NL, 20, 32, 18)     \
  X(IQ4_XS, 23, 256, 136)   \
  X(BF16, 30, 1, 2)         \
  X(TQ1_0, 34, 256, 54)     \
  X(TQ2_0, 35, 256, 66)     \
  X(MXFP4, 39, 32, 17)      \
  X(Q1_0, 41, 128, 18)

typedef enum tensor_type {
#define X(name, id, elements, bytes) TENSOR_##name = id,
  TENSOR_TYPE_LIST(X)
#undef X
      TENSOR_F16_NORMAL = 42, /* of no file: f16.h */
      TENSOR_TYPE_END
} tensor_type;

/* Of a block: TENSOR_ELEMENTS_Q8_0 is 32, TENSOR_BYTES_Q8_0 is 34. */
enum {
#define X(name, id, elements, bytes) TENSOR_ELEMENTS_##name = elements, TENSOR_BYTES_##name = bytes,
  TENSOR_TYPE_LIST(X)
#undef X
      TENSOR_BYTES_MAX = 256 /* at least a block of any type */
};

typedef struct tensor_type_info {
  const char *name; /* NULL: not a supported type */
  size_t block_elements;
  size_t block_bytes;
} tensor_type_info;

/* Of any id; name is NULL for one that is not supported. */
tensor_type_info tensor_type_describe(uint32_t type);

/* Bytes of a row of n_elements; false when the type is unknown, n_elements is not a whole number
 * of blocks, or the size overflows. */
bool tensor_row_bytes(uint32_t type, size_t n_elements, size_t *n_bytes);

#endif
