/* Attention as a tile product: blocks of queries, ranges and tiles of the cache, online softmax. */
#include "core/net/attention_scratch.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
  RESULTS_MAX = 32,     /* results of ranges that wait to be merged */
  BLOCKS_SPLIT_MAX = 4, /* most blocks whose ranges are shared out */
  QUERIES_SPLIT_MAX = 32
};

/* Queries that share a KV head: rows [first_row, +n_rows) × heads [first_head, +n_heads). */
typedef struct query_block {
  const sequence_slice *slice;
  size_t kv_head;
  size_t first_row; /* in the slice */
  size_t n_rows;
  size_t first_head;
  size_t n_heads;
  size_t first_seen;  /* position that its first row sees */
  size_t n_positions; /* end of those that its last row sees */
} query_block;

/* What the threads share. Blocks are numbered slice by slice, in each by head, then by row. */
typedef struct attention_job {
  const attention_call *call;
  size_t heads_max; /* of a block */
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
    size_t n = n_threads * thread_floats(kind) +
               RESULTS_MAX * result_floats(kind->value_width, QUERIES_SPLIT_MAX);
    if (n > most) most = n;
  }
  return most;
}

/* End of the positions that a row of the slice sees. */
static size_t n_visible(const attention_call *call, const sequence_slice *slice, size_t row) {
  return slice->first_position + (call->config->causal ? row + 1 : slice->n_rows);
}

/* First position that a row of the slice sees. */
static size_t first_visible(const attention_call *call, const sequence_slice *slice, size_t row) {
  size_t window = call->kind->window;
  size_t end = slice->first_position + row + 1;
  return window == 0 || end <= window ? 0 : end - window;
}

static size_t n_ranges(size_t n_positions) {
  return (n_positions + ATTENTION_RANGE - 1) / ATTENTION_RANGE;
}

const float *attention_make_keys(const attention_call *call, const float *rows, size_t n,
                                 float *keys) {
  size_t k = call->kind->key_width;
  if (call->key_norm == NULL && call->key_gain == NULL && call->rope == NULL) return rows;
  if (call->key_gain != NULL) {
    memcpy(keys, rows, n * k * sizeof *keys);
    for (size_t i = 0; i < n; i++) call->kernels->f32_multiply(keys + i * k, call->key_gain, k);
    rows = keys;
  }
  if (call->key_norm != NULL) {
    for (size_t i = 0; i < n; i++) {
      call->kernels->f32_rms_norm(rows + i * k, call->key_norm, call->config->norm_epsilon, k,
                                  keys + i * k);
    }
    rows = keys;
  }
  if (call->rope == NULL) return keys;
  bool has_rest = 2 * call->rope->n_pairs < k;
  if (has_rest && rows != keys) memcpy(keys, rows, n * k * sizeof *keys);
  rope_rotate_fine(call->rope, call->kernels, rows, n, k, keys);
  return keys;
}

/* A tile as both products want it. */
typedef struct tile {
  const float *keys;   /* [n][k] */
  const float *values; /* [n][v], value_stride apart */
  size_t value_stride;
} tile;

/* Keys and values of the first n positions of a page. */
static tile read_tile(const attention_call *call, const query_block *block, size_t page, size_t n,
                      tile_scratch *scratch) {
  const layer_kind *kind = call->kind;
  const kv_cache *cache = block->slice->cache;
  size_t head = block->kv_head;
  if (!kind->shares_row) {
    return (tile){kv_cache_read(cache, call->layer, KV_ROW, head, page, n, scratch->keys),
                  kv_cache_read(cache, call->layer, KV_VALUE, head, page, n, scratch->values),
                  kind->value_width};
  }
  const float *rows = kv_cache_read(cache, call->layer, KV_ROW, head, page, n, scratch->values);
  return (tile){attention_make_keys(call, rows, n, scratch->keys), rows + kind->value_offset,
                kind->key_width};
}

/* The block's queries as the tile's keys want them: turned back by the tile's position. */
static const float *turn_queries(const attention_call *call, size_t n_queries, size_t page,
                                 tile_scratch *scratch) {
  if (call->rope == NULL) return scratch->queries;
  _Static_assert((int)ROPE_STEP == (int)KV_PAGE_POSITIONS, "a page is a coarse step");
  rope_unrotate_coarse(call->rope, call->kernels, scratch->queries, n_queries,
                       call->kind->key_width, page, scratch->turned);
  return scratch->turned;
}

