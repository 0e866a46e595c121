/* Packing: blocks of a file into rows of a strip, and rows of a strip back to floats. The block
 * formats are described in dequantize_scalar.c. */
#include "core/kernels/packed.h"

#include <string.h>

#include "core/kernels/dequantize_blocks.h"

enum {
  GROUP = 4,                           /* neighbouring columns of a row */
  GROUP_BYTES = PACKED_ROWS * GROUP,   /* the same columns of all rows */
  GROUPS = PACKED_COLUMNS / GROUP,
  SCALE_BYTES = PACKED_ROWS * sizeof(float),
  HALF_BYTES = SCALE_BYTES + GROUPS / 2 * GROUP_BYTES /* of PACKED_I8_HALVES */
};

/* 32 columns of one row, whatever the form. */
typedef struct row_block {
  uint8_t values[PACKED_COLUMNS]; /* int8, or 0 to 15 in the 4-bit forms */
  float scale;
  float second; /* minimum, or the scale of the upper half */
} row_block;

packed_form packed_form_of(tensor_type type) {
  switch (type) {
    case TENSOR_Q8_0:
    case TENSOR_Q5_0:
      return PACKED_I8;
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
      return PACKED_I8_MIN;
    case TENSOR_Q6_K:
      return PACKED_I8_HALVES;
    case TENSOR_Q4_0:
      return PACKED_U4;
    case TENSOR_Q4_1:
    case TENSOR_Q4_K:
      return PACKED_U4_MIN;
    default:
      return PACKED_NONE;
  }
}

static bool has_nibbles(packed_form form) {
  return form == PACKED_U4 || form == PACKED_U4_MIN;
}

static bool has_minimum(packed_form form) {
  return form == PACKED_I8_MIN || form == PACKED_U4_MIN;
}

static size_t values_offset(packed_form form) {
  return has_minimum(form) ? 2 * SCALE_BYTES : SCALE_BYTES;
}

size_t packed_block_bytes(packed_form form) {
  if (form == PACKED_NONE) return 0;
  if (form == PACKED_I8_HALVES) return 2 * HALF_BYTES;
  return values_offset(form) + (size_t)(has_nibbles(form) ? GROUPS / 2 : GROUPS) * GROUP_BYTES;
}

/* Where group g of a row begins. */
static size_t group_offset(packed_form form, size_t row, size_t g) {
  size_t base = values_offset(form);
  if (form == PACKED_I8_HALVES && g >= GROUPS / 2) {
    base += HALF_BYTES;
    g -= GROUPS / 2;
  }
  return base + g * GROUP_BYTES + row * GROUP;
}

static size_t second_offset(packed_form form) {
  return form == PACKED_I8_HALVES ? HALF_BYTES : SCALE_BYTES;
}

static bool has_second(packed_form form) {
  return has_minimum(form) || form == PACKED_I8_HALVES;
}

static void put(packed_form form, const row_block *from, size_t row, uint8_t *block) {
  memcpy(block + row * sizeof(float), &from->scale, sizeof(float));
  if (has_second(form)) {
    memcpy(block + second_offset(form) + row * sizeof(float), &from->second, sizeof(float));
  }
  const uint8_t *values = from->values;
  if (has_nibbles(form)) {
    uint8_t both[PACKED_COLUMNS / 2];
    for (size_t i = 0; i < PACKED_COLUMNS / 2; i++) {
      both[i] = (uint8_t)(values[i] | values[i + PACKED_COLUMNS / 2] << 4);
    }
    for (size_t g = 0; g < GROUPS / 2; g++) {
      memcpy(block + group_offset(form, row, g), both + g * GROUP, GROUP);
    }
    return;
  }
  for (size_t g = 0; g < GROUPS; g++) {
    memcpy(block + group_offset(form, row, g), values + g * GROUP, GROUP);
  }
}

static row_block get(packed_form form, const uint8_t *block, size_t row) {
  row_block out = {.second = 0.0f};
  memcpy(&out.scale, block + row * sizeof(float), sizeof(float));
  if (has_second(form)) {
    memcpy(&out.second, block + second_offset(form) + row * sizeof(float), sizeof(float));
  }
  size_t n_groups = has_nibbles(form) ? GROUPS / 2 : GROUPS;
  for (size_t g = 0; g < n_groups; g++) {
    memcpy(out.values + g * GROUP, block + group_offset(form, row, g), GROUP);
  }
  for (size_t i = 0; has_nibbles(form) && i < PACKED_COLUMNS / 2; i++) {
    out.values[i + PACKED_COLUMNS / 2] = out.values[i] >> 4;
    out.values[i] &= 15;
  }
  return out;
}

/* The halves of 16 bytes: elements 0 to 15 in the low ones. */
static void read_nibbles(const uint8_t *bytes, uint8_t *values) {
  for (size_t i = 0; i < BLOCK / 2; i++) {
    values[i] = bytes[i] & 15;
    values[i + BLOCK / 2] = bytes[i] >> 4;
  }
}

