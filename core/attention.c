/* Attention as a tile product: blocks of queries, tiles of the cache, online softmax. */
#include "attention.h"

#include <math.h>
#include <string.h>

/* Queries that share a KV head: rows [first_row, +n_rows) × heads [first_head, +n_heads). */
typedef struct query_block {
  const sequence_slice *slice;
  size_t kv_head;
  size_t first_row; /* in the slice */
  size_t n_rows;
  size_t first_head;
  size_t n_heads;
} query_block;

/* One thread's working memory. Query index = row · n_heads + head of the block. */
typedef struct tile_scratch {
  float *queries; /* [ATTENTION_QUERIES][h] */
  float *out;     /* [ATTENTION_QUERIES][h] */
  float *keys;    /* [KV_PAGE_POSITIONS][h] */
  float *values;  /* [KV_PAGE_POSITIONS][h] */
  float *scores;  /* [ATTENTION_QUERIES][KV_PAGE_POSITIONS] */
  float *maxima;  /* [ATTENTION_QUERIES] */
  float *sums;    /* [ATTENTION_QUERIES] */
  float *factors; /* [ATTENTION_QUERIES] */
  float *angles;  /* [2][h / 2]: cosines, sines */
} tile_scratch;

size_t attention_scratch_floats(const onekv_config *config) {
  size_t h = config->head_width;
  return 2 * ATTENTION_QUERIES * h + 2 * KV_PAGE_POSITIONS * h +
         ATTENTION_QUERIES * (KV_PAGE_POSITIONS + 3) + 2 * h;
}

static tile_scratch carve_scratch(float *floats, size_t h) {
  tile_scratch scratch;
  scratch.queries = floats;
  scratch.out = scratch.queries + ATTENTION_QUERIES * h;
  scratch.keys = scratch.out + ATTENTION_QUERIES * h;
  scratch.values = scratch.keys + KV_PAGE_POSITIONS * h;
  scratch.scores = scratch.values + KV_PAGE_POSITIONS * h;
  scratch.maxima = scratch.scores + ATTENTION_QUERIES * KV_PAGE_POSITIONS;
  scratch.sums = scratch.maxima + ATTENTION_QUERIES;
  scratch.factors = scratch.sums + ATTENTION_QUERIES;
  scratch.angles = scratch.factors + ATTENTION_QUERIES;
  return scratch;
}

/* Positions that a row of the slice sees: 0..n-1. */
static size_t n_visible(const attention_call *call, const sequence_slice *slice, size_t row) {
  return slice->first_position + (call->config->causal ? row + 1 : slice->n_rows);
}

/* RoPE(norm(c)), as far as the model has them, of a tile of shared rows, into scratch->keys. */
static const float *make_keys(const attention_call *call, const float *shared, size_t position,
                              size_t n, tile_scratch *scratch) {
  size_t h = call->config->head_width;
  const kernel_table *kernels = call->kernels;
  float *cosines = scratch->angles;
  float *sines = scratch->angles + call->rope->n_pairs;
  for (size_t i = 0; i < n; i++) {
    float *key = scratch->keys + i * h;
    if (call->key_norm != NULL) {
      kernels->f32_rms_norm(shared + i * h, call->key_norm, call->config->norm_epsilon, h, key);
    } else {
      memcpy(key, shared + i * h, h * sizeof *key);
    }
    if (!config_rotates_at_read(call->config)) continue;
    rope_angles(call->rope, position + i, cosines, sines);
    rope_rotate_heads(call->rope, kernels, key, 1, h, cosines, sines, false);
  }
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
  *keys = *values;
  if (config_makes_keys_at_read(config)) {
    *keys = make_keys(call, *values, page * KV_PAGE_POSITIONS, n, scratch);
  }
}

/* scores[q][p] -> softmax weights of the positions that each query sees; 0 for the others. */
static void weigh_tile(const attention_call *call, const query_block *block, size_t page,
                       size_t n, tile_scratch *scratch) {
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
        scratch->factors[q] = kernels->f32_softmax_step(scores, n_seen, &scratch->maxima[q],
                                                        &scratch->sums[q]);
      }
      for (size_t p = n_seen; p < n; p++) scores[p] = 0.0f;
    }
  }
}

