/* Fork-join: one task at a time, run by all active threads, the caller being thread 0.
 * onekv_types.h has how a pool is opened and closed.
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

/* Lets tasks run on at most n_threads of the active ones (0: on all of them) until it is called
 * again: for models that fewer threads run faster. */
void pool_limit(onekv_pool *pool, size_t n_threads);

typedef void (*pool_task)(void *context, size_t thread_index, size_t n_threads);

/* Runs the task once for the index of every active thread within the limit, and returns when all
 * have finished. The caller runs the shares of those that are late. */
void pool_run(onekv_pool *pool, pool_task task, void *context);
size_t pool_n_active(const onekv_pool *pool); /* threads that run the next task */

/* Threads that the pool may ever use: bounds thread indices. */
size_t pool_n_most(const onekv_pool *pool);

/* One thread's share [*first, *end) of n items, cut at multiples of `step`. */
void pool_share(size_t n, size_t step, size_t thread_index, size_t n_threads, size_t *first,
                size_t *end);

#endif