/* scores[q][p] -> softmax weights of the positions that each query sees; 0 for the others. */
static void weigh_tile(const attention_call *call, const query_block *block, size_t page,
                       size_t n, const range_result *range, tile_scratch *scratch) {
  const kernel_table *kernels = call->kernels;
  size_t first = page * KV_PAGE_POSITIONS;
  for (size_t row = 0, q = 0; row < block->n_rows; row++) {
    size_t visible = n_visible(call, block->slice, block->first_row + row);
    size_t n_seen = visible <= first ? 0 : visible - first < n ? visible - first : n;
    size_t before = first_visible(call, block->slice, block->first_row + row);
    size_t n_hidden = before <= first ? 0 : before - first < n_seen ? before - first : n_seen;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float *scores = scratch->scores + q * KV_PAGE_POSITIONS;
      if (call->key_bias != NULL && n_seen > 0) {
        kernels->f32_add(scores, call->key_bias + first, n_seen);
      }
      scratch->factors[q] = 1.0f;
      if (n_seen > n_hidden) {
        scratch->factors[q] = kernels->f32_softmax_step(scores + n_hidden, n_seen - n_hidden,
                                                        &range->maxima[q], &range->sums[q]);
      }
      for (size_t p = 0; p < n_hidden; p++) scores[p] = 0.0f;
      for (size_t p = n_seen; p < n; p++) scores[p] = 0.0f;
    }
  }
}

static void touch_tile(const attention_call *call, const query_block *block, size_t page) {
  const kv_cache *cache = block->slice->cache;
  kv_cache_touch(cache, call->layer, KV_ROW, block->kv_head, page);
  if (call->kind->shares_row) return;
  kv_cache_touch(cache, call->layer, KV_VALUE, block->kv_head, page);
}

static void attend_tile(const attention_call *call, const query_block *block, size_t page,
                        size_t n, const range_result *range, tile_scratch *scratch) {
  size_t k = call->kind->key_width;
  size_t v = call->kind->value_width;
  size_t n_queries = block->n_rows * block->n_heads;
  tile read = read_tile(call, block, page, n, scratch);
  const float *queries = turn_queries(call, n_queries, page, scratch);
  call->kernels->f32_matmul(read.keys, k, n, queries, k, n_queries, k, scratch->scores,
                            KV_PAGE_POSITIONS);
  weigh_tile(call, block, page, n, range, scratch);
  call->kernels->f32_attend(scratch->scores, KV_PAGE_POSITIONS, n_queries, read.values,
                            read.value_stride, n, v, scratch->factors, range->out, v);
}

/* The block's queries times σ α, gathered so that they lie one behind the other. */
static void gather_queries(const attention_call *call, const query_block *block,
                           tile_scratch *scratch) {
  size_t k = call->kind->key_width;
  size_t row_floats = call->kind->n_heads * k;
  for (size_t row = 0; row < block->n_rows; row++) {
    size_t batch_row = block->slice->first_row + block->first_row + row;
    const float *source = call->queries + batch_row * row_floats + block->first_head * k;
    float *queries = scratch->queries + row * block->n_heads * k;
    for (size_t c = 0; c < block->n_heads * k; c++) queries[c] = source[c] * call->score_scale;
  }
  /* What is not rotated is the same for all tiles. */
  size_t n_queries = block->n_rows * block->n_heads;
  if (call->rope != NULL && 2 * call->rope->n_pairs < k) {
    memcpy(scratch->turned, scratch->queries, n_queries * k * sizeof *scratch->queries);
  }
}

static void clear_result(size_t n_queries, size_t v, const range_result *result) {
  memset(result->out, 0, n_queries * v * sizeof *result->out);
  for (size_t q = 0; q < n_queries; q++) {
    result->maxima[q] = -INFINITY;
    result->sums[q] = 0.0f;
  }
}

/* Attends the part of a range that the block sees, from a cleared result. */
static void attend_range(const attention_call *call, const query_block *block, size_t index,
                         const range_result *range, tile_scratch *scratch) {
  size_t end = (index + 1) * ATTENTION_RANGE;
  if (end > block->n_positions) end = block->n_positions;
  clear_result(block->n_rows * block->n_heads, call->kind->value_width, range);
  size_t first = index * ATTENTION_RANGE;
  if (first < block->first_seen) {
    first = block->first_seen / KV_PAGE_POSITIONS * KV_PAGE_POSITIONS;
  }
  for (; first < end; first += KV_PAGE_POSITIONS) {
    size_t n = end - first < KV_PAGE_POSITIONS ? end - first : KV_PAGE_POSITIONS;
    if (first + n < block->n_positions) touch_tile(call, block, first / KV_PAGE_POSITIONS + 1);
    attend_tile(call, block, first / KV_PAGE_POSITIONS, n, range, scratch);
  }
}

