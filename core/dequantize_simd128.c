/* Dequantisers, SIMD: the bits of dequantize_scalar.c, where the formats are described, sixteen
 * elements at a time. Never fused, so one build serves simd128 and relaxed. F32 stays a copy. */
#include <string.h>

#include "dequantize_blocks.h"
#include "simd128_convert.h"
#include "kernels.h"

static void dequantize_f32_simd128(const uint8_t *blocks, size_t n, float *out) {
  if (n > 0) memcpy(out, blocks, n * sizeof *out); /* little-endian, as WebAssembly is */
}

static void dequantize_f16_simd128(const uint8_t *blocks, size_t n, float *out) {
  size_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    v128_t halves = wasm_v128_load(blocks + 2 * i);
    wasm_v128_store(out + i, f32x4_from_f16(wasm_u32x4_extend_low_u16x8(halves)));
    wasm_v128_store(out + i + LANES, f32x4_from_f16(wasm_u32x4_extend_high_u16x8(halves)));
  }
  for (; i < n; i++) out[i] = read_f16(blocks + 2 * i);
}

static void dequantize_bf16_simd128(const uint8_t *blocks, size_t n, float *out) {
  size_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    v128_t halves = wasm_v128_load(blocks + 2 * i);
    wasm_v128_store(out + i, wasm_i32x4_shl(wasm_u32x4_extend_low_u16x8(halves), 16));
    wasm_v128_store(out + i + LANES, wasm_i32x4_shl(wasm_u32x4_extend_high_u16x8(halves), 16));
  }
  for (; i < n; i++) out[i] = f32_from_bf16(load_u16(blocks + 2 * i));
}

static void dequantize_q8_0_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += BYTES_Q8_0) {
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
  for (size_t start = 0; start < n; start += BLOCK, blocks += BYTES_Q4_0) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t q = wasm_v128_load(blocks + 2);
    f32x4_store_scaled(wasm_i8x16_sub(low_halves(q), middle), d, out + start);
    f32x4_store_scaled(wasm_i8x16_sub(high_halves(q), middle), d, out + start + 16);
  }
}

static void dequantize_q4_1_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += BYTES_Q4_1) {
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
  for (size_t start = 0; start < n; start += BLOCK, blocks += BYTES_Q5_0) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t q = wasm_v128_load(blocks + 6);
    v128_t low = wasm_v128_or(low_halves(q), fifth_bits(blocks + 2));
    v128_t high = wasm_v128_or(high_halves(q), fifth_bits(blocks + 4));
    f32x4_store_scaled(wasm_i8x16_sub(low, middle), d, out + start);
    f32x4_store_scaled(wasm_i8x16_sub(high, middle), d, out + start + 16);
  }
}

static void dequantize_q5_1_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += BLOCK, blocks += BYTES_Q5_1) {
    v128_t d = wasm_f32x4_splat(read_f16(blocks));
    v128_t m = wasm_f32x4_splat(read_f16(blocks + 2));
    v128_t q = wasm_v128_load(blocks + 8);
    v128_t low = wasm_v128_or(low_halves(q), fifth_bits(blocks + 4));
    v128_t high = wasm_v128_or(high_halves(q), fifth_bits(blocks + 6));
    f32x4_store_scaled_offset(low, d, m, out + start);
    f32x4_store_scaled_offset(high, d, m, out + start + 16);
  }
}

/* d · scale and -(d_minimum · minimum) of sub-block j, in all lanes. */
SIMD_INLINE void k_factors(const uint8_t *block, size_t j, v128_t *factor, v128_t *offset) {
  int scale, minimum;
  k_scale_and_minimum(block + 4, j, &scale, &minimum);
  *factor = wasm_f32x4_splat(read_f16(block) * (float)scale);
  *offset = wasm_f32x4_splat(-(read_f16(block + 2) * (float)minimum));
}

static void dequantize_q4_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += BYTES_Q4_K) {
    for (size_t j = 0; j < 8; j += 2) {
      v128_t factors[2];
      v128_t offsets[2];
      for (size_t i = 0; i < 2; i++) k_factors(blocks, j + i, &factors[i], &offsets[i]);
      const uint8_t *q = blocks + 4 + K_SCALES + 16 * j;
      float *row = out + start + 32 * j;
      for (size_t i = 0; i < 32; i += 16) {
        v128_t bytes = wasm_v128_load(q + i);
        f32x4_store_scaled_offset(low_halves(bytes), factors[0], offsets[0], row + i);
        f32x4_store_scaled_offset(high_halves(bytes), factors[1], offsets[1], row + 32 + i);
      }
    }
  }
}

static void dequantize_q5_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  const v128_t one = wasm_i8x16_splat(1);
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += BYTES_Q5_K) {
    const uint8_t *high = blocks + 4 + K_SCALES;
    for (size_t j = 0; j < 8; j++) {
      v128_t factor, offset;
      k_factors(blocks, j, &factor, &offset);
      const uint8_t *q = high + 32 + 32 * (j / 2);
      for (size_t i = 0; i < 32; i += 16) {
        v128_t bytes = wasm_v128_load(q + i);
        v128_t low = j % 2 == 0 ? low_halves(bytes) : high_halves(bytes);
        v128_t fifth = wasm_v128_and(wasm_u8x16_shr(wasm_v128_load(high + i), (uint32_t)j), one);
        v128_t value = wasm_v128_or(low, wasm_i8x16_shl(fifth, 4));
        f32x4_store_scaled_offset(value, factor, offset, out + start + 32 * j + i);
      }
    }
  }
}

/* Sixteen elements of group g (0 to 3) of a half block: low bits from q, bit pair g of high. */
SIMD_INLINE v128_t q6_k_values(v128_t q, v128_t high, uint32_t g) {
  v128_t low = g < 2 ? low_halves(q) : high_halves(q);
  v128_t pair = wasm_v128_and(wasm_u8x16_shr(high, 2 * g), wasm_i8x16_splat(3));
  v128_t value = wasm_v128_or(low, wasm_i8x16_shl(pair, 4));
  return wasm_i8x16_sub(value, wasm_i8x16_splat(32));
}

static void dequantize_q6_k_simd128(const uint8_t *blocks, size_t n, float *out) {
  for (size_t start = 0; start < n; start += SUPER_BLOCK, blocks += BYTES_Q6_K) {
    float d = read_f16(blocks + 208);
    for (size_t chunk = 0; chunk < SUPER_BLOCK / 16; chunk++) {
      size_t half = chunk / 8;
      v128_t q = wasm_v128_load(blocks + 64 * half + 16 * (chunk % 4));
      v128_t high = wasm_v128_load(blocks + 128 + 32 * half + 16 * (chunk % 2));
      v128_t factor = wasm_f32x4_splat(d * (float)(int8_t)blocks[192 + chunk]);
      v128_t value = q6_k_values(q, high, (uint32_t)(chunk % 8 / 2));
      f32x4_store_scaled(value, factor, out + start + 16 * chunk);
    }
  }
}

void kernels_fill_simd128_dequantize(kernel_table *table) {
  table->dequantize[TENSOR_F32] = dequantize_f32_simd128;
  table->dequantize[TENSOR_F16] = dequantize_f16_simd128;
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
