/* The variant for every engine with WebAssembly SIMD: multiply, then add. */
#include "core/kernels/simd128.h"

#define KERNEL(name)        name##_simd128
#define MATMUL_MULTIPLY_ADD f32x4_multiply_add
#define ATTEND_MULTIPLY_ADD f32x4_multiply_add
#define NORM_MULTIPLY_ADD   f32x4_multiply_add
#define EXP_MULTIPLY_ADD    f32x4_multiply_add
#include "core/kernels/floats_simd.h"

void kernels_fill_simd128(kernel_table *table) {
  KERNEL(fill)(table);
  table->name = "simd128";
  kernels_fill_simd128_exact(table);
  kernels_fill_simd128_dequantize(table);
  kernels_fill_simd128_packed(table);
}