/* total += range, both brought to the larger maximum. A query that sees nothing of the range, or
 * only masked positions, stays as it is. */
static void merge(size_t n_queries, size_t v, const range_result *range,
                  const range_result *total) {
  for (size_t q = 0; q < n_queries; q++) {
    float before = total->maxima[q];
    float found = range->maxima[q];
    if (range->sums[q] == 0.0f) continue;
    bool is_larger = found > before;
    float kept = is_larger ? expf(before - found) : 1.0f;
    float added = is_larger ? 1.0f : expf(found - before);
    float *out = total->out + q * v;
    const float *more = range->out + q * v;
    for (size_t c = 0; c < v; c++) out[c] = out[c] * kept + more[c] * added;
    total->sums[q] = total->sums[q] * kept + range->sums[q] * added;
    if (is_larger) total->maxima[q] = found;
  }
}

static void scatter_out(const attention_call *call, const query_block *block,
                        const range_result *total) {
  size_t v = call->kind->value_width;
  size_t row_floats = call->kind->n_heads * v;
  for (size_t row = 0, q = 0; row < block->n_rows; row++) {
    size_t batch_row = block->slice->first_row + block->first_row + row;
    float *out = call->out + batch_row * row_floats + block->first_head * v;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float inverse_sum = 1.0f / total->sums[q];
      for (size_t c = 0; c < v; c++) out[head * v + c] = total->out[q * v + c] * inverse_sum;
    }
  }
}

static size_t blocks_of_slice(const attention_job *job, const sequence_slice *slice) {
  const layer_kind *kind = job->call->kind;
  size_t group = kind->n_heads / kind->n_kv_heads;
  size_t n_parts = (group + job->heads_max - 1) / job->heads_max;
  size_t n_runs = (slice->n_rows + job->rows_max - 1) / job->rows_max;
  return kind->n_kv_heads * n_parts * n_runs;
}

static query_block find_block(const attention_job *job, size_t index) {
  const attention_call *call = job->call;
  const sequence_slice *slice = call->slices;
  while (index >= blocks_of_slice(job, slice)) index -= blocks_of_slice(job, slice++);
  size_t group = call->kind->n_heads / call->kind->n_kv_heads;
  size_t n_parts = (group + job->heads_max - 1) / job->heads_max;
  size_t n_runs = (slice->n_rows + job->rows_max - 1) / job->rows_max;
  size_t part = index / n_runs % n_parts;
  query_block block = {.slice = slice, .kv_head = index / n_runs / n_parts};
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

static void attend_block(const attention_call *call, const query_block *block,
                         tile_scratch *scratch) {
  size_t v = call->kind->value_width;
  size_t n_queries = block->n_rows * block->n_heads;
  gather_queries(call, block, scratch);
  clear_result(n_queries, v, &scratch->total);
  for (size_t i = block->first_seen / ATTENTION_RANGE; i < n_ranges(block->n_positions); i++) {
    attend_range(call, block, i, &scratch->range, scratch);
    merge(n_queries, v, &scratch->range, &scratch->total);
  }
  scatter_out(call, block, &scratch->total);
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
      attend_block(job->call, &block, &scratch);
      continue;
    }
    size_t index = job->first_range + task / job->n_blocks;
    if (!has_range(&block, index)) continue;
    range_result range = result_at(job, job->n_blocks + task);
    gather_queries(job->call, &block, &scratch);
    attend_range(job->call, &block, index, &range, &scratch);
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
      size_t n_queries = block.n_rows * block.n_heads;
      size_t i = first + task / job->n_blocks;
      if (i == first_all) clear_result(n_queries, v, &total);
      if (has_range(&block, i)) merge(n_queries, v, &range, &total);
    }
  }
  for (size_t i = 0; i < job->n_blocks; i++) {
    query_block block = find_block(job, i);
    range_result total = result_at(job, i);
    scatter_out(call, &block, &total);
  }
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
    job.n_blocks += blocks_of_slice(&job, slice);
    if (first < first_all) first_all = first;
    if (n > n_most) n_most = n;
    if (slice->n_rows > n_rows) n_rows = slice->n_rows;
  }
  bool is_split = n_most - first_all > 1 && n_threads > 1 && job.n_blocks < 2 * n_threads &&
                  job.n_blocks <= BLOCKS_SPLIT_MAX && n_rows * job.heads_max <= QUERIES_SPLIT_MAX;
  if (is_split) {
    attend_by_range(pool, &job, first_all, n_most);
  } else if (job.n_blocks == 1) {
    attention_share(&job, 0, 1); /* nothing to share: no other thread is woken */
  } else {
    pool_run(pool, attention_share, &job);
  }
}
