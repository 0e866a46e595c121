/* Dequantisers, SIMD: the bits of dequantize_scalar.c, where the formats are described, sixteen
 * elements at a time. Never fused, so one build serves simd128 and relaxed. F32 stays a copy. */
#include <string.h>

#include "core/kernels/dequantize_blocks.h"
#include "core/kernels/simd128_convert.h"
#include "core/kernels/kernels.h"

static void dequantize_f32_simd128(const uint8_t *blocks, size_t n, float *out) {
  if (n > 0) memcpy(out, blocks, n * sizeof *out); /* little-endian, as WebAssembly is */
}

static void dequantize_f16_normal_simd128(const uint8_t *codes, size_t n, float *out) {
  const f16_numbers numbers = f16_normal_numbers_load();
  size_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    v128_t values[2];
    f32x4_from_finite_f16(wasm_v128_load(codes + 2 * i), &numbers, values);
    wasm_v128_store(out + i, values[0]);
    wasm_v128_store(out + i + LANES, values[1]);
  }
  for (; i < n; i++) out[i] = f32_from_f16_normal(load_u16(codes + 2 * i));
}

static void dequantize_bf16_simd128(const uint8_t *blocks, size_t n, float *out) {
  size_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    v128_t values[2];
    f32x4_from_bf16(wasm_v128_load(blocks + 2 * i), values);
    wasm_v128_store(out + i, values[0]);
    wasm_v128_store(out + i + LANES, values[1]);
  }
  for (; i < n; i++) out[i] = f32_from_bf16(load_u16(blocks + 2 * i));
}

static void dequantize_q8_0_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q8_0) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    f32x4_store_scaled(wasm_v128_load(blocks + 2), d, out + start);
    f32x4_store_scaled(wasm_v128_load(blocks + 18), d, out + start + 16);
  }
}

SIMD_INLINE v128_t low_halves(v128_t bytes) {
  return wasm_v128_and(bytes, wasm_i8x16_splat(15));
}

SIMD_INLINE v128_t high_halves(v128_t bytes) {
  return wasm_u8x16_shr(bytes, 4);
}

static void dequantize_q4_0_simd128(const uint8_t *blocks, size_t n, float *out) {
  const v128_t middle = wasm_i8x16_splat(8);
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q4_0) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t q = wasm_v128_load(blocks + 2);
    f32x4_store_scaled(wasm_i8x16_sub(low_halves(q), middle), d, out + start);
    f32x4_store_scaled(wasm_i8x16_sub(high_halves(q), middle), d, out + start + 16);
  }
}

static void dequantize_q4_1_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q4_1) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t m = wasm_f32x4_splat(read_f16(blocks + 2));
    v128_t q = wasm_v128_load(blocks + 4);
    f32x4_store_scaled_offset(low_halves(q), d, m, out + start);
    f32x4_store_scaled_offset(high_halves(q), d, m, out + start + 16);
  }
}

/* 16 in byte i of the result where bit i of the 16 bits at `bits` is set, else 0. */
SIMD_INLINE v128_t fifth_bits(const uint8_t *bits) {
  const v128_t each = wasm_i8x16_const(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  v128_t both = wasm_i16x8_splat((int16_t)load_u16(bits));
  v128_t spread = wasm_i8x16_shuffle(both, both, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  v128_t is_set = wasm_i8x16_eq(wasm_v128_and(spread, each), each);
  return wasm_v128_and(is_set, wasm_i8x16_splat(16));
}

static void dequantize_q5_0_simd128(const uint8_t *blocks, size_t n, float *out) {
  const v128_t middle = wasm_i8x16_splat(16);
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q5_0) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t q = wasm_v128_load(blocks + 6);
    v128_t low = wasm_v128_or(low_halves(q), fifth_bits(blocks + 2));
    v128_t high = wasm_v128_or(high_halves(q), fifth_bits(blocks + 4));
    f32x4_store_scaled(wasm_i8x16_sub(low, middle), d, out + start);
    f32x4_store_scaled(wasm_i8x16_sub(high, middle), d, out + start + 16);
  }
}

static void dequantize_q5_1_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += TENSOR_BYTES_Q5_1) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t m = wasm_f32x4_splat(read_f16(blocks + 2));
    v128_t q = wasm_v128_load(blocks + 8);
    v128_t low = wasm_v128_or(low_halves(q), fifth_bits(blocks + 4));
    v128_t high = wasm_v128_or(high_halves(q), fifth_bits(blocks + 6));
    f32x4_store_scaled_offset(low, d, m, out + start);
    f32x4_store_scaled_offset(high, d, m, out + start + 16);
  }
}

/* d · scale and -(d_minimum · minimum) of the eight sub-blocks. */
static void k_factors(const uint8_t *block, float factors[8], float offsets[8]) {
  float d = read_f16(block);
  float d_minimum = read_f16(block + 2);
  for (size_t j = 0; j < 8; j++) {
    int scale, minimum;
    k_scale_and_minimum(block + 4, j, &scale, &minimum);
    factors[j] = d * (float)scale;
    offsets[j] = -(d_minimum * (float)minimum);
  }
}

