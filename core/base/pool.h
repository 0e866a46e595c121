/* Fork-join: one task at a time, run by all active threads, the caller being thread 0.
 *
 * A task gets its thread's index and the number of threads and takes its share of rows or heads
 * from these; shares never split a sum, so results do not depend on the number of threads.
 *
 * Threads are asked for when the pool opens and may come up late or never (a browser starts a
 * worker only once its parent has returned to the event loop). onekv_pool_n_alive tells how many
 * have reported; none is used before onekv_pool_activate says so. Between tasks a thread spins
 * for a moment, then sleeps; those that are not active sleep until they are. */
#ifndef ONEKV_POOL_H
#define ONEKV_POOL_H

#include "core/base/memory.h"
#include "core/base/status.h"

enum { POOL_THREADS_MAX = 32 };

typedef struct onekv_pool onekv_pool;

/* Asks for n_threads (1 to POOL_THREADS_MAX; the caller counts as one); those that the system
 * refuses are done without. allocator may be NULL. The pool is the caller's, serves any number
 * of models that are not used at the same time, and outlives them.
 * Errors: INVALID_ARGUMENT, OUT_OF_MEMORY. */
onekv_status onekv_pool_open(const onekv_allocator *allocator, size_t n_threads,
                             onekv_pool **out);

/* Ends the threads, waiting for each to end (also for one that has yet to come up). */
void onekv_pool_close(onekv_pool *pool);

/* Threads that can be used now, at least 1. */
size_t onekv_pool_n_alive(const onekv_pool *pool);

/* Uses min(n_threads, alive) threads from now on and returns that number; 0: all alive ones. */
size_t onekv_pool_activate(onekv_pool *pool, size_t n_threads);

/* Lets tasks run on at most n_threads of the active ones (0: on all of them) until it is called
 * again: for models that fewer threads run faster. */
void pool_limit(onekv_pool *pool, size_t n_threads);

typedef void (*pool_task)(void *context, size_t thread_index, size_t n_threads);

/* Runs the task on every active thread within the limit and returns when all have finished. */
void pool_run(onekv_pool *pool, pool_task task, void *context);
size_t pool_n_active(const onekv_pool *pool); /* threads that run the next task */

/* Threads that the pool may ever use: bounds thread indices. */
size_t pool_n_most(const onekv_pool *pool);

/* One thread's share [*first, *end) of n items, cut at multiples of `step`. */
void pool_share(size_t n, size_t step, size_t thread_index, size_t n_threads, size_t *first,
                size_t *end);

#endif
