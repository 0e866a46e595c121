/* Packed matrices: quantised weights as the integer kernels read them, in the file's own numbers.
 *
 * Rows stand in strips of 16, the last one filled up with zero rows. A strip is a run of blocks as
 * long as the type's (32 to 256 columns), and a block is
 *
 *   factors   f16 [16]          d; of MXFP4 u8 [16], exponents
 *   minima    f16 [16]          m, in the types that have one
 *   scales                      of the block's parts, in the types that have them (packed_scales)
 *   units     [columns / 16]    the codes, 16 columns after 16 columns
 *
 * A code of b bits is stored in planes of 8, 4, 2 and 1 bits, those that b is the sum of, the
 * largest first and with the lowest bits. In a unit, "group" k is columns 4k to 4k + 3:
 *
 *   8 bits    [4 groups][16 rows][4 columns]
 *   4 bits    [2][16][4]        low halves: groups 0 and 1, high halves: groups 2 and 3
 *   2 bits    [16][4]           bits 2k, 2k + 1: group k
 *   1 bit     [8][4]            bit k: group k of rows 0 to 7; bit 4 + k: of rows 8 to 15
 *
 * so a vector of a plane is 4 rows x 4 columns and a unit has 32 b bytes. A code that has one bit
 * in all stands as the tables of sums look it up (packed_tables):
 *
 *   1 of 1    [2][16 rows]      bit k of the first byte: column k; of the second: column 8 + k
 *
 * A weight is
 *
 *   (value - middle) · (d · scale)  [+ m · minimum]
 *
 * where scale and minimum are 1 without parts, and value is the code, or what a table says for it.
 * Packing loses nothing: a row that is unpacked has the bits that kernels.dequantize gives, and
 * takes the file's bytes, but for 6-bit scales that get 8 bits (Q4_K + 2.8 %, Q5_K + 2.3 %, IQ4_XS
 * + 1.5 %). */
#ifndef ONEKV_PACKED_H
#define ONEKV_PACKED_H

#include "core/base/f16.h"
#include "core/base/tensor.h"

enum {
  PACKED_ROWS = 16,         /* of a strip */
  PACKED_UNIT = 16,         /* columns */
  PACKED_COLUMNS_MAX = 256, /* of a block */
  PACKED_PARTS_MAX = 16     /* of a block, with scales of their own */
};

/* How the parts' scales stand, part after part, each [16 rows]. */
typedef enum packed_scales {
  SCALES_NONE,
  SCALES_U8, /* u8 scale [parts][16], then u8 minimum [parts][16] */
  SCALES_U4, /* scale in the low half, minimum in the high one [parts][16] */
  SCALES_I8, /* i8 scale [parts][16] */
  SCALES_I6  /* 32 more than the scale, of 16 parts: low 4 bits [8][16], those of parts p and p + 8
                in one byte, then high 2 bits [4][16], of parts p, p + 4, p + 8 and p + 12 */
} packed_scales;

/* What a code stands for. */
typedef enum packed_values {
  VALUES_CODES, /* itself; as a signed number if it has 8 bits; 0 or 2 if it has one */
  VALUES_IQ4,   /* the 16 values of IQ4_NL and IQ4_XS */
  VALUES_FP4,   /* sign, 2 bits of exponent, 1 of fraction: twice the number, and 12 */
  VALUES_COUNT
} packed_values;

static const int8_t PACKED_VALUES[VALUES_COUNT][16] = {
    [VALUES_IQ4] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    [VALUES_FP4] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}};

/* What a block's factor is. */
typedef enum packed_factor {
  FACTOR_F16,
  FACTOR_E8 /* an exponent, u8 (f32_half_of_e8) */
} packed_factor;

/* X(type, columns of a block, bits of a code, values, middle, columns of a part, scales, has
 * minima, factor) */
