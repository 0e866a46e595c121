/* The variant for engines with relaxed SIMD: multiply-adds are rounded once where the processor
 * can. Kernels that must give the scalar bits stay those of floats_simd128.c. */
#include "core/kernels/simd128.h"

#define KERNEL(name)        name##_relaxed
#define MATMUL_MULTIPLY_ADD f32x4_relaxed_multiply_add
#define ATTEND_MULTIPLY_ADD f32x4_relaxed_multiply_add
#define NORM_MULTIPLY_ADD   f32x4_multiply_add /* its sums wait: fusing costs a quarter */
#define EXP_MULTIPLY_ADD    f32x4_relaxed_multiply_add
#include "core/kernels/floats_simd.h"

void kernels_fill_relaxed_floats(kernel_table *table) { KERNEL(fill)(table); }

void kernels_fill_relaxed(kernel_table *table) {
  kernels_fill_relaxed_floats(table);
  kernels_fill_relaxed_codes(table);
  kernels_fill_relaxed_packed(table);
  table->name = "relaxed";
}
