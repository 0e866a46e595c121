/* The readers of packed matrices: one block of a file into its codes, factors, and parts' scales.
 * The block formats are described in dequantize_scalar.c. */
#include <string.h>

#include "core/kernels/dequantize_blocks.h"
#include "core/kernels/packed.h"

/* The halves of 16 bytes: elements 0 to 15 in the low ones. */
static void read_nibbles(const uint8_t *bytes, uint8_t *codes) {
  for (size_t i = 0; i < BLOCK / 2; i++) {
    codes[i] = bytes[i] & 15;
    codes[i + BLOCK / 2] = bytes[i] >> 4;
  }
}

static void add_fifth_bits(const uint8_t *bytes, uint8_t *codes) {
  uint32_t bits = load_u32(bytes);
  for (size_t i = 0; i < BLOCK; i++) codes[i] = (uint8_t)(codes[i] | (bits >> i & 1) << 4);
}

void packed_from_Q8_0(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  memcpy(out->codes, block + 2, BLOCK);
}

void packed_from_Q4_0(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  read_nibbles(block + 2, out->codes);
}

void packed_from_Q4_1(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  out->minimum = load_u16(block + 2);
  read_nibbles(block + 4, out->codes);
}

void packed_from_Q5_0(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  read_nibbles(block + 6, out->codes);
  add_fifth_bits(block + 2, out->codes);
}

void packed_from_Q5_1(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  out->minimum = load_u16(block + 2);
  read_nibbles(block + 8, out->codes);
  add_fifth_bits(block + 4, out->codes);
}

/* What Q4_K and Q5_K begin with: d, d_minimum, 8 scales and minima. Minima are subtracted in the
 * file and added here. */
static void read_k_head(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  out->minimum = load_u16(block + 2) ^ 0x8000u;
  for (size_t j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale_and_minimum(block + 4, j, &scale, &minimum);
    out->scales[j] = (uint8_t)scale;
    out->minima[j] = (uint8_t)minimum;
  }
}

/* 128 bytes: each 32 hold two parts of 32 elements, low halves, then high halves. */
static void read_k_nibbles(const uint8_t *bytes, uint8_t *codes) {
  for (size_t j = 0; j < SUPER_BLOCK; j += 64, bytes += 32) {
    for (size_t i = 0; i < 32; i++) {
      codes[j + i] = bytes[i] & 15;
      codes[j + 32 + i] = bytes[i] >> 4;
    }
  }
}

void packed_from_Q4_K(const uint8_t *block, packed_row *out) {
  read_k_head(block, out);
  read_k_nibbles(block + 4 + K_SCALES, out->codes);
}

void packed_from_Q5_K(const uint8_t *block, packed_row *out) {
  const uint8_t *high = block + 4 + K_SCALES;
  read_k_head(block, out);
  read_k_nibbles(high + 32, out->codes);
  for (size_t j = 0; j < 8; j++) {
    uint8_t *codes = out->codes + 32 * j;
    for (size_t i = 0; i < 32; i++) codes[i] = (uint8_t)(codes[i] | (high[i] >> j & 1) << 4);
  }
}

void packed_from_Q6_K(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block + 208);
  memcpy(out->scales, block + 192, 16);
  for (size_t half = 0; half < 2; half++) {
    const uint8_t *low = block + 64 * half;
    const uint8_t *high = block + 128 + 32 * half;
    uint8_t *codes = out->codes + 128 * half;
    for (size_t i = 0; i < 32; i++) {
      codes[i] = (uint8_t)((low[i] & 15) | (high[i] & 3) << 4);
      codes[i + 32] = (uint8_t)((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      codes[i + 64] = (uint8_t)(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
      codes[i + 96] = (uint8_t)(low[i + 32] >> 4 | (high[i] >> 6) << 4);
    }
  }
}

/* 64 bytes: each 32 hold four times 32 elements, from the lowest two bits to the highest. */
static void read_k_pairs(const uint8_t *bytes, uint8_t *codes) {
  for (size_t i = 0; i < SUPER_BLOCK; i++) {
    codes[i] = bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
  }
}

void packed_from_Q2_K(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block + 80);
  out->minimum = load_u16(block + 82) ^ 0x8000u;
  for (size_t j = 0; j < 16; j++) {
    out->scales[j] = block[j] & 15;
    out->minima[j] = block[j] >> 4;
  }
  read_k_pairs(block + 16, out->codes);
}

void packed_from_Q3_K(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block + 108);
  for (size_t j = 0; j < 16; j++) out->scales[j] = (uint8_t)q3_k_scale(block + 96, j);
  read_k_pairs(block + 32, out->codes);
  for (size_t i = 0; i < SUPER_BLOCK; i++) {
    out->codes[i] = (uint8_t)(out->codes[i] | (block[i % 32] >> (i / 32) & 1) << 2);
  }
}

void packed_from_IQ4_NL(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  read_nibbles(block + 2, out->codes);
}

void packed_from_IQ4_XS(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  for (size_t j = 0; j < 8; j++) {
    out->scales[j] = (uint8_t)iq4_xs_scale(block, j);
    read_nibbles(block + 8 + 16 * j, out->codes + 32 * j);
  }
}

void packed_from_MXFP4(const uint8_t *block, packed_row *out) {
  out->factor = block[0];
  read_nibbles(block + 1, out->codes);
}

void packed_from_TQ2_0(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block + 64);
  read_k_pairs(block, out->codes);
}

void packed_from_Q1_0(const uint8_t *block, packed_row *out) {
  out->factor = load_u16(block);
  for (size_t i = 0; i < ONE_BIT_BLOCK; i++) {
    out->codes[i] = (uint8_t)((block[2 + i / 8] >> (i % 8) & 1) << 1);
  }
}
