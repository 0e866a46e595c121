/* Fork-join pool on POSIX threads.
 *
 * Invariants: the word `call` is (task counter, threads of that task). A thread's share of a task
 * is claimed once, by a bit of `unclaimed`: by its worker, or by anyone who has run his own and
 * finds that its worker has not come yet (there may be more threads than free cores, and a share
 * is as well done by anybody). Who claims reads the task afterwards, runs it and only then counts
 * down `n_running`; the caller changes task, context and word only while n_running is 0. A worker
 * may be late and claim in a later call than the one it saw: it runs that one's share.
 *
 * Everyone who waits looks at the word for a moment and then sleeps. Who is about to sleep says so
 * (n_asleep, caller_asleep) before it looks a last time, and who changes the word looks for
 * sleepers afterwards; both in sequentially consistent order, so that one of the two sees the
 * other, and waking goes through the mutex: no wake-up is lost, and none costs anything while
 * nobody sleeps. */
#include "core/base/pool.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
#if defined(__x86_64__) || defined(__i386__)
  SPIN_COUNT = 2000, /* with a pause in it: some 50 µs */
#else
  SPIN_COUNT = 100000, /* a load and a comparison: some 50 µs, which a wake-up takes too */
#endif
  CALL_THREADS = 64 /* modulus of the call word; > ONEKV_THREADS_MAX */
};

struct onekv_pool {
  memory_ledger memory;
  size_t n_active; /* the caller's own */
  size_t n_limit;  /* 0: none */
  size_t n_started;
  atomic_size_t n_alive;
  atomic_uint call;
  atomic_uint unclaimed; /* bit i: the share of thread i */
  atomic_size_t n_running;
  atomic_size_t n_asleep;
  atomic_bool caller_asleep;
  atomic_bool closing;
  pool_task task;
  void *context;
  size_t n_sharing; /* threads of the task */
  pthread_mutex_t mutex;
  pthread_cond_t wake;   /* workers of the last call: there is another */
  pthread_cond_t parked; /* the other workers: a call counts more threads, or the end */
  pthread_cond_t done;   /* the caller: nothing runs */
  pthread_t threads[ONEKV_THREADS_MAX];
};

static void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Returns the call word once it differs from `seen`. A worker that had no part in that call is
 * parked: it sleeps until a call counts it in, and the others are not woken for it. */
static unsigned wait_for_call(onekv_pool *pool, size_t index, unsigned seen) {
  bool is_parked = index >= seen % CALL_THREADS;
  for (int i = 0; i < SPIN_COUNT && !is_parked; i++) {
    unsigned now = atomic_load_explicit(&pool->call, memory_order_acquire);
    if (now != seen) return now;
    spin_pause();
  }
  pthread_mutex_lock(&pool->mutex);
  if (is_parked) {
    while (index >= atomic_load(&pool->call) % CALL_THREADS && !atomic_load(&pool->closing)) {
      pthread_cond_wait(&pool->parked, &pool->mutex);
    }
  } else {
    atomic_fetch_add(&pool->n_asleep, 1);
    while (atomic_load(&pool->call) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->n_asleep, 1);
  }
  pthread_mutex_unlock(&pool->mutex);
  return atomic_load(&pool->call);
}

/* Whether the thread's share of the task was still to be had. */
static bool claim(onekv_pool *pool, size_t index) {
  unsigned bit = 1u << index;
  return (atomic_fetch_and(&pool->unclaimed, ~bit) & bit) != 0;
}

/* The lowest share that is to be had; 0, which is the caller's, when there is none. */
static size_t first_unclaimed(onekv_pool *pool) {
  unsigned bits = atomic_load(&pool->unclaimed);
  return bits == 0 ? 0 : (size_t)__builtin_ctz(bits);
}

/* Counts this worker's task as finished; the last one wakes the caller if that sleeps. */
static void finish(onekv_pool *pool) {
  if (atomic_fetch_sub(&pool->n_running, 1) > 1 || !atomic_load(&pool->caller_asleep)) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_signal(&pool->done);
  pthread_mutex_unlock(&pool->mutex);
}

/* Returns once no worker runs the task any more. A worker that has lost its core may need the
 * caller's, so the caller too goes to sleep. */
