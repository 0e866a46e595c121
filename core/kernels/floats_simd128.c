/* The variant for every engine with WebAssembly SIMD: multiply, then add. In a relaxed module,
 * which only engines with relaxed SIMD take, this level has the floats of floats_relaxed.c: its
 * own would be a second build of the same loops. */
#include "core/kernels/kernels.h"

#if !defined(__wasm_relaxed_simd__)
#define KERNEL(name)        name##_simd128
#define MATMUL_MULTIPLY_ADD f32x4_multiply_add
#define ATTEND_MULTIPLY_ADD f32x4_multiply_add
#define NORM_MULTIPLY_ADD   f32x4_multiply_add
#define EXP_MULTIPLY_ADD    f32x4_multiply_add
#include "core/kernels/floats_simd.h"
#endif

void kernels_fill_simd128(kernel_table *table) {
#if defined(__wasm_relaxed_simd__)
  kernels_fill_relaxed_floats(table);
#else
  KERNEL(fill)(table);
#endif
  table->name = "simd128";
  kernels_fill_simd128_exact(table);
  kernels_fill_simd128_codes(table);
  kernels_fill_simd128_dequantize(table);
  kernels_fill_simd128_packed(table);
}