static void dequantize_q4_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  float factors[8];
  float offsets[8];
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q4_K) {
    k_factors(blocks, factors, offsets);
    for (size_t j = 0; j < 8; j += 2) {
      const uint8_t *q = blocks + 4 + K_SCALES + 16 * j;
      v128_t factor = wasm_f32x4_splat(factors[j]);
      v128_t next_factor = wasm_f32x4_splat(factors[j + 1]);
      v128_t offset = wasm_f32x4_splat(offsets[j]);
      v128_t next_offset = wasm_f32x4_splat(offsets[j + 1]);
      float *row = out + start + 32 * j;
      for (size_t i = 0; i < 32; i += 16) {
        v128_t bytes = wasm_v128_load(q + i);
        f32x4_store_scaled_offset(low_halves(bytes), factor, offset, row + i);
        f32x4_store_scaled_offset(high_halves(bytes), next_factor, next_offset, row + 32 + i);
      }
    }
  }
}

/* 16 in each byte whose bit j is set. A comparison, as a shift by a variable is slow on bytes. */
SIMD_INLINE v128_t fifth_bit(v128_t bytes, size_t j) {
  v128_t bit = wasm_i8x16_splat((int8_t)(1u << j));
  v128_t is_set = wasm_i8x16_eq(wasm_v128_and(bytes, bit), bit);
  return wasm_v128_and(is_set, wasm_i8x16_splat(16));
}

static void dequantize_q5_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  float factors[8];
  float offsets[8];
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q5_K) {
    k_factors(blocks, factors, offsets);
    for (size_t j = 0; j < 8; j += 2) {
      v128_t factor = wasm_f32x4_splat(factors[j]);
      v128_t next_factor = wasm_f32x4_splat(factors[j + 1]);
      v128_t offset = wasm_f32x4_splat(offsets[j]);
      v128_t next_offset = wasm_f32x4_splat(offsets[j + 1]);
      float *row = out + start + 32 * j;
      for (size_t i = 0; i < 32; i += 16) {
        v128_t fifth = wasm_v128_load(blocks + 4 + K_SCALES + i);
        v128_t bytes = wasm_v128_load(blocks + 4 + K_SCALES + 32 + 16 * j + i);
        v128_t low = wasm_v128_or(low_halves(bytes), fifth_bit(fifth, j));
        v128_t high = wasm_v128_or(high_halves(bytes), fifth_bit(fifth, j + 1));
        f32x4_store_scaled_offset(low, factor, offset, row + i);
        f32x4_store_scaled_offset(high, next_factor, next_offset, row + 32 + i);
      }
    }
  }
}

/* (low | pair << 4) - 32 for the sixteen bit pairs in the low bits of `pairs`. */
SIMD_INLINE v128_t q6_k_values(v128_t low, v128_t pairs) {
  v128_t pair = wasm_v128_and(pairs, wasm_i8x16_splat(3));
  v128_t value = wasm_v128_or(low, wasm_i8x16_shl(pair, 4));
  return wasm_i8x16_sub(value, wasm_i8x16_splat(32));
}

static void dequantize_q6_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += TENSOR_BYTES_Q6_K) {
    float d = read_f16(blocks + 208);
    for (size_t part = 0; part < 4; part++) { /* of a half block: its elements i and i + 16 */
      size_t half = part / 2;
      size_t i = 16 * (part % 2);
      v128_t q = wasm_v128_load(blocks + 64 * half + i);
      v128_t next_q = wasm_v128_load(blocks + 64 * half + 32 + i);
      v128_t pairs = wasm_v128_load(blocks + 128 + 32 * half + i);
      const uint8_t *scales = blocks + 192 + 8 * half + part % 2;
      v128_t factors[4];
      for (size_t g = 0; g < 4; g++)
        factors[g] = wasm_f32x4_splat(d * (float)(int8_t)scales[2 * g]);
      float *row = out + start + 128 * half + i;
      f32x4_store_scaled(q6_k_values(low_halves(q), pairs), factors[0], row);
      pairs = wasm_u8x16_shr(pairs, 2);
      f32x4_store_scaled(q6_k_values(low_halves(next_q), pairs), factors[1], row + 32);
      pairs = wasm_u8x16_shr(pairs, 2);
      f32x4_store_scaled(q6_k_values(high_halves(q), pairs), factors[2], row + 64);
      pairs = wasm_u8x16_shr(pairs, 2);
      f32x4_store_scaled(q6_k_values(high_halves(next_q), pairs), factors[3], row + 96);
    }
  }
}

void kernels_fill_simd128_dequantize(kernel_table *table) {
  table->dequantize[TENSOR_F32] = dequantize_f32_simd128;
  table->dequantize[TENSOR_F16] = f16_decode_bytes;
  table->dequantize[TENSOR_F16_NORMAL] = dequantize_f16_normal_simd128;
  table->dequantize[TENSOR_BF16] = dequantize_bf16_simd128;
  table->dequantize[TENSOR_Q4_0] = dequantize_q4_0_simd128;
  table->dequantize[TENSOR_Q4_1] = dequantize_q4_1_simd128;
  table->dequantize[TENSOR_Q5_0] = dequantize_q5_0_simd128;
  table->dequantize[TENSOR_Q5_1] = dequantize_q5_1_simd128;
  table->dequantize[TENSOR_Q8_0] = dequantize_q8_0_simd128;
  table->dequantize[TENSOR_Q4_K] = dequantize_q4_k_simd128;
  table->dequantize[TENSOR_Q5_K] = dequantize_q5_k_simd128;
  table->dequantize[TENSOR_Q6_K] = dequantize_q6_k_simd128;
}
