/* Who computes what of attention: blocks of queries, or their ranges, shared out among threads. The
 * sums are the same either way; see attention.h. */
#include "core/net/attention_block.h"

#include <stdatomic.h>

enum {
  RESULTS_MAX = 32,     /* results of ranges that wait to be merged */
  BLOCKS_SPLIT_MAX = 4, /* most blocks whose ranges are shared out */
  QUERIES_SPLIT_MAX = 32
};

/* What the threads share. Blocks are numbered slice by slice, in each by head, then by row. */
typedef struct attention_job {
  const attention_call *call;
  size_t kv_heads;  /* of a block */
  size_t heads_max; /* of a block and KV head */
  size_t rows_max;
  size_t n_blocks;
  size_t n_ranges;    /* of one round when split by range, else 0: a task is a whole block */
  size_t first_range; /* of the round */
  float *results;     /* [RESULTS_MAX] range results */
  atomic_size_t n_claimed;
} attention_job;

size_t attention_scratch_floats(const onekv_config *config, size_t n_threads) {
  size_t most = 0;
  for (size_t i = 0; i < config->n_kinds; i++) {
    const layer_kind *kind = &config->kinds[i];
    if (kind->n_taps > 0) continue;
    size_t n = n_threads * thread_floats(kind) +
               RESULTS_MAX * result_floats(kind->value_width, QUERIES_SPLIT_MAX);
    if (n > most) most = n;
  }
  return most;
}

static size_t blocks_of_slice(const attention_job *job, const sequence_slice *slice) {
  const layer_kind *kind = job->call->kind;
  size_t group = kind->n_heads / kind->n_kv_heads;
  size_t n_parts = (group + job->heads_max - 1) / job->heads_max;
  size_t n_runs = (slice->n_rows + job->rows_max - 1) / job->rows_max;
  return kind->n_kv_heads / job->kv_heads * n_parts * n_runs;
}

static query_block find_block(const attention_job *job, size_t index) {
  const attention_call *call = job->call;
  const sequence_slice *slice = call->slices;
  while (index >= blocks_of_slice(job, slice)) index -= blocks_of_slice(job, slice++);
  size_t group = call->kind->n_heads / call->kind->n_kv_heads;
  size_t n_parts = (group + job->heads_max - 1) / job->heads_max;
  size_t n_runs = (slice->n_rows + job->rows_max - 1) / job->rows_max;
  size_t part = index / n_runs % n_parts;
  query_block block = {.slice = slice,
                       .kv_head = index / n_runs / n_parts * job->kv_heads,
                       .n_kv_heads = job->kv_heads};
  size_t n_heads_left = group - part * job->heads_max;
  block.first_head = block.kv_head * group + part * job->heads_max;
  block.n_heads = n_heads_left < job->heads_max ? n_heads_left : job->heads_max;
  block.first_row = index % n_runs * job->rows_max;
  size_t n_rows_left = slice->n_rows - block.first_row;
  block.n_rows = n_rows_left < job->rows_max ? n_rows_left : job->rows_max;
  block.first_seen = first_visible(call, slice, block.first_row);
  block.n_positions = n_visible(call, slice, block.first_row + block.n_rows - 1);
  return block;
}

/* Where the result of a task of the round waits; the first n_blocks hold the blocks' totals. */
static range_result result_at(const attention_job *job, size_t index) {
  size_t v = job->call->kind->value_width;
  return carve_result(job->results + index * result_floats(v, QUERIES_SPLIT_MAX),
                      QUERIES_SPLIT_MAX, v);
}

static bool has_range(const query_block *block, size_t index) {
  return index >= block->first_seen / ATTENTION_RANGE && index < n_ranges(block->n_positions);
}

/* Threads claim tasks one by one, so that one which has lost its core for a while holds up nobody
 * but itself. The last blocks come first: of a prefill they see most. */
static void attention_share(void *context, size_t thread_index, size_t n_threads) {
  attention_job *job = context;
  tile_scratch scratch = carve_scratch(job->call, thread_index);
  size_t n_tasks = job->n_blocks * (job->n_ranges > 0 ? job->n_ranges : 1);
  (void)n_threads;
  for (;;) {
    size_t task = atomic_fetch_add_explicit(&job->n_claimed, 1, memory_order_relaxed);
    if (task >= n_tasks) return;
    query_block block = find_block(job, job->n_blocks - 1 - task % job->n_blocks);
    if (job->n_ranges == 0) {
      attention_attend_block(job->call, &block, &scratch);
      continue;
    }
    size_t index = job->first_range + task / job->n_blocks;
    if (!has_range(&block, index)) continue;
    range_result range = result_at(job, job->n_blocks + task);
    attention_gather(job->call, &block, &scratch);
    attention_attend_range(job->call, &block, index, &range, &scratch);
  }
}

