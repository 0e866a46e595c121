/* Timings of attention over a filled cache, printed on request (`test_attention --bench`), never
 * in a test. */
#ifndef ONEKV_ATTENTION_BENCH_H
#define ONEKV_ATTENTION_BENCH_H

/* One line for each variant, cache type, depth and number of threads. */
void bench_attention(void);

#endif
