/* Packed matrices: quantised weights as the integer kernels read them.
 *
 * Rows stand in strips of 16, the last one filled up with zero rows. A strip is a run of blocks of
 * 32 columns:
 *
 *   scales    f32 [16]        a weight is value · scale (+ minimum)
 *   minima    f32 [16]        in the forms that have them
 *   values    [8][16][4]      8 groups of 4 columns, 16 rows, 4 columns: int8
 *             [4][16][4]      4-bit forms: the low halves are column groups 0 to 3, the high
 *                             halves groups 4 to 7
 *
 * PACKED_I8_HALVES has a scale for 16 columns, so its block is two halves of scales [16] and
 * values [4][16][4]. Packing loses nothing: a row that is unpacked has the bits that
 * kernels.dequantize gives, and scales are f32 because the products of the K types' scales are,
 * and because converting halves in the kernel was measured to cost more than their bytes. */
#ifndef ONEKV_PACKED_H
#define ONEKV_PACKED_H

#include "core/base/tensor.h"

enum {
  PACKED_ROWS = 16,    /* of a strip */
  PACKED_COLUMNS = 32 /* of a block */
};

/* The forms, and the types that are packed in them:
 *   I8         Q8_0, Q5_0   value · scale
 *   I8_MIN     Q5_1, Q5_K   value · scale + minimum
 *   I8_HALVES  Q6_K         value · the half's scale
 *   U4         Q4_0         (value - 8) · scale
 *   U4_MIN     Q4_1, Q4_K   value · scale + minimum */
#define PACKED_FORM_LIST(X) X(I8) X(I8_MIN) X(I8_HALVES) X(U4) X(U4_MIN)

typedef enum packed_form {
  PACKED_NONE, /* rows of the file's type */
#define X(form) PACKED_##form,
  PACKED_FORM_LIST(X)
#undef X
      PACKED_FORM_COUNT
} packed_form;

/* PACKED_NONE for types that are multiplied as floats. */
packed_form packed_form_of(tensor_type type);

/* Bytes of one block of a strip; 0 for PACKED_NONE. */
size_t packed_block_bytes(packed_form form);

/* Puts n neighbouring blocks of a file of that type, 32 or 256 columns each, into row `row` (0 to
 * 15) of the strip whose block `blocks` has the first of these columns. */
void packed_write(tensor_type type, const uint8_t *source, size_t n, size_t row, uint8_t *blocks);

/* Zeroes row `row` in the strip's n_blocks blocks. */
void packed_clear(packed_form form, size_t row, size_t n_blocks, uint8_t *blocks);

/* out[32 · n_blocks] = row `row` of the strip as f32. */
void packed_read(packed_form form, const uint8_t *blocks, size_t row, size_t n_blocks, float *out);

/* Rows of activations, rounded in blocks of 32 columns: x = value · scale, scale = max|x| / limit.
 * A value has one byte (7 bits and a sign, as 8-bit runtimes round) or two (15 bits and a sign:
 * 2^-7 of the error). The products of a block with int8 weights fit i32, so a block is summed
 * exactly. */
enum { PACKED_LIMIT_1_BYTE = 127, PACKED_LIMIT_2_BYTES = 127 * 128 };

static inline int packed_limit(size_t value_bytes) {
  return value_bytes == 1 ? PACKED_LIMIT_1_BYTE : PACKED_LIMIT_2_BYTES;
}

typedef struct packed_activations {
  size_t n_columns;
  size_t value_bytes; /* 1 or 2 */
  uint8_t offset;     /* the kernel table's packed_offset */
  int16_t *values; /* [n][n_columns]; of 4 neighbours the middle two change places: 0, 2, 1, 3, as
                      even and odd bytes of the weights meet them */
  float *scales;   /* [n][n_columns / 32] */
  int32_t *sums;   /* [n][n_columns / 32]: of a block's values */
  /* Again, for kernels that multiply bytes: value = 256 · h + l, plus the offset each. */
  uint8_t *bytes; /* [n][n_columns / 4][value_bytes][4]: 4 times h, if values have two, 4 times l */
} packed_activations;

#endif