/* Rounds of as many ranges as there is room for; between them the caller merges. */
static void attend_by_range(onekv_pool *pool, attention_job *job, size_t first_all,
                            size_t n_all) {
  const attention_call *call = job->call;
  size_t v = call->kind->value_width;
  size_t n_round = (RESULTS_MAX - job->n_blocks) / job->n_blocks;
  for (size_t first = first_all; first < n_all; first += n_round) {
    job->first_range = first;
    job->n_ranges = n_all - first < n_round ? n_all - first : n_round;
    atomic_store_explicit(&job->n_claimed, 0, memory_order_relaxed);
    pool_run(pool, attention_share, job);
    for (size_t task = 0; task < job->n_blocks * job->n_ranges; task++) {
      size_t index = job->n_blocks - 1 - task % job->n_blocks;
      query_block block = find_block(job, index);
      range_result total = result_at(job, index);
      range_result range = result_at(job, job->n_blocks + task);
      size_t n_queries = n_queries_of(&block);
      size_t i = first + task / job->n_blocks;
      if (i == first_all) attention_begin(call, &block, &total);
      if (has_range(&block, i)) attention_merge(n_queries, v, &range, &total);
    }
  }
  for (size_t i = 0; i < job->n_blocks; i++) {
    query_block block = find_block(job, i);
    range_result total = result_at(job, i);
    attention_scatter(call, &block, &total);
  }
}

/* Whether a block takes one row's queries of all KV heads. A page has their tiles side by side, so
 * that memory is read in long runs instead of a tile here and there; threads then share ranges. */
static bool joins_heads(const attention_call *call, size_t n_ranges_seen, size_t n_threads) {
  if (call->kind->n_heads > QUERIES_SPLIT_MAX) return false;
  return n_threads == 1 || (call->n_slices == 1 && n_ranges_seen >= 2 * n_threads);
}

void attention(onekv_pool *pool, const attention_call *call) {
  const layer_kind *kind = call->kind;
  size_t n_threads = pool_n_active(pool);
  size_t group = kind->n_heads / kind->n_kv_heads;
  attention_job job = {.call = call};
  job.heads_max = group < QUERIES_SPLIT_MAX ? group : QUERIES_SPLIT_MAX;
  job.rows_max = ATTENTION_QUERIES / job.heads_max;
  job.results = call->scratch + pool_n_most(pool) * thread_floats(kind);
  size_t first_all = SIZE_MAX; /* ranges [first_all, n_most) are seen */
  size_t n_most = 0;
  size_t n_rows = 0;
  for (size_t s = 0; s < call->n_slices; s++) {
    const sequence_slice *slice = &call->slices[s];
    size_t n = n_ranges(n_visible(call, slice, slice->n_rows - 1));
    size_t first = first_visible(call, slice, 0) / ATTENTION_RANGE;
    if (first < first_all) first_all = first;
    if (n > n_most) n_most = n;
    if (slice->n_rows > n_rows) n_rows = slice->n_rows;
  }
  size_t n_seen = n_most - first_all;
  job.kv_heads = n_rows == 1 && joins_heads(call, n_seen, n_threads) ? kind->n_kv_heads : 1;
  for (size_t s = 0; s < call->n_slices; s++) {
    job.n_blocks += blocks_of_slice(&job, &call->slices[s]);
  }
  bool is_split = n_seen > 1 && n_threads > 1 && job.n_blocks < 2 * n_threads &&
                  job.n_blocks <= BLOCKS_SPLIT_MAX &&
                  n_rows * job.kv_heads * job.heads_max <= QUERIES_SPLIT_MAX;
  if (is_split) {
    attend_by_range(pool, &job, first_all, n_most);
  } else if (job.n_blocks == 1) {
    attention_share(&job, 0, 1); /* nothing to share: no other thread is woken */
  } else {
    pool_run(pool, attention_share, &job);
  }
}
