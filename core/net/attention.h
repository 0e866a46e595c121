/* Attention as a tile product over the paged cache, for every variant of the paper.
 *
 * A block of queries that share a KV head meets the cache tile by tile (a page's positions):
 *   scores = σ α Q Kᵀ + κ   [n_queries][positions]
 *   out    = out · f + exp(scores - max) V, with the running maximum of online softmax.
 * With K=V the tile is read once for both products, and with MQA once for all query heads.
 *
 * Positions are taken in ranges of ATTENTION_RANGE, each with a softmax of its own, and the
 * ranges' results are merged in order. Few queries over many positions (decode) are shared out
 * among threads by range, many queries (prefill, batches) by block; one row takes the tiles of all
 * KV heads page by page, in the order of memory; the sums are the same.
 *
 * Invariant: tiles begin at multiples of KV_PAGE_POSITIONS, ranges at multiples of
 * ATTENTION_RANGE, and a query's arithmetic depends on its own row and the positions it sees, so
 * its bits are the same in prefill, decode or batch and at any number of threads. */
#ifndef ONEKV_ATTENTION_H
#define ONEKV_ATTENTION_H

#include "core/net/kv_cache.h"
#include "core/base/pool.h"
#include "core/net/rope.h"

enum {
  ATTENTION_QUERIES = 64, /* most queries of a block; bounds a thread's scratch */
  ATTENTION_RANGE = 256   /* positions; a multiple of KV_PAGE_POSITIONS */
};

/* A run of consecutive rows of the batch that belong to one sequence. */
typedef struct sequence_slice {
  kv_cache *cache;
  size_t first_row;      /* in the batch */
  size_t n_rows;
  size_t first_position; /* of first_row in the sequence */
} sequence_slice;

typedef struct attention_call {
  const onekv_config *config;
  const kernel_table *kernels;
  const layer_kind *kind;    /* of the layer */
  const rope_tables *rope;   /* of keys that are rotated at read, else NULL */
  const sequence_slice *slices;
  size_t n_slices;
  size_t layer;              /* whose cache is read */
  float score_scale;         /* σ α */
  const float *key_bias;     /* κ [context_window] or NULL */
  const float *sinks;        /* [H] or NULL: a logit of each head that takes part in the softmax and
                                has no value (DeepSeek-V4) */
  const float *key_gain;     /* [k] or NULL: factors of keys that are made at read */
  const float *key_norm;     /* [k] or NULL: RMSNorm of keys that are made at read */
  const float *queries;      /* [n_rows][H][k] */
  float *out;                /* [n_rows][H][v] */
  float *scratch;            /* [attention_scratch_floats] */
} attention_call;

/* Floats of working memory for at most n_threads threads. */
size_t attention_scratch_floats(const onekv_config *config, size_t n_threads);

/* The keys of a tile from its cached rows [n][k]: normed and rotated by what the call has for keys
 * that are made at read, each by its place in the tile only; turning by the tile's position is left
 * to the other side of the product (rope.h). Gives rows, or keys [n][k]. */
const float *attention_make_keys(const attention_call *call, const float *rows, size_t n,
                                 float *keys);

/* Attends all rows of all slices; the rows' keys and values must be in the caches already. A row
 * at position i sees positions 0..i, of these the last `window` where its layer has one, or all
 * rows of its slice and before when not causal. */
void attention(onekv_pool *pool, const attention_call *call);

#endif
