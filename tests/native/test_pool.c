/* The pool: every call runs its task exactly once on each active thread, whoever was active
 * before, and returns only when all have finished.
 *
 * The counters are plain numbers: under ThreadSanitizer a missing happens-before between a call,
 * its tasks and the next call is a finding. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime; DIR */

#include "core/base/pool.h"
#include "tests/native/check.h"
#include "tests/native/tiny_model.h"

#include <dirent.h>
#include <sched.h>
#include <time.h>

enum { CALLS = 100000, CALLS_SHORT = 5000, THREADS = 3 };

typedef struct tally {
  size_t n_runs[ONEKV_THREADS_MAX]; /* of each thread index */
  size_t n_threads[ONEKV_THREADS_MAX];
  size_t call;
} tally;

static void count_run(void *context, size_t thread_index, size_t n_threads) {
  tally *t = context;
  t->n_runs[thread_index]++;
  t->n_threads[thread_index] = n_threads + t->call;
}

static void check_calls(onekv_pool *pool, size_t n_calls) {
  tally t = {{0}, {0}, 0};
  size_t expected[THREADS] = {0};
  size_t n_wrong = 0;
  size_t first_wrong = 0;
  size_t n_active = onekv_pool_activate(pool, 0);
  CHECK(n_active == THREADS && pool_n_active(pool) == THREADS && pool_n_most(pool) == THREADS);
  for (size_t i = 0; i < n_calls; i++) {
    /* Long runs with the same threads, and changes at every call. */
    if (i / 1000 % 2 == 0 || i % 200 == 0) {
      n_active = onekv_pool_activate(pool, 1 + check_random_below(THREADS));
    }
    t.call = i;
    pool_run(pool, count_run, &t);
    for (size_t k = 0; k < THREADS; k++) {
      if (k < n_active) expected[k]++;
      bool is_right = t.n_runs[k] == expected[k] &&
                      (k >= n_active || t.n_threads[k] == n_active + i);
      if (is_right) continue;
      if (n_wrong++ == 0) first_wrong = i;
    }
  }
  CHECK_SAY(n_wrong == 0, "%zu wrong counts, the first in call %zu", n_wrong, first_wrong);
  CHECK(onekv_pool_activate(pool, 0) == THREADS && onekv_pool_activate(pool, 99) == THREADS);
  CHECK(onekv_pool_activate(pool, 1) == 1 && onekv_pool_n_alive(pool) == THREADS);
}

/* Calls with pauses between them, so that threads fall asleep and have to be woken. */
static void check_sleepers(onekv_pool *pool) {
  tally t = {{0}, {0}, 0};
  onekv_pool_activate(pool, 0);
  for (size_t i = 0; i < 300; i++) {
    for (size_t k = 0; k < i % 50; k++) sched_yield();
    t.call = i;
    pool_run(pool, count_run, &t);
  }
  for (size_t k = 0; k < THREADS; k++) CHECK(t.n_runs[k] == 300);
}

static void count_late(void *context, size_t thread_index, size_t n_threads) {
  for (size_t k = 0; k < thread_index * 20000; k++) sched_yield();
  count_run(context, thread_index, n_threads);
}

/* Tasks that take the workers far longer than the caller, which falls asleep. */
static void check_late_workers(onekv_pool *pool) {
  tally t = {{0}, {0}, 0};
  for (size_t i = 0; i < 20; i++) {
    onekv_pool_activate(pool, i % THREADS + 1);
    pool_run(pool, count_late, &t);
    for (size_t k = 0; k <= i % THREADS; k++) CHECK(t.n_threads[k] == i % THREADS + 1);
  }
  CHECK(t.n_runs[0] == 20 && t.n_runs[1] == 13 && t.n_runs[2] == 6);
}

/* Threads of this process; 0 where that cannot be told. As wasm the process is the engine, which
 * keeps the workers of ended threads for new ones. */
static size_t n_threads_now(void) {
#ifdef __EMSCRIPTEN__
  return 0;
#endif
  DIR *folder = opendir("/proc/self/task");
  size_t n = 0;
  if (folder == NULL) return 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    n += entry->d_name[0] != '.';
  }
  closedir(folder);
  return n;
}

/* A thread that was joined may still be listed for a moment: the kernel wakes the waiter first. */
static bool threads_end_as(size_t n) {
  for (size_t i = 0; i < 100000; i++) {
    if (n_threads_now() == n) return true;
    sched_yield();
  }
  return false;
}