static void wait_for_workers(onekv_pool *pool) {
  for (int i = 0; i < SPIN_COUNT; i++) {
    if (atomic_load_explicit(&pool->n_running, memory_order_acquire) == 0) return;
    spin_pause();
  }
  pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->caller_asleep, true);
  while (atomic_load(&pool->n_running) != 0) pthread_cond_wait(&pool->done, &pool->mutex);
  atomic_store(&pool->caller_asleep, false);
  pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *argument) {
  onekv_pool *pool = argument;
  unsigned seen = atomic_load(&pool->call);
  /* The index is given on arrival: those alive are 1..n_alive-1 whatever the order of starting.
   * `seen` was read before, so every later call is noticed. */
  size_t index = atomic_fetch_add(&pool->n_alive, 1);
  while (!atomic_load(&pool->closing)) {
    seen = wait_for_call(pool, index, seen);
    /* Its own share, then the first ones, while the caller comes down from the last: so each finds
     * much the same rows in its core's cache at every call. */
    for (size_t share = index; share != 0; share = first_unclaimed(pool)) {
      if (!claim(pool, share)) continue;
      pool->task(pool->context, share, pool->n_sharing);
      finish(pool);
    }
  }
  return NULL;
}

static void announce(onekv_pool *pool, size_t n_threads) {
  unsigned before = atomic_load_explicit(&pool->call, memory_order_relaxed);
  unsigned counter = before / CALL_THREADS + 1;
  atomic_store(&pool->call, counter * CALL_THREADS + (unsigned)n_threads);
  bool unparks = n_threads > before % CALL_THREADS || atomic_load(&pool->closing);
  if (!unparks && atomic_load(&pool->n_asleep) == 0) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->wake);
  if (unparks) pthread_cond_broadcast(&pool->parked);
  pthread_mutex_unlock(&pool->mutex);
}

onekv_status onekv_pool_open(const onekv_allocator *allocator, size_t n_threads,
                             onekv_pool **out) {
  if (n_threads < 1 || n_threads > ONEKV_THREADS_MAX) return ONEKV_INVALID_ARGUMENT;
  memory_ledger memory;
  memory_init(&memory, allocator);
  onekv_pool *pool = memory_take(&memory, MEMORY_TABLES, sizeof *pool);
  if (pool == NULL) return ONEKV_OUT_OF_MEMORY;
  pool->memory = memory;
  pool->n_active = 1;
  atomic_store(&pool->n_alive, 1);
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pthread_cond_init(&pool->parked, NULL);
  pthread_cond_init(&pool->done, NULL);
  while (pool->n_started + 1 < n_threads) {
    pthread_t *thread = &pool->threads[pool->n_started];
    if (pthread_create(thread, NULL, worker_main, pool) != 0) break;
    pool->n_started++;
  }
  *out = pool;
  return ONEKV_OK;
}

void onekv_pool_close(onekv_pool *pool) {
  if (pool == NULL) return;
  atomic_store(&pool->closing, true);
  announce(pool, 0);
  for (size_t i = 0; i < pool->n_started; i++) pthread_join(pool->threads[i], NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_cond_destroy(&pool->parked);
  pthread_cond_destroy(&pool->done);
  pthread_mutex_destroy(&pool->mutex);
  memory_ledger memory = pool->memory;
  memory_give_back(&memory, MEMORY_TABLES, pool, sizeof *pool);
}

size_t onekv_pool_n_alive(const onekv_pool *pool) { return atomic_load(&pool->n_alive); }

size_t onekv_pool_activate(onekv_pool *pool, size_t n_threads) {
  size_t n_alive = onekv_pool_n_alive(pool);
  pool->n_active = n_threads == 0 || n_threads > n_alive ? n_alive : n_threads;
  return pool->n_active;
}

void pool_limit(onekv_pool *pool, size_t n_threads) { pool->n_limit = n_threads; }

size_t pool_n_active(const onekv_pool *pool) {
  bool is_limited = pool->n_limit > 0 && pool->n_limit < pool->n_active;
  return is_limited ? pool->n_limit : pool->n_active;
}

size_t pool_n_most(const onekv_pool *pool) { return pool->n_started + 1; }

void pool_run(onekv_pool *pool, pool_task task, void *context) {
  size_t n_threads = pool_n_active(pool);
  if (n_threads == 1) {
    task(context, 0, 1);
    return;
  }
  pool->task = task;
  pool->context = context;
  pool->n_sharing = n_threads;
  atomic_store_explicit(&pool->n_running, n_threads - 1, memory_order_relaxed);
  atomic_store(&pool->unclaimed, (unsigned)((UINT64_C(1) << n_threads) - 2));
  announce(pool, n_threads);
  task(context, 0, n_threads);
  for (size_t i = n_threads - 1; i > 0; i--) {
    if (!claim(pool, i)) continue;
    task(context, i, n_threads);
    atomic_fetch_sub(&pool->n_running, 1);
  }
  wait_for_workers(pool);
}

void pool_share(size_t n, size_t step, size_t thread_index, size_t n_threads, size_t *first,
                size_t *end) {
  size_t n_steps = (n + step - 1) / step;
  *first = n_steps * thread_index / n_threads * step;
  *end = n_steps * (thread_index + 1) / n_threads * step;
  if (*first > n) *first = n;
  if (*end > n) *end = n;
}
