/* One thread's working memory of attention: how many floats, and what lies where in them. */
#ifndef ONEKV_ATTENTION_SCRATCH_H
#define ONEKV_ATTENTION_SCRATCH_H

#include "core/net/attention.h"

/* Softmax over some positions, not yet divided: out = sum exp(s - maximum) v. Query index =
 * row · n_heads + head of the block. */
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
  range_result range;
  range_result total;
} tile_scratch;

static inline size_t result_floats(size_t v, size_t n_queries) { return n_queries * (v + 2); }

static inline size_t widest_row(const layer_kind *kind) {
  return kind->key_width > kind->value_width ? kind->key_width : kind->value_width;
}

static inline size_t thread_floats(const layer_kind *kind) {
  return 2 * ATTENTION_QUERIES * kind->key_width +
         KV_PAGE_POSITIONS * (kind->key_width + widest_row(kind)) +
         ATTENTION_QUERIES * (KV_PAGE_POSITIONS + 1) +
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
  float *results = scratch.factors + ATTENTION_QUERIES;
  scratch.range = carve_result(results, ATTENTION_QUERIES, v);
  scratch.total =
      carve_result(results + result_floats(v, ATTENTION_QUERIES), ATTENTION_QUERIES, v);
  return scratch;
}

#endif
