/* Timings of the integer products, printed on request (`test_packed --bench`), never in a test. */
#ifndef ONEKV_PACKED_BENCH_H
#define ONEKV_PACKED_BENCH_H

#include "core/kernels/kernels.h"

/* Of all forms, or the one of that name. */
void bench_packed(const kernel_table *table, const char *wanted);

/* What this machine and engine can do at best: reading memory, i16 products out of registers. */
void bench_limits(void);

#endif
