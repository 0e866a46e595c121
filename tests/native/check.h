/* The test library: checks that count, random numbers with a printed seed, guarded buffers.
 *
 * A test program is functions full of CHECKs and `return check_finish();` at the end of main.
 * Its last line is `N passed, N failed`, its exit status is non-zero after a failure. A failed
 * check prints and goes on. State is static: one program, one file. Host-neutral: it runs
 * natively and as wasm. */
#ifndef ONEKV_CHECK_H
#define ONEKV_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether the short form of a test was asked for (--short), as under valgrind. */
static inline bool check_is_short(int argc, char **argv) {
  return argc > 1 && strcmp(argv[1], "--short") == 0;
}

static struct {
  size_t n_passed;
  size_t n_failed;
  const char *context; /* what is being tested, for messages; may be NULL */
  uint64_t random;
} check_state = {0, 0, NULL, 1};

enum { CHECK_FAILURES_SHOWN = 20 };

static inline bool check_result(bool passed, const char *file, int line, const char *text) {
  if (passed) {
    check_state.n_passed++;
    return true;
  }
  check_state.n_failed++;
  if (check_state.n_failed <= CHECK_FAILURES_SHOWN) {
    const char *context = check_state.context == NULL ? "" : check_state.context;
    printf("%s:%d: failed: %s [%s]\n", file, line, text, context);
  }
  return false;
}

#define CHECK(condition) check_result((condition), __FILE__, __LINE__, #condition)

/* CHECK_SAY(condition, format, …): on failure the formatted text says what was found. */
#define CHECK_SAY(condition, ...)                                                                  \
  do {                                                                                             \
    bool check_passed = CHECK(condition);                                                          \
    if (!check_passed && check_state.n_failed <= CHECK_FAILURES_SHOWN) {                           \
      printf("  ");                                                                                \
      printf(__VA_ARGS__);                                                                         \
      printf("\n");                                                                                \
    }                                                                                              \
  } while (0)

/* |actual - expected| <= tolerance, or both NaN, or the same infinity. */
static inline bool check_is_close(double actual, double expected, double tolerance) {
  if (isnan(expected)) return isnan(actual);
  return actual == expected || fabs(actual - expected) <= tolerance;
}

static inline bool check_close(double actual, double expected, double tolerance, const char *file,
                               int line, const char *text) {
  bool passed = check_result(check_is_close(actual, expected, tolerance), file, line, text);
  if (!passed && check_state.n_failed <= CHECK_FAILURES_SHOWN) {
    printf("  found %.9g, expected %.9g within %.3g\n", actual, expected, tolerance);
  }
  return passed;
}

#define CHECK_CLOSE(actual, expected, tolerance)                                                   \
  check_close((double)(actual), (double)(expected), (double)(tolerance), __FILE__, __LINE__,       \
              #actual " is close to " #expected)

/* Same bits in n floats; a NaN equals every NaN. One check. */
static inline bool check_same_floats(const float *actual, const float *expected, size_t n,
                                     const char *file, int line) {
  size_t i = 0;
  for (; i < n; i++) {
    bool same = memcmp(&actual[i], &expected[i], sizeof *actual) == 0;
    if (!same && !(isnan(actual[i]) && isnan(expected[i]))) break;
  }
  bool passed = check_result(i == n, file, line, "same bits");
  if (!passed && check_state.n_failed <= CHECK_FAILURES_SHOWN) {
    printf("  element %zu of %zu: found %.9g, expected %.9g\n", i, n, (double)actual[i],
           (double)expected[i]);
  }
  return passed;
}

#define CHECK_SAME_FLOATS(actual, expected, n)                                                     \
  check_same_floats(actual, expected, n, __FILE__, __LINE__)

static inline int check_finish(void) {
  printf("%zu passed, %zu failed\n", check_state.n_passed, check_state.n_failed);
  return check_state.n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- random numbers: xorshift64*, the same on every host ------------------------------------ */

static inline void check_seed(uint64_t seed) {
  printf("seed %llu\n", (unsigned long long)seed);
  check_state.random = seed == 0 ? 1 : seed;
}

static inline uint32_t check_random_u32(void) {
  uint64_t x = check_state.random;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  check_state.random = x;
  return (uint32_t)((x * 2685821657736338717u) >> 32);
}

/* Uniform in [0, n). */
static inline size_t check_random_below(size_t n) {
  return check_random_u32() % n;
}

/* Uniform in [-limit, limit]. */
static inline float check_random_float(float limit) {
  return ((float)check_random_u32() / 2147483648.0f - 1.0f) * limit;
}

/* --- buffers --------------------------------------------------------------------------------- */

static inline void *check_allocate(size_t n_bytes) {
  void *block = malloc(n_bytes > 0 ? n_bytes : 1);
  if (block == NULL) {
    printf("out of memory in a test\n");
    exit(EXIT_FAILURE);
  }
  return block;
}

enum { CHECK_CANARY_BYTES = 64, CHECK_CANARY = 0xa5 };

/* An array with canaries on both sides, whose start is off a 16-byte boundary by `shift`
 * bytes. After use, check_guard_is_whole; then check_guard_free. */
typedef struct check_guard {
  uint8_t *block;
  uint8_t *start;
  size_t n_bytes;
} check_guard;

static inline check_guard check_guard_take(size_t n_bytes, size_t shift) {
  check_guard guard = {NULL, NULL, n_bytes};
  guard.block = (uint8_t *)check_allocate(n_bytes + 2 * CHECK_CANARY_BYTES + 16);
  memset(guard.block, CHECK_CANARY, n_bytes + 2 * CHECK_CANARY_BYTES + 16);
  guard.start = guard.block + CHECK_CANARY_BYTES + shift;
  return guard;
}

static inline bool check_guard_is_whole(const check_guard *guard) {
  for (const uint8_t *p = guard->block; p < guard->start; p++) {
    if (*p != CHECK_CANARY) return false;
  }
  for (size_t i = 0; i < CHECK_CANARY_BYTES; i++) {
    if (guard->start[guard->n_bytes + i] != CHECK_CANARY) return false;
  }
  return true;
}

static inline void check_guard_free(check_guard *guard) {
  free(guard->block);
}

#endif
