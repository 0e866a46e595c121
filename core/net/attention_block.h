/* A block of queries, a thread's working memory for it, and the steps of its attention; for
 * attention.c, which has the arithmetic, attention_rows.c, which has what goes in and comes out,
 * and attention_share.c, which has the threads. */
#ifndef ONEKV_ATTENTION_BLOCK_H
#define ONEKV_ATTENTION_BLOCK_H

#include "core/net/attention.h"

/* Queries that share a KV head: rows [first_row, +n_rows) × heads [first_head, +n_heads); or those
 * of several KV heads, whose tiles lie side by side in a page, each with the next n_heads. */
typedef struct query_block {
  const sequence_slice *slice;
  size_t kv_head;
  size_t n_kv_heads;
  size_t first_row; /* in the slice */
  size_t n_rows;
  size_t first_head;
  size_t n_heads;
  size_t first_seen;  /* position that its first row sees */
  size_t n_positions; /* end of those that its last row sees */
} query_block;

/* Softmax over some positions, not yet divided: out = sum exp(s - maximum) v. Query index =
 * (KV head · n_rows + row) · n_heads + head of the block. */
typedef struct range_result {
  float *out;    /* [queries][v] */
  float *maxima; /* [queries] */
  float *sums;   /* [queries] */
} range_result;

/* One thread's working memory. */
typedef struct tile_scratch {
  float *queries; /* [ATTENTION_QUERIES][k] */
  float *turned;  /* [ATTENTION_QUERIES][k]: queries turned back by a tile's position */
  float *keys;    /* [KV_PAGE_POSITIONS][k] */
  float *values;  /* [KV_PAGE_POSITIONS][k or v]: values, or rows that are both */
  float *scores;  /* [ATTENTION_QUERIES][KV_PAGE_POSITIONS] */
  float *factors; /* [ATTENTION_QUERIES] */
  /* Of attention in codes. */
  int8_t *query_codes;   /* [ATTENTION_QUERIES][k] */
  float *query_scales;   /* [2 parts][ATTENTION_QUERIES] */
  int16_t *weight_codes; /* [ATTENTION_QUERIES][KV_PAGE_POSITIONS] */
  float *weight_steps;   /* [ATTENTION_QUERIES] */
  range_result range;
  range_result total;
} tile_scratch;

static inline size_t n_queries_of(const query_block *block) {
  return block->n_kv_heads * block->n_rows * block->n_heads;
}

static inline size_t result_floats(size_t v, size_t n_queries) { return n_queries * (v + 2); }

static inline size_t widest_row(const layer_kind *kind) {
  return kind->key_width > kind->value_width ? kind->key_width : kind->value_width;
}

static inline size_t thread_floats(const layer_kind *kind) {
  return 2 * ATTENTION_QUERIES * kind->key_width +
         KV_PAGE_POSITIONS * (kind->key_width + widest_row(kind)) +
         ATTENTION_QUERIES * (KV_PAGE_POSITIONS + 1) +
         ATTENTION_QUERIES * 3 +
         ATTENTION_QUERIES * (KV_PAGE_POSITIONS * sizeof(int16_t) + kind->key_width) / 4 +
         2 * result_floats(kind->value_width, ATTENTION_QUERIES);
}

static inline range_result carve_result(float *floats, size_t n_queries, size_t v) {
  return (range_result){floats, floats + n_queries * v, floats + n_queries * (v + 1)};
}

static inline tile_scratch carve_scratch(const attention_call *call, size_t thread_index) {
  const layer_kind *kind = call->kind;
  size_t k = kind->key_width;
  size_t v = kind->value_width;
  tile_scratch scratch;
  scratch.queries = call->scratch + thread_index * thread_floats(kind);
  scratch.turned = scratch.queries + ATTENTION_QUERIES * k;
  scratch.keys = scratch.turned + ATTENTION_QUERIES * k;
  scratch.values = scratch.keys + KV_PAGE_POSITIONS * k;
  scratch.scores = scratch.values + KV_PAGE_POSITIONS * widest_row(kind);
  scratch.factors = scratch.scores + ATTENTION_QUERIES * KV_PAGE_POSITIONS;
  scratch.query_scales = scratch.factors + ATTENTION_QUERIES;
  scratch.weight_steps = scratch.query_scales + 2 * ATTENTION_QUERIES;
  float *codes = scratch.weight_steps + ATTENTION_QUERIES;
  scratch.weight_codes = (int16_t *)(void *)codes;
  codes += ATTENTION_QUERIES * KV_PAGE_POSITIONS * sizeof(int16_t) / sizeof *codes;
  scratch.query_codes = (int8_t *)codes;
  float *results = codes + ATTENTION_QUERIES * k / sizeof *codes;
  scratch.range = carve_result(results, ATTENTION_QUERIES, v);
  scratch.total =
      carve_result(results + result_floats(v, ATTENTION_QUERIES), ATTENTION_QUERIES, v);
  return scratch;
}

/* End of the positions that a row of the slice sees. */
static inline size_t n_visible(const attention_call *call, const sequence_slice *slice,
                               size_t row) {
  return slice->first_position + (call->config->causal ? row + 1 : slice->n_rows);
}

/* First position that a row of the slice sees. */
static inline size_t first_visible(const attention_call *call, const sequence_slice *slice,
                                   size_t row) {
  size_t window = call->kind->window;
  size_t end = slice->first_position + row + 1;
  return window == 0 || end <= window ? 0 : end - window;
}

static inline size_t n_ranges(size_t n_positions) {
  return (n_positions + ATTENTION_RANGE - 1) / ATTENTION_RANGE;
}

/* The block's queries times σ α, gathered so that they lie one behind the other. */
void attention_gather(const attention_call *call, const query_block *block,
                      tile_scratch *scratch);

/* The result that ranges are merged into: of no positions, but for the heads' sinks. */
void attention_begin(const attention_call *call, const query_block *block,
                     const range_result *total);

/* Attends the part of a range that the block sees, from a cleared result. */
void attention_attend_range(const attention_call *call, const query_block *block, size_t index,
                            const range_result *range, tile_scratch *scratch);

/* scores[q][p] of a tile -> softmax weights of the positions that each query sees; 0 for the
 * others. */
void attention_weigh_tile(const attention_call *call, const query_block *block, size_t page,
                          size_t n, const range_result *range, tile_scratch *scratch);

/* attention_codes.c: whether the call's products are those of a cache's codes; the block's queries
 * as codes, when they are gathered; and a tile. */
bool attention_in_codes(const attention_call *call, const query_block *block);
void attention_encode_queries(const attention_call *call, const query_block *block,
                              tile_scratch *scratch);
void attention_attend_codes(const attention_call *call, const query_block *block, size_t page,
                            size_t n, const range_result *range, tile_scratch *scratch);

/* total += range, both brought to the larger maximum. A query that sees nothing of the range, or
 * only masked positions, stays as it is. */
void attention_merge(size_t n_queries, size_t v, const range_result *range,
                     const range_result *total);

/* call->out of the block = total, divided by its sums. */
void attention_scatter(const attention_call *call, const query_block *block,
                       const range_result *total);

/* All of it, range by range. */
void attention_attend_block(const attention_call *call, const query_block *block,
                            tile_scratch *scratch);

#endif
