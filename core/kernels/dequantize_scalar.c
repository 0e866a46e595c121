/* Dequantisers, scalar: the specification of every element type, after the definition of the
 * block formats in the GGUF documentation and the `gguf` Python package.
 *
 * Blocks have no alignment, so numbers are assembled from bytes. The order of the float
 * operations is part of the contract: variants must give the same bits, so they multiply and
 * add in this order and never fuse. */
#include "core/kernels/dequantize_blocks.h"
#include "core/kernels/kernels.h"

static void dequantize_f32_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t i = 0; i < n; i++) out[i] = f32_from_bits(load_u32(blocks + 4 * i));
}

static void dequantize_f16_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t i = 0; i < n; i++) out[i] = read_f16(blocks + 2 * i);
}

static void dequantize_f16_normal_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t i = 0; i < n; i++) out[i] = f32_from_f16_normal(load_u16(blocks + 2 * i));
}

static void dequantize_bf16_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t i = 0; i < n; i++) out[i] = f32_from_bf16(load_u16(blocks + 2 * i));
}

/* f16 d, i8 q[32]: q · d */
static void dequantize_q8_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q8_0) {
    float d = read_f16(blocks);
    for (size_t i = 0; i < BLOCK; i++) out[start + i] = (float)(int8_t)blocks[2 + i] * d;
  }
}

/* f16 d, u4 q[32]: (q - 8) · d. The low halves of the 16 bytes are elements 0 to 15, the high
 * halves 16 to 31; so in all simple 4 and 5 bit types. */
static void dequantize_q4_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q4_0) {
    float d = read_f16(blocks);
    for (size_t i = 0; i < BLOCK / 2; i++) {
      int byte = blocks[2 + i];
      out[start + i] = (float)((byte & 15) - 8) * d;
      out[start + i + BLOCK / 2] = (float)((byte >> 4) - 8) * d;
    }
  }
}

/* f16 d, f16 m, u4 q[32]: q · d + m */
static void dequantize_q4_1_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q4_1) {
    float d = read_f16(blocks);
    float m = read_f16(blocks + 2);
    for (size_t i = 0; i < BLOCK / 2; i++) {
      int byte = blocks[4 + i];
      out[start + i] = (float)(byte & 15) * d + m;
      out[start + i + BLOCK / 2] = (float)(byte >> 4) * d + m;
    }
  }
}

/* f16 d, u32 fifth bits, u4 q[32]: (q - 16) · d */
static void dequantize_q5_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q5_0) {
    float d = read_f16(blocks);
    uint32_t high = load_u32(blocks + 2);
    for (size_t i = 0; i < BLOCK / 2; i++) {
      uint32_t byte = blocks[6 + i];
      int low_q = (int)((byte & 15u) | ((high >> i & 1u) << 4));
      int high_q = (int)((byte >> 4) | ((high >> (i + 16) & 1u) << 4));
      out[start + i] = (float)(low_q - 16) * d;
      out[start + i + BLOCK / 2] = (float)(high_q - 16) * d;
    }
  }
}

/* f16 d, f16 m, u32 fifth bits, u4 q[32]: q · d + m */
static void dequantize_q5_1_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q5_1) {
    float d = read_f16(blocks);
    float m = read_f16(blocks + 2);
    uint32_t high = load_u32(blocks + 4);
    for (size_t i = 0; i < BLOCK / 2; i++) {
      uint32_t byte = blocks[8 + i];
      uint32_t low_q = (byte & 15u) | ((high >> i & 1u) << 4);
      uint32_t high_q = (byte >> 4) | ((high >> (i + 16) & 1u) << 4);
      out[start + i] = (float)low_q * d + m;
      out[start + i + BLOCK / 2] = (float)high_q * d + m;
    }
  }
}

/* f16 d, f16 dmin, 12 bytes of scales, u4 q[256]: (d · scale) · q - dmin · minimum. Each 32
 * bytes hold two sub-blocks of 32 elements: low halves, then high halves. */