/* Pools that are closed at any moment of their threads' start, also unused. */
static void check_open_close(void) {
  size_t n_before = n_threads_now();
  for (size_t i = 0; i < 300; i++) {
    counted_memory counted = {0};
    onekv_allocator allocator = counted_allocator(&counted);
    onekv_pool *pool = NULL;
    tally t = {{0}, {0}, 0};
    CHECK(onekv_pool_open(&allocator, 1 + i % 7, &pool) == ONEKV_OK);
    size_t n_alive = onekv_pool_n_alive(pool);
    CHECK(n_alive >= 1 && n_alive <= 1 + i % 7);
    for (size_t k = 0; k < i % 5; k++) {
      size_t n_active = onekv_pool_activate(pool, 0);
      size_t n_runs = 0;
      memset(&t, 0, sizeof t);
      pool_run(pool, count_run, &t);
      for (size_t j = 0; j < ONEKV_THREADS_MAX; j++) n_runs += t.n_runs[j];
      CHECK(n_active >= 1 && n_runs == n_active);
    }
    onekv_pool_close(pool);
    CHECK(counted.n_bytes == 0 && counted.n_blocks == 0);
  }
  CHECK_SAY(threads_end_as(n_before), "%zu threads before, %zu after", n_before, n_threads_now());
  counted_memory none = {.fail_at = 1};
  onekv_allocator allocator = counted_allocator(&none);
  onekv_pool *pool = NULL;
  CHECK(onekv_pool_open(&allocator, 2, &pool) == ONEKV_OUT_OF_MEMORY && pool == NULL);
}

/* Shares are in order, cut at multiples of the step, and cover everything once. */
static void check_shares(void) {
  for (size_t n = 0; n < 70; n++) {
    for (size_t step = 1; step < 10; step++) {
      for (size_t n_threads = 1; n_threads < 9; n_threads++) {
        size_t covered = 0;
        bool is_right = true;
        for (size_t k = 0; k < n_threads; k++) {
          size_t first = 0;
          size_t end = 0;
          pool_share(n, step, k, n_threads, &first, &end);
          is_right &= first == covered && end >= first && end <= n;
          is_right &= first == end || first % step == 0;
          covered = end;
        }
        CHECK_SAY(is_right && covered == n, "%zu in steps of %zu, %zu threads", n, step, n_threads);
      }
    }
  }
}

static void do_nothing(void *context, size_t thread_index, size_t n_threads) {
  (void)context;
  (void)thread_index;
  (void)n_threads;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Printed on request, never in a test: what a fork and join of two threads takes when calls come
 * without a pause, and when the caller is busy for so long that the other one sleeps. */
static void bench_calls(void) {
  onekv_pool *pool = open_pool(2);
  for (int gap_us = 0; gap_us <= 300; gap_us = gap_us == 0 ? 5 : gap_us * 4) {
    double total = 0.0;
    double best = 1.0;
    for (int i = 0; i < 5000; i++) {
      double start = seconds_now();
      while (seconds_now() - start < 1e-6 * gap_us) continue;
      start = seconds_now();
      pool_run(pool, do_nothing, NULL);
      double elapsed = seconds_now() - start;
      total += elapsed;
      if (elapsed < best) best = elapsed;
    }
    printf("calls every %3d us: %.2f us each, best %.2f us\n", gap_us, total / 5000.0 * 1e6,
           best * 1e6);
  }
  onekv_pool_close(pool);
}

typedef struct reading {
  const uint64_t *words;
  size_t n_words;
  size_t n_ways; /* places that a thread reads at in turn */
  _Atomic uint64_t all;
} reading;

static void read_share(void *context, size_t thread_index, size_t n_threads) {
  reading *job = context;
  size_t n = job->n_words / n_threads / job->n_ways / 8 * 8;
  const uint64_t *from = job->words + thread_index * n * job->n_ways;
  uint64_t sums[8] = {0};
  for (size_t i = 0; i < n; i += 8) {
    for (size_t way = 0; way < job->n_ways; way++) {
      for (size_t k = 0; k < 8; k++) sums[k] ^= from[way * n + i + k];
    }
  }
  for (size_t k = 0; k < 8; k++) job->all ^= sums[k];
}

/* What decoding can hope for: it reads all weights for each token. */
static void bench_reading(void) {
  enum { BYTES = 1 << 28, RUNS = 12 };
  uint64_t *words = malloc(BYTES);
  if (words == NULL) return;
  memset(words, 1, BYTES);
  for (size_t n_threads = 1; n_threads <= 2; n_threads++) {
    onekv_pool *pool = open_pool(n_threads);
    for (size_t n_ways = 1; n_ways <= 16; n_ways *= 4) {
      reading job = {.words = words, .n_words = BYTES / sizeof *words, .n_ways = n_ways};
      double best = 1e9;
      for (int run = 0; run < RUNS; run++) {
        double start = seconds_now();
        pool_run(pool, read_share, &job);
        double elapsed = seconds_now() - start;
        if (elapsed < best) best = elapsed;
      }
      printf("reading memory, %zu thread%s, %zu place%s each: %.1f GB/s\n", n_threads,
             n_threads == 1 ? "" : "s", n_ways, n_ways == 1 ? "" : "s", 1e-9 * BYTES / best);
    }
    onekv_pool_close(pool);
  }
  free(words);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
    bench_calls();
    bench_reading();
    return 0;
  }
  check_seed(3);
  onekv_pool *pool = open_pool(THREADS);
  check_calls(pool, check_is_short(argc, argv) ? CALLS_SHORT : CALLS);
  check_sleepers(pool);
  check_late_workers(pool);
  onekv_pool_close(pool);
  check_open_close();
  check_shares();
  return check_finish();
}
