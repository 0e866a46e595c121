/* Attention as a tile product: blocks of queries, ranges and tiles of the cache, online softmax. */
#include "core/net/attention.h"

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
  size_t n_positions; /* that its last row sees */
} query_block;

/* Softmax over some positions, not yet divided: out = sum exp(s - maximum) v. Query index =
 * row · n_heads + head of the block. */
typedef struct range_result {
  float *out;    /* [queries][h] */
  float *maxima; /* [queries] */
  float *sums;   /* [queries] */
} range_result;

/* One thread's working memory. */
typedef struct tile_scratch {
  float *queries; /* [ATTENTION_QUERIES][h] */
  float *turned;  /* [ATTENTION_QUERIES][h]: queries turned back by a tile's position */
  float *keys;    /* [KV_PAGE_POSITIONS][h] */
  float *values;  /* [KV_PAGE_POSITIONS][h] */
  float *scores;  /* [ATTENTION_QUERIES][KV_PAGE_POSITIONS] */
  float *factors; /* [ATTENTION_QUERIES] */
  range_result range;
  range_result total;
} tile_scratch;

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

static size_t result_floats(const onekv_config *config, size_t n_queries) {
  return n_queries * (config->head_width + 2);
}

static size_t thread_floats(const onekv_config *config) {
  size_t h = config->head_width;
  return 2 * ATTENTION_QUERIES * h + 2 * KV_PAGE_POSITIONS * h +
         ATTENTION_QUERIES * (KV_PAGE_POSITIONS + 1) +
         2 * result_floats(config, ATTENTION_QUERIES);
}

size_t attention_scratch_floats(const onekv_config *config, size_t n_threads) {
  return n_threads * thread_floats(config) +
         RESULTS_MAX * result_floats(config, QUERIES_SPLIT_MAX);
}

static range_result carve_result(float *floats, size_t n_queries, size_t h) {
  return (range_result){floats, floats + n_queries * h, floats + n_queries * (h + 1)};
}

static tile_scratch carve_scratch(const attention_call *call, size_t thread_index) {
  const onekv_config *config = call->config;
  size_t h = config->head_width;
  tile_scratch scratch;
  scratch.queries = call->scratch + thread_index * thread_floats(config);
  scratch.turned = scratch.queries + ATTENTION_QUERIES * h;
  scratch.keys = scratch.turned + ATTENTION_QUERIES * h;
  scratch.values = scratch.keys + KV_PAGE_POSITIONS * h;
  scratch.scores = scratch.values + KV_PAGE_POSITIONS * h;
  scratch.factors = scratch.scores + ATTENTION_QUERIES * KV_PAGE_POSITIONS;
  float *results = scratch.factors + ATTENTION_QUERIES;
  scratch.range = carve_result(results, ATTENTION_QUERIES, h);
  scratch.total =
      carve_result(results + result_floats(config, ATTENTION_QUERIES), ATTENTION_QUERIES, h);
  return scratch;
}

/* Positions that a row of the slice sees: 0..n-1. */
static size_t n_visible(const attention_call *call, const sequence_slice *slice, size_t row) {
  return slice->first_position + (call->config->causal ? row + 1 : slice->n_rows);
}

static size_t n_ranges(size_t n_positions) {
  return (n_positions + ATTENTION_RANGE - 1) / ATTENTION_RANGE;
}

/* The tile's keys from its shared rows, as far as they are made at read, for queries that
 * turn_queries has prepared: R(position) is shared out between the two. */
static const float *make_keys(const attention_call *call, const float *shared, size_t n,
                              tile_scratch *scratch) {
  const onekv_config *config = call->config;
  size_t h = config->head_width;
  const float *keys = shared;
  if (call->key_norm != NULL) {
    for (size_t i = 0; i < n; i++) {
      call->kernels->f32_rms_norm(shared + i * h, call->key_norm, config->norm_epsilon, h,
                                  scratch->keys + i * h);
    }
    keys = scratch->keys;
  }
  if (!config_rotates_at_read(config)) return keys;
  size_t n_rotated = config->rope.n_rotated;
  for (size_t i = 0; i < n && keys != scratch->keys && n_rotated < h; i++) {
    memcpy(scratch->keys + i * h + n_rotated, keys + i * h + n_rotated,
           (h - n_rotated) * sizeof *keys);
  }
  rope_rotate_fine(call->rope, call->kernels, keys, n, h, scratch->keys);
  return scratch->keys;
}

/* Keys and values of the first n positions of a page: [n][h] each. */
static void read_tile(const attention_call *call, const query_block *block, size_t page, size_t n,
                      tile_scratch *scratch, const float **keys, const float **values) {
  const onekv_config *config = call->config;
  const kv_cache *cache = block->slice->cache;
  size_t head = block->kv_head;
  if (!config_shares_kv(config)) {
    *keys = kv_cache_read(cache, call->layer, KV_KEYS, head, page, n, scratch->keys);
    *values = kv_cache_read(cache, call->layer, KV_VALUES, head, page, n, scratch->values);
    return;
  }
  *values = kv_cache_read(cache, call->layer, KV_KEYS, head, page, n, scratch->values);
  *keys = config_makes_keys_at_read(config) ? make_keys(call, *values, n, scratch) : *values;
}