static void dequantize_q4_k_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q4_K) {
    float d = read_f16(blocks);
    float d_minimum = read_f16(blocks + 2);
    for (size_t j = 0; j < 8; j++) {
      int scale, minimum;
      k_scale_and_minimum(blocks + 4, j, &scale, &minimum);
      float factor = d * (float)scale;
      float offset = d_minimum * (float)minimum;
      const uint8_t *q = blocks + 4 + K_SCALES + 32 * (j / 2);
      for (size_t i = 0; i < 32; i++) {
        int value = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
        out[start + 32 * j + i] = factor * (float)value - offset;
      }
    }
  }
}

/* As Q4_K with a fifth bit: bit j of byte i of the 32 bytes before q belongs to element i of
 * sub-block j. */
static void dequantize_q5_k_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q5_K) {
    float d = read_f16(blocks);
    float d_minimum = read_f16(blocks + 2);
    const uint8_t *high = blocks + 4 + K_SCALES;
    for (size_t j = 0; j < 8; j++) {
      int scale, minimum;
      k_scale_and_minimum(blocks + 4, j, &scale, &minimum);
      float factor = d * (float)scale;
      float offset = d_minimum * (float)minimum;
      const uint8_t *q = high + 32 + 32 * (j / 2);
      for (size_t i = 0; i < 32; i++) {
        int value = (j % 2 == 0 ? q[i] & 15 : q[i] >> 4) | ((high[i] >> j & 1) << 4);
        out[start + 32 * j + i] = factor * (float)value - offset;
      }
    }
  }
}

/* u4 low[256], u2 high[256], i8 scale[16], f16 d: (d · scale) · (q - 32). Each half of 128
 * elements takes 64 low and 32 high bytes: elements 0 to 63 are the low halves of the low
 * bytes, 64 to 127 their high halves; the four groups of 32 take bit pairs 0 to 3 of the high
 * bytes. A scale belongs to 16 elements. */
static void dequantize_q6_k_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q6_K) {
    const uint8_t *scales = blocks + 192;
    float d = read_f16(blocks + 208);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
      size_t half = i / 128;
      size_t group = i % 128 / 32;
      int low = blocks[64 * half + i % 64] >> (group < 2 ? 0 : 4) & 15;
      int high = blocks[128 + 32 * half + i % 32] >> (2 * group) & 3;
      float factor = d * (float)(int8_t)scales[i / 16];
      out[start + i] = factor * (float)((low | (high << 4)) - 32);
    }
  }
}

/* u4 scale and minimum[16], u2 q[256], f16 d, f16 dmin: (d · scale) · q - dmin · minimum. A scale
 * belongs to 16 elements; each 32 bytes hold four times 32 elements, lowest bits first. */
static void dequantize_q2_k_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q2_K) {
    float d = read_f16(blocks + 80);
    float d_minimum = read_f16(blocks + 82);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
      int q = blocks[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      float factor = d * (float)(blocks[i / 16] & 15);
      out[start + i] = factor * (float)q - d_minimum * (float)(blocks[i / 16] >> 4);
    }
  }
}

/* third bits[32], u2 q[256] as in Q2_K, 12 bytes of scales, f16 d: (d · scale) · (q - 4). */
static void dequantize_q3_k_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q3_K) {
    float d = read_f16(blocks + 108);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
      int q = blocks[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      q |= (blocks[i % 32] >> (i / 32) & 1) << 2;
      out[start + i] = d * (float)q3_k_scale(blocks + 96, i / 16) * (float)(q - 4);
    }
  }
}

/* f16 d, u4 q[32]: d · value of q; order of the halves as in Q4_0. */
static void dequantize_iq4_nl_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_IQ4_NL) {
    float d = read_f16(blocks);
    for (size_t i = 0; i < BLOCK; i++) {
      int q = blocks[2 + i % 16] >> (i / 16 * 4) & 15;
      out[start + i] = d * (float)PACKED_VALUES[VALUES_IQ4][q];
    }
  }
}

/* f16 d, u16 high bits of 8 scales, u4 low ones, u4 q[256]: (d · scale) · value of q. */
static void dequantize_iq4_xs_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_IQ4_XS) {
    float d = read_f16(blocks);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
      int q = blocks[8 + i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15;
      float factor = d * (float)iq4_xs_scale(blocks, i / 32);
      out[start + i] = factor * (float)PACKED_VALUES[VALUES_IQ4][q];
    }
  }
}

