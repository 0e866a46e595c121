/* Attention over an i8 cache in integers, where its rows are the keys as they are: queries and
 * weights become codes too.
 *
 * A query has a scale for each part of the rows, as they have: what rounding it to 8 bits costs is
 * of the size of what rounding the keys cost. Weights have 15 bits of their tile's largest, and the
 * values' scales in them. The sums are exact: whatever comes together gives the same bits. */
#include "core/net/attention_block.h"

static const kv_stream_layout *layout_of(const attention_call *call, const query_block *block) {
  return &block->slice->cache->pool->layout.layers[call->layer].streams[KV_ROW];
}

bool attention_in_codes(const attention_call *call, const query_block *block) {
  const layer_kind *kind = call->kind;
  const kv_stream_layout *rows = layout_of(call, block);
  if (rows->type != ONEKV_CACHE_I8) return false;
  if (call->key_norm != NULL || call->key_gain != NULL || call->rope != NULL) return false;
  return !kind->shares_row || (kind->value_offset == 0 && kind->value_width <= rows->first_part);
}

void attention_encode_queries(const attention_call *call, const query_block *block,
                              tile_scratch *scratch) {
  const kv_stream_layout *rows = layout_of(call, block);
  size_t first = rows->first_part;
  size_t n_rest = rows->width - first;
  for (size_t q = 0; q < n_queries_of(block); q++) {
    const float *query = scratch->queries + q * rows->width;
    int8_t *codes = scratch->query_codes + q * rows->width;
    call->kernels->i8_encode(query, first, codes, &scratch->query_scales[q]);
    if (n_rest == 0) continue;
    call->kernels->i8_encode(query + first, n_rest, codes + first,
                             &scratch->query_scales[ATTENTION_QUERIES + q]);
  }
}

/* The scales of a part of the tile's rows: in the page where rows have one part, else gathered. */
static const float *scales_of(const kv_stream_layout *rows, const int8_t *tile, size_t part,
                              size_t n, float *gathered) {
  const float *scales = (const float *)(const void *)(tile + KV_PAGE_POSITIONS * rows->width);
  if (rows->first_part == rows->width) return scales;
  for (size_t p = 0; p < n; p++) gathered[p] = scales[2 * p + part];
  return gathered;
}

void attention_attend_codes(const attention_call *call, const query_block *block, size_t page,
                            size_t n, const range_result *range, tile_scratch *scratch) {
  const kernel_table *kernels = call->kernels;
  const layer_kind *kind = call->kind;
  size_t n_queries = block->n_rows * block->n_heads;
  const kv_stream_layout *rows = NULL;
  const int8_t *tile = kv_cache_tile(block->slice->cache, call->layer, KV_ROW, block->kv_head,
                                     page, &rows);
  size_t first = rows->first_part;
  i8_rows keys = {tile, scales_of(rows, tile, 0, n, scratch->keys), n, rows->width};
  i8_rows queries = {scratch->query_codes, scratch->query_scales, n_queries, rows->width};
  kernels->i8_scores(&keys, &queries, first, false, scratch->scores, KV_PAGE_POSITIONS);
  if (first < rows->width) {
    keys.codes += first;
    keys.scales = scales_of(rows, tile, 1, n, scratch->keys);
    queries.codes += first;
    queries.scales += ATTENTION_QUERIES;
    kernels->i8_scores(&keys, &queries, rows->width - first, true, scratch->scores,
                       KV_PAGE_POSITIONS);
  }
  attention_weigh_tile(call, block, page, n, range, scratch);
  if (!kind->shares_row) {
    tile = kv_cache_tile(block->slice->cache, call->layer, KV_VALUE, block->kv_head, page, &rows);
  }
  i8_rows values = {tile, scales_of(rows, tile, 0, n, scratch->keys), n, rows->width};
  for (size_t q = 0; q < n_queries; q++) {
    kernels->i16_weights(scratch->scores + q * KV_PAGE_POSITIONS, values.scales, n,
                         scratch->weight_codes + q * KV_PAGE_POSITIONS,
                         &scratch->weight_steps[q]);
  }
  kernels->i8_attend(scratch->weight_codes, KV_PAGE_POSITIONS, n_queries, &values,
                     kind->value_width, scratch->weight_steps, scratch->factors, range->out,
                     kind->value_width);
}