#define PACKED_FORM_LIST(X) \
  X(Q8_0, 32, 8, VALUES_CODES, 0, 32, SCALES_NONE, false, FACTOR_F16)    \
  X(Q4_0, 32, 4, VALUES_CODES, 8, 32, SCALES_NONE, false, FACTOR_F16)    \
  X(Q4_1, 32, 4, VALUES_CODES, 0, 32, SCALES_NONE, true, FACTOR_F16)     \
  X(Q5_0, 32, 5, VALUES_CODES, 16, 32, SCALES_NONE, false, FACTOR_F16)   \
  X(Q5_1, 32, 5, VALUES_CODES, 0, 32, SCALES_NONE, true, FACTOR_F16)     \
  X(Q2_K, 256, 2, VALUES_CODES, 0, 16, SCALES_U4, true, FACTOR_F16)      \
  X(Q3_K, 256, 3, VALUES_CODES, 4, 16, SCALES_I6, false, FACTOR_F16)     \
  X(Q4_K, 256, 4, VALUES_CODES, 0, 32, SCALES_U8, true, FACTOR_F16)      \
  X(Q5_K, 256, 5, VALUES_CODES, 0, 32, SCALES_U8, true, FACTOR_F16)      \
  X(Q6_K, 256, 6, VALUES_CODES, 32, 16, SCALES_I8, false, FACTOR_F16)    \
  X(IQ4_NL, 32, 4, VALUES_IQ4, 0, 32, SCALES_NONE, false, FACTOR_F16)    \
  X(IQ4_XS, 256, 4, VALUES_IQ4, 0, 32, SCALES_I8, false, FACTOR_F16)     \
  X(TQ2_0, 256, 2, VALUES_CODES, 1, 256, SCALES_NONE, false, FACTOR_F16) \
  X(Q1_0, 128, 1, VALUES_CODES, 1, 128, SCALES_NONE, false, FACTOR_F16)  \
  X(MXFP4, 32, 4, VALUES_FP4, 12, 32, SCALES_NONE, false, FACTOR_E8)

typedef enum packed_form {
  PACKED_NONE, /* rows of the file's type */
#define X(type, ...) PACKED_##type,
  PACKED_FORM_LIST(X)
#undef X
      PACKED_FORM_COUNT
} packed_form;

/* The one statement of what a block is made of; all sizes and places follow from it. */
typedef struct packed_geometry {
  size_t columns; /* of a block, and of the activations that share a scale when they meet it */
  size_t bits;    /* of a code */
  packed_values values;
  int middle;
  size_t part_columns;
  packed_scales scales;
  bool has_minimum;
  packed_factor factor;
} packed_geometry;

static const packed_geometry PACKED_GEOMETRY[PACKED_FORM_COUNT] = {
#define X(type, ...) [PACKED_##type] = {__VA_ARGS__},
    PACKED_FORM_LIST(X)
#undef X
};

/* Bytes before the scales, and before the units. */
static inline size_t packed_scales_offset(packed_geometry g) {
  size_t factor_bytes = g.factor == FACTOR_E8 ? sizeof(uint8_t) : sizeof(uint16_t);
  return PACKED_ROWS * (factor_bytes + (g.has_minimum ? sizeof(uint16_t) : 0));
}

static inline size_t packed_units_offset(packed_geometry g) {
  size_t n_parts = g.columns / g.part_columns;
  size_t n_bytes = g.scales == SCALES_NONE ? 0 /* of a row's scales */
                   : g.scales == SCALES_U8 ? 2 * n_parts
                   : g.scales == SCALES_I6 ? 12
                                           : n_parts;
  return packed_scales_offset(g) + n_bytes * PACKED_ROWS;
}

/* Values are int8, else 0 to 63. */
static inline bool packed_is_signed(packed_geometry g) {
  return g.bits == 8 || g.values == VALUES_IQ4;
}

static inline size_t packed_unit_bytes(packed_geometry g) { return 32 * g.bits; }

/* Bytes of one block of a strip. */
static inline size_t packed_bytes_of(packed_geometry g) {
  return packed_units_offset(g) + g.columns / PACKED_UNIT * packed_unit_bytes(g);
}

/* PACKED_NONE for types that are multiplied as floats. */
packed_form packed_form_of(tensor_type type);

/* The same by form; 0 for PACKED_NONE. */
size_t packed_block_bytes(packed_form form);

/* One row of a block: what the readers of packed_types.c make of a file's block. */
typedef struct packed_row {
  uint8_t codes[PACKED_COLUMNS_MAX]; /* packed_get gives values: int8 if they are signed */
  uint16_t factor;  /* as the form has it */
  uint16_t minimum; /* f16 */
  uint8_t scales[PACKED_PARTS_MAX]; /* int8 in SCALES_I8 and _I6 */
  uint8_t minima[PACKED_PARTS_MAX];
} packed_row;

static inline float packed_factor_value(packed_geometry g, uint16_t factor) {
  return g.factor == FACTOR_E8 ? f32_half_of_e8((uint8_t)factor) : f32_from_f16(factor);
}

/* Each form has its reader: one that is missing does not link. */
#define X(type, ...) void packed_from_##type(const uint8_t *block, packed_row *out);
PACKED_FORM_LIST(X)
#undef X

