/* Fork-join pool on POSIX threads.
 *
 * Invariants: the word `call` is (task counter, threads of that task); a worker that sees a new
 * word runs the task exactly once if its index is below that number, and only then counts down
 * `n_running`. The caller changes task, context and word only while n_running is 0. A sleeping
 * worker is woken under `mutex`, so no wake-up is lost. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum {
  SPIN_COUNT = 4000, /* some 10 µs: longer than the gap between two products of a layer */
  CALL_THREADS = 64  /* modulus of the call word; > POOL_THREADS_MAX */
};

struct onekv_pool {
  memory_ledger memory;
  size_t n_active; /* the caller's own */
  size_t n_started;
  atomic_size_t n_alive;
  atomic_uint call;
  atomic_size_t n_running;
  atomic_bool closing;
  pool_task task;
  void *context;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  pthread_t threads[POOL_THREADS_MAX];
};

static void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Returns the call word once it differs from `seen`. */
static unsigned wait_for_call(onekv_pool *pool, unsigned seen) {
  for (int i = 0; i < SPIN_COUNT; i++) {
    unsigned now = atomic_load_explicit(&pool->call, memory_order_acquire);
    if (now != seen) return now;
    spin_pause();
  }
  pthread_mutex_lock(&pool->mutex);
  while (atomic_load(&pool->call) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
  pthread_mutex_unlock(&pool->mutex);
  return atomic_load_explicit(&pool->call, memory_order_acquire);
}

static void *worker_main(void *argument) {
  onekv_pool *pool = argument;
  unsigned seen = atomic_load(&pool->call);
  /* The index is given on arrival: those alive are 1..n_alive-1 whatever the order of starting.
   * `seen` was read before, so every later call is noticed. */
  size_t index = atomic_fetch_add(&pool->n_alive, 1);
  while (!atomic_load(&pool->closing)) {
    seen = wait_for_call(pool, seen);
    size_t n_threads = seen % CALL_THREADS;
    if (index >= n_threads) continue;
    pool->task(pool->context, index, n_threads);
    atomic_fetch_sub_explicit(&pool->n_running, 1, memory_order_release);
  }
  return NULL;
}

static void announce(onekv_pool *pool, size_t n_threads) {
  pthread_mutex_lock(&pool->mutex);
  unsigned counter = atomic_load(&pool->call) / CALL_THREADS + 1;
  atomic_store_explicit(&pool->call, counter * CALL_THREADS + (unsigned)n_threads,
                        memory_order_release);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

onekv_status onekv_pool_open(const onekv_allocator *allocator, size_t n_threads,
                             onekv_pool **out) {
  if (n_threads < 1 || n_threads > POOL_THREADS_MAX) return ONEKV_INVALID_ARGUMENT;
  memory_ledger memory;
  memory_init(&memory, allocator);
  onekv_pool *pool = memory_take(&memory, MEMORY_TABLES, sizeof *pool);
  if (pool == NULL) return ONEKV_OUT_OF_MEMORY;
  pool->memory = memory;
  pool->n_active = 1;
  atomic_store(&pool->n_alive, 1);
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
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

size_t pool_n_active(const onekv_pool *pool) { return pool->n_active; }

size_t pool_n_most(const onekv_pool *pool) { return pool->n_started + 1; }

void pool_run(onekv_pool *pool, pool_task task, void *context) {
  size_t n_threads = pool->n_active;
  if (n_threads > 1) {
    pool->task = task;
    pool->context = context;
    atomic_store(&pool->n_running, n_threads - 1);
    announce(pool, n_threads);
  }
  task(context, 0, n_threads);
  int n_spins = 0;
  while (atomic_load_explicit(&pool->n_running, memory_order_acquire) != 0) {
    if (n_spins < SPIN_COUNT) {
      n_spins++;
      spin_pause();
    } else {
      sched_yield(); /* a thread that has lost its core may need this one */
    }
  }
}

void pool_share(size_t n, size_t step, size_t thread_index, size_t n_threads, size_t *first,
                size_t *end) {
  size_t n_steps = (n + step - 1) / step;
  *first = n_steps * thread_index / n_threads * step;
  *end = n_steps * (thread_index + 1) / n_threads * step;
  if (*first > n) *first = n;
  if (*end > n) *end = n;
}