/* u8 exponent e, u4 q[32]: 2^(e - 127) · number of q; order of the halves as in Q4_0. */
static void dequantize_mxfp4_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_MXFP4) {
    float d = f32_half_of_e8(blocks[0]);
    for (size_t i = 0; i < BLOCK; i++) {
      int q = blocks[1 + i % 16] >> (i / 16 * 4) & 15;
      out[start + i] = d * (float)(PACKED_VALUES[VALUES_FP4][q] - 12);
    }
  }
}

/* n bytes hold n elements in each of n_digits runs, by their base-3 digits from the highest on:
 * byte · 3^k modulo 256 is a fraction of 256, and its first digit is run k's. d · (digit - 1). */
static float *dequantize_digits(const uint8_t *bytes, size_t n, size_t n_digits, float d,
                                float *out) {
  static const uint8_t POWERS[] = {1, 3, 9, 27, 81};
  for (size_t k = 0; k < n_digits; k++) {
    for (size_t i = 0; i < n; i++) {
      uint8_t fraction = (uint8_t)(bytes[i] * POWERS[k]);
      *out++ = d * (float)((fraction * 3 >> 8) - 1);
    }
  }
  return out;
}

/* Five base-3 digits in each of u8 [32] and u8 [16], four in each of u8 [4], f16 d. */
static void dequantize_tq1_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_TQ1_0) {
    float d = read_f16(blocks + 52);
    out = dequantize_digits(blocks, 32, 5, d, out);
    out = dequantize_digits(blocks + 32, 16, 5, d, out);
    out = dequantize_digits(blocks + 48, 4, 4, d, out);
  }
}

/* u2 q[256] as in Q2_K, f16 d: d · (q - 1). */
static void dequantize_tq2_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_TQ2_0) {
    float d = read_f16(blocks + 64);
    for (size_t i = 0; i < SUPER_BLOCK; i++) {
      int q = blocks[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      out[start + i] = d * (float)(q - 1);
    }
  }
}

/* f16 d, bits[128], lowest first: d where it is set, -d where not. */
static void dequantize_q1_0_scalar(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += ONE_BIT_BLOCK, blocks += TENSOR_BYTES_Q1_0) {
    float d = read_f16(blocks);
    for (size_t i = 0; i < ONE_BIT_BLOCK; i++) {
      out[start + i] = blocks[2 + i / 8] >> (i % 8) & 1 ? d : -d;
    }
  }
}

void kernels_fill_scalar_dequantize(kernel_table *table) {
  table->dequantize[TENSOR_F32] = dequantize_f32_scalar;
  table->dequantize[TENSOR_F16] = dequantize_f16_scalar;
  table->dequantize[TENSOR_F16_NORMAL] = dequantize_f16_normal_scalar;
  table->dequantize[TENSOR_BF16] = dequantize_bf16_scalar;
  table->dequantize[TENSOR_Q4_0] = dequantize_q4_0_scalar;
  table->dequantize[TENSOR_Q4_1] = dequantize_q4_1_scalar;
  table->dequantize[TENSOR_Q5_0] = dequantize_q5_0_scalar;
  table->dequantize[TENSOR_Q5_1] = dequantize_q5_1_scalar;
  table->dequantize[TENSOR_Q8_0] = dequantize_q8_0_scalar;
  table->dequantize[TENSOR_Q4_K] = dequantize_q4_k_scalar;
  table->dequantize[TENSOR_Q5_K] = dequantize_q5_k_scalar;
  table->dequantize[TENSOR_Q6_K] = dequantize_q6_k_scalar;
  table->dequantize[TENSOR_Q2_K] = dequantize_q2_k_scalar;
  table->dequantize[TENSOR_Q3_K] = dequantize_q3_k_scalar;
  table->dequantize[TENSOR_IQ4_NL] = dequantize_iq4_nl_scalar;
  table->dequantize[TENSOR_IQ4_XS] = dequantize_iq4_xs_scalar;
  table->dequantize[TENSOR_MXFP4] = dequantize_mxfp4_scalar;
  table->dequantize[TENSOR_TQ1_0] = dequantize_tq1_0_scalar;
  table->dequantize[TENSOR_TQ2_0] = dequantize_tq2_0_scalar;
  table->dequantize[TENSOR_Q1_0] = dequantize_q1_0_scalar;
}