/* Adds the fifth bits and moves the values down by `middle`. */
static void add_fifth_bits(uint32_t bits, uint8_t middle, uint8_t *values) {
  for (size_t i = 0; i < BLOCK; i++) {
    values[i] = (uint8_t)((values[i] | (bits >> i & 1) << 4) - middle);
  }
}

static void read_simple(tensor_type type, const uint8_t *source, row_block *out) {
  out->scale = read_f16(source);
  out->second = 0.0f;
  switch (type) {
    case TENSOR_Q4_0:
      read_nibbles(source + 2, out->values);
      break;
    case TENSOR_Q4_1:
      out->second = read_f16(source + 2);
      read_nibbles(source + 4, out->values);
      break;
    case TENSOR_Q5_0:
      read_nibbles(source + 6, out->values);
      add_fifth_bits(load_u32(source + 2), 16, out->values);
      break;
    default: /* Q5_1 */
      out->second = read_f16(source + 2);
      read_nibbles(source + 8, out->values);
      add_fifth_bits(load_u32(source + 4), 0, out->values);
  }
}

/* Sub-block j of Q4_K or Q5_K. */
static void read_k(tensor_type type, const uint8_t *source, size_t j, row_block *out) {
  int scale, minimum;
  k_scale_and_minimum(source + 4, j, &scale, &minimum);
  out->scale = read_f16(source) * (float)scale;
  out->second = -(read_f16(source + 2) * (float)minimum);
  const uint8_t *high = source + 4 + K_SCALES;
  const uint8_t *q = high + (type == TENSOR_Q5_K ? 32 : 0) + 32 * (j / 2);
  for (size_t i = 0; i < BLOCK; i++) {
    uint8_t value = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
    if (type == TENSOR_Q5_K) value = (uint8_t)(value | (high[i] >> j & 1) << 4);
    out->values[i] = value;
  }
}

/* Columns [32 j, 32 j + 32) of Q6_K: group j % 4 of half j / 4. */
static void read_q6_k(const uint8_t *source, size_t j, row_block *out) {
  const uint8_t *low = source + 64 * (j / 4) + 32 * (j % 2);
  const uint8_t *high = source + 128 + 32 * (j / 4);
  float d = read_f16(source + 208);
  out->scale = d * (float)(int8_t)source[192 + 2 * j];
  out->second = d * (float)(int8_t)source[193 + 2 * j];
  for (size_t i = 0; i < BLOCK; i++) {
    int nibble = low[i] >> (j % 4 < 2 ? 0 : 4) & 15;
    int pair = high[i] >> (2 * (j % 4)) & 3;
    out->values[i] = (uint8_t)((nibble | pair << 4) - 32);
  }
}

/* Q8_0 as it is: most bytes of most files. */
static void write_q8_0(const uint8_t *source, size_t n, size_t row, uint8_t *blocks) {
  for (size_t j = 0; j < n; j++, source += BYTES_Q8_0) {
    float scale = read_f16(source);
    memcpy(blocks + row * sizeof scale, &scale, sizeof scale);
    blocks += SCALE_BYTES;
    for (size_t g = 0; g < GROUPS; g++, blocks += GROUP_BYTES) {
      memcpy(blocks + row * GROUP, source + 2 + g * GROUP, GROUP);
    }
  }
}

void packed_write(tensor_type type, const uint8_t *source, size_t n, size_t row, uint8_t *blocks) {
  if (type == TENSOR_Q8_0) {
    write_q8_0(source, n, row, blocks);
    return;
  }
  packed_form form = packed_form_of(type);
  tensor_type_info info = tensor_type_describe(type);
  size_t n_parts = info.block_elements / PACKED_COLUMNS;
  size_t block_bytes = packed_block_bytes(form);
  for (size_t i = 0; i < n * n_parts; i++, blocks += block_bytes) {
    const uint8_t *block = source + i / n_parts * info.block_bytes;
    row_block values;
    if (n_parts == 1) {
      read_simple(type, block, &values);
    } else if (type == TENSOR_Q6_K) {
      read_q6_k(block, i % n_parts, &values);
    } else {
      read_k(type, block, i % n_parts, &values);
    }
    put(form, &values, row, blocks);
  }
}

void packed_clear(packed_form form, size_t row, size_t n_blocks, uint8_t *blocks) {
  const row_block zero = {{0}, 0.0f, 0.0f};
  for (size_t j = 0; j < n_blocks; j++) {
    put(form, &zero, row, blocks + j * packed_block_bytes(form));
  }
}

void packed_read(packed_form form, const uint8_t *blocks, size_t row, size_t n_blocks,
                 float *out) {
  for (size_t j = 0; j < n_blocks; j++, blocks += packed_block_bytes(form)) {
    row_block block = get(form, blocks, row);
    for (size_t i = 0; i < PACKED_COLUMNS; i++) {
      bool is_upper = form == PACKED_I8_HALVES && i >= PACKED_COLUMNS / 2;
      int value = (int8_t)block.values[i] - (form == PACKED_U4 ? 8 : 0);
      float product = (float)value * (is_upper ? block.second : block.scale);
      out[j * PACKED_COLUMNS + i] = has_minimum(form) ? product + block.second : product;
    }
  }
}