static void attend_tile(const attention_call *call, const query_block *block, size_t page,
                        size_t n, tile_scratch *scratch) {
  size_t h = call->config->head_width;
  size_t n_queries = block->n_rows * block->n_heads;
  const float *keys = NULL;
  const float *values = NULL;
  read_tile(call, block, page, n, scratch, &keys, &values);
  call->kernels->f32_matmul(keys, h, n, scratch->queries, h, n_queries, h, scratch->scores,
                            KV_PAGE_POSITIONS);
  weigh_tile(call, block, page, n, scratch);
  call->kernels->f32_attend(scratch->scores, KV_PAGE_POSITIONS, n_queries, values, h, n, h,
                            scratch->factors, scratch->out, h);
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
  size_t n_queries = block->n_rows * block->n_heads;
  memset(scratch->out, 0, n_queries * h * sizeof *scratch->out);
  for (size_t q = 0; q < n_queries; q++) {
    scratch->maxima[q] = -INFINITY;
    scratch->sums[q] = 0.0f;
  }
}

static void scatter_out(const attention_call *call, const query_block *block,
                        const tile_scratch *scratch) {
  size_t h = call->config->head_width;
  size_t row_floats = call->config->n_heads * h;
  for (size_t row = 0, q = 0; row < block->n_rows; row++) {
    size_t batch_row = block->slice->first_row + block->first_row + row;
    float *out = call->out + batch_row * row_floats + block->first_head * h;
    for (size_t head = 0; head < block->n_heads; head++, q++) {
      float inverse_sum = 1.0f / scratch->sums[q];
      for (size_t c = 0; c < h; c++) {
        out[head * h + c] = scratch->out[q * h + c] * inverse_sum;
      }
    }
  }
}

static void attend_block(const attention_call *call, const query_block *block,
                         tile_scratch *scratch) {
  gather_queries(call, block, scratch);
  size_t last_row = block->first_row + block->n_rows - 1;
  size_t n_positions = n_visible(call, block->slice, last_row);
  for (size_t first = 0; first < n_positions; first += KV_PAGE_POSITIONS) {
    size_t n_left = n_positions - first;
    size_t n = n_left < KV_PAGE_POSITIONS ? n_left : KV_PAGE_POSITIONS;
    attend_tile(call, block, first / KV_PAGE_POSITIONS, n, scratch);
  }
  scatter_out(call, block, scratch);
}

/* Query heads of a block: a whole group, so that a tile serves all of them. When there are fewer
 * (row, KV head) pairs than threads (decode with MQA) the group is split, one part a thread. */
static size_t heads_of_block(const attention_call *call, size_t n_threads) {
  size_t n_pairs = 0;
  for (size_t s = 0; s < call->n_slices; s++) {
    n_pairs += call->slices[s].n_rows * call->config->n_kv_heads;
  }
  size_t group = call->config->n_heads / call->config->n_kv_heads;
  size_t n_heads = n_pairs < n_threads ? (group + n_threads - 1) / n_threads : group;
  return n_heads < ATTENTION_QUERIES ? n_heads : ATTENTION_QUERIES;
}

/* Blocks are dealt out to the threads in turn. */
static void attention_share(void *context, size_t thread_index, size_t n_threads) {
  const attention_call *call = context;
  const onekv_config *config = call->config;
  size_t group = config->n_heads / config->n_kv_heads;
  size_t n_heads_max = heads_of_block(call, n_threads);
  size_t n_rows_max = ATTENTION_QUERIES / n_heads_max;
  float *floats = call->scratch + thread_index * attention_scratch_floats(config);
  tile_scratch scratch = carve_scratch(floats, config->head_width);
  size_t block_index = 0;
  for (size_t s = 0; s < call->n_slices; s++) {
    const sequence_slice *slice = &call->slices[s];
    query_block block = {.slice = slice};
    for (size_t head = 0; head < config->n_heads; head += block.n_heads) {
      size_t n_left = group - head % group;
      block.kv_head = head / group;
      block.first_head = head;
      block.n_heads = n_left < n_heads_max ? n_left : n_heads_max;
      for (size_t row = 0; row < slice->n_rows; row += n_rows_max) {
        if (block_index++ % n_threads != thread_index) continue;
        block.first_row = row;
        block.n_rows = slice->n_rows - row < n_rows_max ? slice->n_rows - row : n_rows_max;
        attend_block(call, &block, &scratch);
      }
    }
  }
}

void attention(onekv_pool *pool, attention_call *call) {
  pool_run(pool, attention_share, call);
}