/* The block's queries as the tile's keys want them: turned back by the tile's position. */
static const float *turn_queries(const attention_call *call, size_t n_queries, size_t page,
                                 tile_scratch *scratch) {
  if (!config_rotates_at_read(call->config)) return scratch->queries;
  _Static_assert((int)ROPE_STEP == (int)KV_PAGE_POSITIONS, "a page is a coarse step");
  rope_unrotate_coarse(call->rope, call->kernels, scratch->queries, n_queries,
                       call->config->head_width, page, scratch->turned);
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
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float *scores = scratch->scores + q * KV_PAGE_POSITIONS;
      if (call->key_bias != NULL && n_seen > 0) {
        kernels->f32_add(scores, call->key_bias + first, n_seen);
      }
      scratch->factors[q] = 1.0f;
      if (n_seen > 0) {
        scratch->factors[q] =
            kernels->f32_softmax_step(scores, n_seen, &range->maxima[q], &range->sums[q]);
      }
      for (size_t p = n_seen; p < n; p++) scores[p] = 0.0f;
    }
  }
}

static void touch_tile(const attention_call *call, const query_block *block, size_t page) {
  const kv_cache *cache = block->slice->cache;
  kv_cache_touch(cache, call->layer, KV_KEYS, block->kv_head, page);
  if (config_shares_kv(call->config)) return;
  kv_cache_touch(cache, call->layer, KV_VALUES, block->kv_head, page);
}

static void attend_tile(const attention_call *call, const query_block *block, size_t page,
                        size_t n, const range_result *range, tile_scratch *scratch) {
  size_t h = call->config->head_width;
  size_t n_queries = block->n_rows * block->n_heads;
  const float *keys = NULL;
  const float *values = NULL;
  read_tile(call, block, page, n, scratch, &keys, &values);
  const float *queries = turn_queries(call, n_queries, page, scratch);
  call->kernels->f32_matmul(keys, h, n, queries, h, n_queries, h, scratch->scores,
                            KV_PAGE_POSITIONS);
  weigh_tile(call, block, page, n, range, scratch);
  call->kernels->f32_attend(scratch->scores, KV_PAGE_POSITIONS, n_queries, values, h, n, h,
                            scratch->factors, range->out, h);
}

/* The block's queries times σ α, gathered so that they lie one behind the other. */
static void gather_queries(const attention_call *call, const query_block *block,
                           tile_scratch *scratch) {
  size_t h = call->config->head_width;
  size_t row_floats = call->config->n_heads * h;
  for (size_t row = 0; row < block->n_rows; row++) {
    size_t batch_row = block->slice->first_row + block->first_row + row;
    const float *source = call->queries + batch_row * row_floats + block->first_head * h;
    float *queries = scratch->queries + row * block->n_heads * h;
    for (size_t c = 0; c < block->n_heads * h; c++) queries[c] = source[c] * call->score_scale;
  }
  /* What follows the rotated elements is the same for all tiles. */
  size_t n_queries = block->n_rows * block->n_heads;
  if (config_rotates_at_read(call->config) && call->config->rope.n_rotated < h) {
    memcpy(scratch->turned, scratch->queries, n_queries * h * sizeof *scratch->queries);
  }
}

static void clear_result(size_t n_queries, size_t h, const range_result *result) {
  memset(result->out, 0, n_queries * h * sizeof *result->out);
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
  clear_result(block->n_rows * block->n_heads, call->config->head_width, range);
  for (size_t first = index * ATTENTION_RANGE; first < end; first += KV_PAGE_POSITIONS) {
    size_t n = end - first < KV_PAGE_POSITIONS ? end - first : KV_PAGE_POSITIONS;
    if (first + n < block->n_positions) touch_tile(call, block, first / KV_PAGE_POSITIONS + 1);
    attend_tile(call, block, first / KV_PAGE_POSITIONS, n, range, scratch);
  }
}

/* total += range, both brought to the larger maximum. A query that sees nothing of the range, or
 * only masked positions, stays as it is. */
static void merge(size_t n_queries, size_t h, const range_result *range,
                  const range_result *total) {
  for (size_t q = 0; q < n_queries; q++) {
    float before = total->maxima[q];
    float found = range->maxima[q];
    if (range->sums[q] == 0.0f) continue;
    bool is_larger = found > before;
    float kept = is_larger ? expf(before - found) : 1.0f;
    float added = is_larger ? 1.0f : expf(found - before);
    float *out = total->out + q * h;
    const float *more = range->out + q * h;
    for (size_t c = 0; c < h; c++) out[c] = out[c] * kept + more[c] * added;
    total->sums[q] = total->sums[q] * kept + range->sums[q] * added;
    if (is_larger) total->maxima[q] = found;
  }
}