/* Puts n neighbouring blocks of the file into row `row` (0 to 15) of the strip whose block `blocks`
 * has the first of these columns. False: a factor or a minimum is not finite, and the kernels,
 * which do not look, must not get these blocks. */
bool packed_write(packed_form form, const uint8_t *source, size_t n, size_t row, uint8_t *blocks);

/* Reads a byte of each line of a strip. In a loop of little else many lines are under way at a
 * time, where a product's loop, with its tens of instructions a line, waits for most of them. */
void packed_fetch(const uint8_t *strip, size_t n_bytes);

/* Zeroes row `row` in the strip's n_blocks blocks. */
void packed_clear(packed_form form, size_t row, size_t n_blocks, uint8_t *blocks);

/* Row `row` of a block; packed_read gives out[columns · n_blocks] of a strip as f32. */
void packed_get(packed_form form, const uint8_t *block, size_t row, packed_row *out);
void packed_read(packed_form form, const uint8_t *blocks, size_t row, size_t n_blocks, float *out);

/* Rows of activations, rounded in blocks of as many columns as the weights' blocks have:
 * x = value · scale, scale = max|x| / limit. With 7 bits and a sign (limit 127) a token is one row,
 * as in 8-bit runtimes. With 14 bits and a sign it is two, the high part and the low one,
 * 128 · high + low, 2^-7 of the error; the sum of their products is the token's. */
/* One-bit weights meet rows by way of tables: four values make 16 sums, of those
 * whose bits are set, and a lookup gives the sums of 16 rows of weights at once. A sum, by 512
 * more, is 10 bits: the low 6 and the high 4 stand apart, so that sums of a few add up in bytes.
 * Tables are made where blocks have PACKED_TABLE_COLUMNS, which only one-bit weights have. */
enum { PACKED_TABLE_COLUMNS = 128, PACKED_TABLE_BYTES = 8 /* a column */ };

enum { PACKED_LIMIT_ONE_ROW = 127, PACKED_LIMIT_TWO_ROWS = 127 * 128 };

static inline int packed_limit(size_t rows_per_token) {
  return rows_per_token == 1 ? PACKED_LIMIT_ONE_ROW : PACKED_LIMIT_TWO_ROWS;
}

/* 256 columns of a row, as the tiles of many rows read them (packed_slabs.h). */
enum {
  PACKED_SLAB_COLUMNS = 256,
  PACKED_SLAB_LEAST = 12, /* rows that are worth slabs */
  PACKED_SLAB_TILE = 6    /* rows at a time */
};

typedef struct packed_slab {
  uint8_t values[PACKED_SLAB_COLUMNS]; /* `more` than the row's */
  float scales[PACKED_SLAB_COLUMNS / 32];
  float sums[PACKED_SLAB_COLUMNS / 32]; /* of blocks of 32 columns, times the scale */
  int16_t parts[PACKED_SLAB_COLUMNS / 32]; /* sums of 32 columns */
  int16_t pairs[PACKED_SLAB_COLUMNS / 8];
  int32_t more; /* than the values: 0 or 128 */
  int32_t unused[3];
} packed_slab;

static inline size_t packed_slabs_of(size_t n_columns) {
  return (n_columns + PACKED_SLAB_COLUMNS - 1) / PACKED_SLAB_COLUMNS;
}

typedef struct packed_activations {
  size_t n_columns;
  size_t block_columns;  /* columns that share a scale */
  size_t rows_per_token; /* 1 or 2 */
  int8_t *values;        /* [rows][n_columns], -127 to 127 */
  int16_t *wide;  /* the same; of 4 neighbours the middle two change places: 0, 2, 1, 3, as even and
                     odd bytes of the weights meet them */
  float *scales;  /* [rows][n_columns / block_columns] */
  int16_t *pairs; /* [rows][n_columns / 16][2]: of a unit's groups the sums of columns 0 and 1, and
                     of columns 2 and 3 */
  int16_t *sums;  /* [rows][n_columns / 32]: of 32 columns */
  size_t n_table_rows; /* the first so many have tables, which the SIMD variants alone use */
  uint8_t *tables;     /* [n_table_rows][n_columns / 4][2][16] */
  size_t n_slab_rows;  /* 0: there are no slabs */
  packed_slab *slabs;  /* [n_columns / PACKED_SLAB_COLUMNS, rounded up][n_slab_rows], and behind
                          them PACKED_SLAB_TILE - 1 that may be read, for a last tile */
} packed_activations;

#endif
