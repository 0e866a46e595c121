/* Timings of the kernels, printed on request (`test_kernels --bench`), never in a test. */
#ifndef ONEKV_KERNELS_BENCH_H
#define ONEKV_KERNELS_BENCH_H

#include "core/kernels/kernels.h"

void bench_kernels(const kernel_table *table);

#endif