static void scatter_out(const attention_call *call, const query_block *block,
                        const range_result *total) {
  size_t h = call->config->head_width;
  size_t row_floats = call->config->n_heads * h;
  for (size_t row = 0, q = 0; row < block->n_rows; row++) {
    size_t batch_row = block->slice->first_row + block->first_row + row;
    float *out = call->out + batch_row * row_floats + block->first_head * h;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float inverse_sum = 1.0f / total->sums[q];
      for (size_t c = 0; c < h; c++) out[head * h + c] = total->out[q * h + c] * inverse_sum;
    }
  }
}

static size_t blocks_of_slice(const attention_job *job, const sequence_slice *slice) {
  const onekv_config *config = job->call->config;
  size_t group = config->n_heads / config->n_kv_heads;
  size_t n_parts = (group + job->heads_max - 1) / job->heads_max;
  size_t n_runs = (slice->n_rows + job->rows_max - 1) / job->rows_max;
  return config->n_kv_heads * n_parts * n_runs;
}

static query_block find_block(const attention_job *job, size_t index) {
  const attention_call *call = job->call;
  const sequence_slice *slice = call->slices;
  while (index >= blocks_of_slice(job, slice)) index -= blocks_of_slice(job, slice++);
  size_t group = call->config->n_heads / call->config->n_kv_heads;
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
  block.n_positions = n_visible(call, slice, block.first_row + block.n_rows - 1);
  return block;
}

static void attend_block(const attention_call *call, const query_block *block,
                         tile_scratch *scratch) {
  size_t h = call->config->head_width;
  size_t n_queries = block->n_rows * block->n_heads;
  gather_queries(call, block, scratch);
  clear_result(n_queries, h, &scratch->total);
  for (size_t i = 0; i < n_ranges(block->n_positions); i++) {
    attend_range(call, block, i, &scratch->range, scratch);
    merge(n_queries, h, &scratch->range, &scratch->total);
  }
  scatter_out(call, block, &scratch->total);
}

/* Where the result of a task of the round waits; the first n_blocks hold the blocks' totals. */
static range_result result_at(const attention_job *job, size_t index) {
  const onekv_config *config = job->call->config;
  return carve_result(job->results + index * result_floats(config, QUERIES_SPLIT_MAX),
                      QUERIES_SPLIT_MAX, config->head_width);
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
    if (index >= n_ranges(block.n_positions)) continue;
    range_result range = result_at(job, job->n_blocks + task);
    gather_queries(job->call, &block, &scratch);
    attend_range(job->call, &block, index, &range, &scratch);
  }
}

/* Rounds of as many ranges as there is room for; between them the caller merges. */
static void attend_by_range(onekv_pool *pool, attention_job *job, size_t n_all) {
  const attention_call *call = job->call;
  size_t h = call->config->head_width;
  size_t n_round = (RESULTS_MAX - job->n_blocks) / job->n_blocks;
  for (size_t first = 0; first < n_all; first += n_round) {
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
      if (i == 0) clear_result(n_queries, h, &total);
      if (i < n_ranges(block.n_positions)) merge(n_queries, h, &range, &total);
    }
  }
  for (size_t i = 0; i < job->n_blocks; i++) {
    query_block block = find_block(job, i);
    range_result total = result_at(job, i);
    scatter_out(call, &block, &total);
  }
}

void attention(onekv_pool *pool, const attention_call *call) {
  const onekv_config *config = call->config;
  size_t n_threads = pool_n_active(pool);
  size_t group = config->n_heads / config->n_kv_heads;
  attention_job job = {.call = call};
  job.heads_max = group < QUERIES_SPLIT_MAX ? group : QUERIES_SPLIT_MAX;
  job.rows_max = ATTENTION_QUERIES / job.heads_max;
  job.results = call->scratch + pool_n_most(pool) * thread_floats(config);
  size_t n_most = 0;
  size_t n_rows = 0;
  for (size_t s = 0; s < call->n_slices; s++) {
    const sequence_slice *slice = &call->slices[s];
    size_t n = n_ranges(n_visible(call, slice, slice->n_rows - 1));
    job.n_blocks += blocks_of_slice(&job, slice);
    if (n > n_most) n_most = n;
    if (slice->n_rows > n_rows) n_rows = slice->n_rows;
  }
  bool is_split = n_most > 1 && n_threads > 1 && job.n_blocks < 2 * n_threads &&
                  job.n_blocks <= BLOCKS_SPLIT_MAX && n_rows * job.heads_max <= QUERIES_SPLIT_MAX;
  if (is_split) {
    attend_by_range(pool, &job, n_most);
  } else if (job.n_blocks == 1) {
    attention_share(&job, 0, 1); /* nothing to share: no other thread is woken */
  } else {
    pool_run(pool, attention_share, &job);
  }
}
