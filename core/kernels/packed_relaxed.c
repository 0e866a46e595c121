/* Integer products by the relaxed dot products of bytes: the bits of packed_scalar.c.
 *
 * They take bytes of their second operand that are outside 0 to 127 as the processor does: as
 * signed ones (ARM), as unsigned ones (x86 with VNNI), or with sums that saturate (x86 without).
 * So activations, which are signed, are the first operand and codes of up to 7 bits the second;
 * that is exact everywhere. Codes of 8 bits go this way where bytes are taken as signed, or, with
 * 128 added, as unsigned; elsewhere they stay with i16 pairs. Many rows go by packed_slabs.h. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/kernels/kernels.h"
#include "core/kernels/simd128.h"

#include "core/kernels/packed_dot.h"
#include "core/kernels/packed_slabs.h"
#include "core/kernels/packed_tables.h"
#include "core/kernels/packed_tile.h"

#define MATMUL(name, way, type, flip)                                                           \
  static void name(const uint8_t *strip, const packed_activations *x, size_t n_rows, float *y,  \
                   size_t y_stride) {                                                           \
    size_t t = packed_slabs_multiply(PACKED_##type, strip, x, n_rows, y, y_stride);             \
    if (way == WAY_SHORTS) {                                                                    \
      t = packed_tiles(way, PACKED_##type, flip, 6, 2, strip, x, t, n_rows, y, y_stride);       \
    }                                                                                           \
    t = packed_tiles(way, PACKED_##type, flip, 2, 4, strip, x, t, n_rows, y, y_stride);         \
    packed_tiles(way, PACKED_##type, flip, 1, 4, strip, x, t, n_rows, y, y_stride);             \
  }

/* Codes of up to 7 bits, and of 8. Forms that files seldom have go one way only, which is nearly
 * as fast where DOT is one instruction: each further way of a form is 3 KB of the module. Q1_0 goes
 * by tables (packed_simd128.c). */
#define DOT_FORM_LIST(X) X(Q4_0) X(Q4_K) X(Q5_K) X(Q6_K)
#define SHORT_FORM_LIST(X) \
  DOT_FORM_LIST(X) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(TQ2_0) X(MXFP4)
#define BYTE_FORM_LIST(X) X(Q8_0) X(IQ4_NL) X(IQ4_XS)

#define X(type) MATMUL(matmul_shorts_##type, WAY_SHORTS, type, 0)
SHORT_FORM_LIST(X)
#undef X
#define X(type) MATMUL(matmul_dot_##type, WAY_DOT, type, 0)
DOT_FORM_LIST(X)
#undef X
#define X(type)                                          \
  MATMUL(matmul_signed_##type, WAY_DOT, type, 0)         \
  MATMUL(matmul_unsigned_##type, WAY_DOT, type, 128)
BYTE_FORM_LIST(X)
#undef X

/* --- activations --------------------------------------------------------------------------- */

SIMD_INLINE void encode_with_slabs(const float *x, size_t token, const packed_activations *out,
                                   int more) {
  packed_encode_simd128(x, token, out);
  for (size_t i = 0; i < out->rows_per_token; i++) {
    packed_slabs_make(out, token * out->rows_per_token + i, more);
  }
}

static void encode_signed(const float *x, size_t token, const packed_activations *out) {
  encode_with_slabs(x, token, out, 0);
}

static void encode_unsigned(const float *x, size_t token, const packed_activations *out) {
  encode_with_slabs(x, token, out, 128);
}

/* --- the choice ---------------------------------------------------------------------------- */

enum { CHECKED_ROWS = 7, CHECKED_COLUMNS = 32 };

typedef void matmul_function(const uint8_t *, const packed_activations *, size_t, float *, size_t);

/* Whether `found` gives the bits of what the table has: in the baseline compiler of Node 20, which
 * has relaxed SIMD behind a flag, it does not. One block is multiplied with several rows. */
static bool is_exact(const kernel_table *table, packed_form form, matmul_function *found) {
  enum { ROWS = CHECKED_ROWS, C = CHECKED_COLUMNS, STRIP_BYTES = (2 + C) * PACKED_ROWS };
  uint8_t strip[STRIP_BYTES];
  float inputs[C];
  int8_t values[ROWS * C];
  int16_t wide[ROWS * C];
  int16_t pairs[ROWS * C / 8];
  int16_t sums[ROWS];
  float scales[ROWS];
  float y[2][ROWS * PACKED_ROWS];
  packed_activations x = {C, C, 1, values, wide, scales, pairs, sums, 0, NULL, 0, NULL};
  for (int i = 0; i < STRIP_BYTES; i++) strip[i] = (uint8_t)(i * 91 % 256);
  for (size_t r = 0; r < PACKED_ROWS; r++) store_u16(strip + 2 * r, 0x3c00);
  for (size_t t = 0; t < ROWS; t++) {
    for (size_t c = 0; c < C; c++) inputs[c] = (float)((int)(t * C + c) * 2731 % 255 - 127);
    inputs[t] = 127.0f; /* so that the scale is 1 */
    table->packed_encode(inputs, t, &x);
  }
  /* The functions that the table will have, not copies that were inlined here. */
  matmul_function *volatile functions[2] = {found, table->packed_matmul[form]};
  for (size_t n_rows = 1; n_rows <= ROWS; n_rows += ROWS - 1) {
    for (size_t i = 0; i < 2; i++) functions[i](strip, &x, n_rows, y[i], PACKED_ROWS);
    if (memcmp(y[0], y[1], n_rows * PACKED_ROWS * sizeof(float)) != 0) return false;
  }
  return true;
}

void kernels_fill_packed_shorts(kernel_table *table) {
  if (!is_exact(table, PACKED_Q4_0, matmul_shorts_Q4_0)) return;
#define X(type) table->packed_matmul[PACKED_##type] = matmul_shorts_##type;
  SHORT_FORM_LIST(X)
#undef X
}

void kernels_fill_packed_dot(kernel_table *table) {
  volatile int8_t outside = -1; /* as an unsigned byte 255 */
  v128_t found = packed_dot_add(wasm_i8x16_splat(127), wasm_i8x16_splat(outside),
                                wasm_i32x4_splat(0));
  int32_t sum = wasm_i32x4_extract_lane(found, 0);
  bool is_signed = sum == -4 * 127;
  if (!is_signed && sum != 4 * 127 * 255) return;
  if (!is_exact(table, PACKED_Q4_0, matmul_dot_Q4_0)) return;
  if (!is_exact(table, PACKED_Q8_0, is_signed ? matmul_signed_Q8_0 : matmul_unsigned_Q8_0)) return;
#define X(type) table->packed_matmul[PACKED_##type] = matmul_dot_##type;
  DOT_FORM_LIST(X)
#undef X
#define X(type)                             \
  table->packed_matmul[PACKED_##type] =     \
      is_signed ? matmul_signed_##type : matmul_unsigned_##type;
  BYTE_FORM_LIST(X)
#undef X
  table->packed_encode = is_signed ? encode_signed : encode_unsigned;
  table->packed_has_slabs = true;
}

void kernels_fill_relaxed_packed(kernel_table *table) {
  if (SHORTS_ARE_ONE_INSTRUCTION) kernels_fill_packed_shorts(table);
  if (DOT_IS_ONE_INSTRUCTION) kernels_fill_packed_dot(table);
}
